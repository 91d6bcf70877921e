"""Going on with a run, and repeating one: where it stands, what must be as it was, and what is said where it is not."""

import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs.run_results import FORMER, faults
from mnv2_tasks.stored.run_files import read_description
from mnv2_tasks.weights.weight_files import Imported, read_passport

log = logging.getLogger(__name__)

FRESH = (0, 0)
STATES = ("state_dict", "callbacks", "optimizer_states", "lr_schedulers", "averaging_state")  # of a checkpoint
NEEDED = ("config", "class_names", "data_fingerprint", "started_from", "initial_weights", "versions")


class ResumePoint(NamedTuple):
    """How far a run has come."""

    checkpoint: Path | None = None  # what to go on from; None: a new run
    done: tuple[int, int] = FRESH  # epoch, and the number of its batches that the checkpoint has been trained on
    started_from: str = ""  # what was said of its initial weights
    over: bool = False  # nothing is left to train: all its epochs are done, or it was stopped early


def resume_point(config: DictConfig) -> ResumePoint:
    """Where the run of `config.resume` stands.

    Raises:
        ConfigError: it has no checkpoint, a damaged one, or nothing is left to do.
    """
    if not config.resume:
        return ResumePoint()
    run = Path(config.resume)
    path = run / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise ConfigError(f"resume={run}: has no {path.relative_to(run)}; nothing was saved yet")
    passport = read_passport(path, trust=config.trust)  # refuses a damaged or malicious file
    if isinstance(passport, Imported):
        raise ConfigError(f"resume={run}: tools/train.py did not write its {path.relative_to(run)}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    try:
        started_from = passport["training"]["started_from"]
        epoch, progress = content["epoch"], content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = (epoch + 1, 0) if progress["is_last_batch"] else (epoch, int(progress["current"]["processed"]))
    except (LookupError, TypeError, ValueError):
        raise ConfigError(f"resume={run}: {path.relative_to(run)} does not say how far it has come") from None
    for key in STATES if config.ema else STATES[:-1]:  # Lightning starts anew, in silence, what it does not find
        if not content.get(key):
            raise ConfigError(
                f"resume={run}: {path.relative_to(run)} has no {key}; start a new run with weights={path}"
            )
    if done[0] > config.epochs or (done[0] == config.epochs and done[1]):
        raise ConfigError(f"epochs={config.epochs}: the run is in its epoch {done[0] + bool(done[1])} already")
    early = done[0] < config.epochs and not done[1] and _waited(content) >= _patience(config)
    over = early or done[0] == config.epochs
    result = described(run).get("result", {})
    if over and done[0] == result.get("epochs"):  # else it is still to be evaluated
        lacking = faults(run, result.get("files", FORMER))
        if not lacking and early:
            raise ConfigError(
                f"resume={run}: it was stopped early, after {done[0]} of {config.epochs} epochs; "
                f"say trainer.patience=<more>, or null, to train on"
            )
        if not lacking:
            raise ConfigError(f"resume={run}: its {done[0]} epochs are done; say epochs=<more> to train on")
        for name, what in lacking.items():
            log.warning("%s: %s; the results are made anew", run / name, what)
    return ResumePoint(path, done, started_from, over)


def _waited(checkpoint: dict[str, Any]) -> int:
    """Validations since the best one; 0 in checkpoints of former versions."""
    state = checkpoint["callbacks"].get("EarlyStopping")
    count = state.get("wait_count") if isinstance(state, dict) else 0
    return count if isinstance(count, int) else 0


def _patience(config: DictConfig) -> float:
    """Validations without a better score that end a run."""
    settings = config.trainer
    return math.inf if settings.patience is None else settings.patience / settings.validate_every


def described(run: Path) -> dict[str, Any]:
    """The run.json of a run, given as its folder or as that file, with all that going on with it takes."""
    description = read_description(run)
    if missing := [key for key in NEEDED if key not in description]:
        raise ConfigError(f"{run}: its run.json has no {missing[0]}")
    return description


def earlier_run(config: DictConfig) -> Path | None:
    """The run that is gone on with or repeated."""
    given = config.resume or config.repeat
    return Path(given) if given else None


def check_data(run: Path, fingerprints: dict[str, str], classes: dict[str, list[str]]) -> None:
    """Raise ConfigError unless the data are those that the run was trained on."""
    before = described(run)
    for task, fingerprint in fingerprints.items():
        if before["class_names"].get(task) != classes[task]:
            raise ConfigError(
                f"{run}: was trained on the classes {before['class_names'].get(task)}, the data of {task} "
                f"have {classes[task]} now. Restore them, or start a new run"
            )
        if before["data_fingerprint"].get(task) != fingerprint:
            raise ConfigError(
                f"{run}: the data of {task} are not those that it was trained on (their annotations, or the names or "
                f"sizes of their files, have changed). Restore them, say where they are with data.root=<folder>, or "
                f"start a new run, for example with weights={_weights(run)}"
            )


def _weights(run: Path) -> Path:
    return (run if run.is_dir() else run.parent) / "checkpoints" / "last.ckpt"


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of code, versions, machine and start differs between two run.json, one line each."""
    lines = []
    for key in ("git_commit", "precision", "started_from", "initial_weights"):
        if before.get(key) != now.get(key):
            lines.append(f"{key}: {before.get(key)} then, {now.get(key)} now")
    for group in ("versions", "hardware"):
        then, today = before.get(group, {}), now[group]
        for name in dict.fromkeys([*then, *today]):
            if then.get(name) != today.get(name):
                lines.append(f"{name}: {then.get(name)} then, {today.get(name)} now")
    return lines


def check_start(run: Path, now: dict[str, Any]) -> None:
    """Raise ConfigError where a repeated run would not start from the weights that the first one did.

    Another version of a library, which may draw other initial weights, is only told.
    """
    before = described(run)
    if before["started_from"] != now["started_from"] or (
        before["initial_weights"] != now["initial_weights"] and before["versions"] == now["versions"]
    ):
        raise ConfigError(
            f"repeat={run}: it started from other weights. Then: {before['started_from']}. Now: {now['started_from']}. "
            f"Put the file back where it was ({before['config']['weights']})"
        )


def tell_differences(run: Path, now: dict[str, Any]) -> list[str]:
    """Say what is not as it was when the run was made: the result need not be the same to the bit."""
    before = described(run)
    found = differences(before, now)
    for line in found:
        log.info("differs from %s: %s", run, line)
    return found


def tell_history(run: Path) -> None:
    for part in described(run).get("resumed", []):
        if part["epochs"] != part["epochs_before"]:
            log.info(
                "%s was planned for %d epochs and trained on to %d; repeated, its schedule spans all %d from the start",
                run, part["epochs_before"], part["epochs"], part["epochs"],
            )  # fmt: skip
        if part["differences"]:
            log.info("%s was resumed where this differed: %s", run, "; ".join(part["differences"]))


def tell_result(run: Path, digest: str) -> None:
    """Whether a repeated run ended where the first did."""
    result = described(run).get("result")
    if result is None:
        log.info("%s was never finished: there is nothing to compare the weights with", run)
    elif result["weights_sha256"] == digest:
        log.info("equal: every weight is that of %s, bit for bit", run)
    else:
        log.warning("not equal: the weights differ from those of %s", run)


def run_json(config: DictConfig, description: dict[str, Any], epoch: int) -> dict[str, Any]:
    """What run.json says now; what differs from the run that is gone on with, or repeated, is logged as well.

    Args:
        epoch: that a resumed run is in.
    """
    if config.repeat:
        tell_history(Path(config.repeat))
        tell_differences(Path(config.repeat), description)
        return description | {"repeats": str(config.repeat)}
    if not config.resume:
        return description
    before = described(Path(config.resume))
    found = tell_differences(Path(config.resume), description | {"initial_weights": before.get("initial_weights")})
    part = {"epoch": epoch, "epochs_before": before["config"]["epochs"], "epochs": config.epochs, "differences": found}
    before.pop("result", None)  # until it is there again
    return before | {"config": description["config"], "resumed": [*before.get("resumed", []), part]}
