"""One run of a study on the disk: what it is, how far it is, and what comes next."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_json, read_yaml
from mnv2_tasks.runs.lock import written_alone
from mnv2_tasks.runs.run_folder import next_folder
from mnv2_tasks.stored.checked_config import dotted
from mnv2_tasks.studies.study.plan import PlannedRun
from mnv2_tasks.whole_files import write_json

HARMLESS = (  # may differ without changing what a run is
    "workers", "debug", "trust", "runs", "resume", "repeat", "run", "out",
    "trainer.save_every", "trainer.save_every_steps",
)  # fmt: skip
FROM_DATA = ("batch", "input.white")  # of which a run may take another value, as its data need it
RECORD = "study.json"  # what was asked for, seconds, attempts and the reason of a failure
LOG = "study.log"  # what the run's processes printed


class Step(NamedTuple):
    kind: str  # train, resume, or the name of an evaluation
    command: list[str]  # a verb of mnv2, and its arguments
    makes: Path  # there once the step is done


def next_step(run: PlannedRun, folder: Path) -> Step | None:
    """What is missing of a run, or None. A resume that failed is not tried again: training starts anew."""
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        record = read_record(folder)
        failed_before = bool(record.get("failed")) and record.get("last") == "resume"
        if (folder / "checkpoints" / "last.ckpt").is_file() and not failed_before:
            changes = [o for o in run.overrides if o.partition("=")[0] in HARMLESS]
            return Step("resume", ["train", f"resume={folder}", *changes], metrics)
        return Step("train", ["train", *run.overrides], metrics)
    for name, overrides in run.evaluations.items():
        if not (folder / name / "metrics.json").is_file():
            trust = ["trust=true"] if run.config.trust else []
            command = ["eval", f"run={folder}", f"out={folder / name}", *trust, *overrides]
            return Step(name, command, folder / name / "metrics.json")
    return None


def prepare(step: Step, run: PlannedRun, folder: Path) -> None:
    """Make the folder and note what is about to run in it; checkpoints that could not be resumed are put aside.

    Raises:
        ConfigError: another process writes into the folder, where all is left as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = flat_settings(OmegaConf.to_container(run.config))
    asked = {key: asked[key] for key in FROM_DATA if key in asked}
    with written_alone(folder):
        if step.kind == "train" and (folder / "checkpoints").is_dir():
            _moved(folder / "checkpoints", folder, "failed_checkpoints")
        write_record(folder, overrides=list(run.overrides), asked=asked, last=step.kind)


def epochs_done(folder: Path) -> int:
    return max((epoch for epoch, _ in _epochs(folder)), default=0)


def validation_scores(folder: Path) -> dict[int, float]:
    """{epochs that were done: val/score then, which may be NaN} of each validation so far."""
    return {epoch: float(score) for epoch, score in _epochs(folder) if score}


def _epochs(folder: Path) -> list[tuple[int, str]]:
    """(number of an epoch that is done, from 1; its val/score as it stands there) of a run so far."""
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return [(int(row["epoch"]) + 1, row.get("val/score") or "") for row in csv.DictReader(file)]
    except (OSError, csv.Error, KeyError, TypeError, ValueError):  # not there yet, or just being written
        return []


def read_record(folder: Path) -> dict[str, Any]:
    """What is noted of a run; {} where there is nothing, or it cannot be read."""
    try:
        record = read_json(folder / RECORD)
    except ConfigError:
        return {}
    return record if isinstance(record, dict) else {}


def write_record(folder: Path, **changes: Any) -> None:
    write_json(folder / RECORD, read_record(folder) | changes)


def changed_settings(run: PlannedRun, folder: Path) -> list[str]:
    """How what was trained in the folder differs from what the study asks for, in words; [] if it does not.

    The overrides are compared, and the values they were composed to: a recipe may have changed in between.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return []  # nothing that could be reused
    old, new = flat_settings(read_yaml(path)), flat_settings(OmegaConf.to_container(run.config))
    asked = read_record(folder).get("asked")
    if isinstance(asked, dict):
        old |= {key: asked[key] for key in FROM_DATA if key in asked}
    changed = [f"{key}: {old[key]} -> {new[key]}" for key in new if key in old and old[key] != new[key]]
    before = read_record(folder).get("overrides")
    if before is not None and not changed:
        was, now = (
            {o for o in overrides if o.partition("=")[0] not in HARMLESS} for overrides in (before, run.overrides)
        )
        changed = [f"without {o}" for o in sorted(was - now)] + [f"with {o}" for o in sorted(now - was)]
    return changed


def flat_settings(config: Any) -> dict[str, Any]:
    """{key with its dots: value} of all that makes a run what it is."""
    return {key: value for key, value in dotted(config).items() if key not in HARMLESS}


def set_aside(folder: Path) -> Path:
    """Move a run that is to be trained anew out of the way."""
    return _moved(folder, folder.parent / "superseded", folder.name)


def _moved(folder: Path, parent: Path, stem: str) -> Path:
    target = next_folder(parent, stem)
    target.rmdir()  # Windows moves nothing onto a folder, not even an empty one
    return folder.rename(target)
