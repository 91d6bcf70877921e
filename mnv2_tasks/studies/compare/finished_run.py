"""A run folder as a comparison sees it: its configuration, and each task's score with what every image came to."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from omegaconf import DictConfig

from mnv2_tasks.build import task_kinds
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.metrics.names import prefix_of
from mnv2_tasks.metrics.outcomes import Outcomes, load_outcomes
from mnv2_tasks.network.devices import FLOAT32
from mnv2_tasks.stored import run_files
from mnv2_tasks.stored.checked_config import check_places

TOLERANCE = 1e-6  # between metrics.json and per_image.npz of one validation


@dataclass(frozen=True)
class TaskScore:
    """One task of one run."""

    run: str  # its name
    task: str
    kind: str
    fingerprint: str  # of its data
    class_names: list[str]
    score: float
    class_scores: dict[str, float]
    outcomes: Outcomes | None  # None: nobody kept them

    @property
    def subject(self) -> tuple[str, str]:
        """Equal for scores that can be compared."""
        return self.kind, self.fingerprint


@dataclass(frozen=True)
class FinishedRun:
    folder: Path
    name: str
    config: DictConfig
    tasks: dict[str, TaskScore]
    notes: list[str]  # what a reader of its numbers should know

    @property
    def seed(self) -> int:
        return self.config.get("seed", 0)

    @property
    def subjects(self) -> set[tuple[str, str]]:
        return {score.subject for score in self.tasks.values()}


def names_of(folders: Sequence[Path]) -> list[str]:
    """Each folder's path below the deepest folder that holds them all."""
    paths = [folder.resolve() for folder in folders]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def read_config(folder: Path, *, trust: bool = False) -> DictConfig:
    """
    Args:
        trust: the run is the user's own: it may name any class.

    Raises:
        DataError: it is not a run, or its configuration is damaged or names what it cannot.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise DataError("is not a run folder: it has no config.yaml")
    with _unreadable_as_data_error(path):
        config = run_files.read_config(path, trust=trust)
        check_places(config, str(path))
        return DictConfig(config | {"trust": trust})  # of the call, whatever the file says


def read_run(folder: Path, name: str, config: DictConfig) -> FinishedRun:
    """
    Raises:
        DataError: why it cannot take part, to be stated in the report; without the folder's name.
    """
    described = _read(run_files.read_description, folder / "run.json")
    metrics = _read(run_files.read_scores, folder / "metrics.json")
    if metrics is None:
        raise DataError(
            f"has no metrics: interrupted? Go on with: python tools/train.py resume={folder}"
            if (folder / "checkpoints" / "last.ckpt").is_file()
            else "has no metrics: interrupted?"
        )
    if described is None:
        raise DataError("has no run.json, so that its data cannot be told")
    for key in ("data_fingerprint", "class_names"):
        if set(described.get(key, ())) != set(config.tasks):
            raise DataError(f"run.json: {key}: expected one for each of {', '.join(config.tasks)}")
    metrics, outcomes, notes = _validation(folder, metrics)

    if (precision := metrics.get("precision", FLOAT32)) != FLOAT32:
        notes.append(f"its scores are those of {precision}")
    kinds, tasks = task_kinds(config), {}
    for task, kind in kinds.items():
        prefix, score_key = prefix_of(task, kinds), KINDS[kind].SCORE
        score, class_scores = (metrics.get(prefix + key) for key in (score_key, KINDS[kind].CLASS_SCORES))
        if not isinstance(score, int | float):
            notes.append(f"{task}: {score_key} is missing; not averaged in")
            continue
        recomputed = _score(outcomes[task]) if task in outcomes else score
        if not abs(recomputed - score) <= TOLERANCE:
            notes.append(
                f"{task}: per_image.npz gives {recomputed:.4f} and metrics.json {score:.4f}; they are of different "
                f"validations, so it has no interval. Make both anew: python tools/eval.py run={folder}"
            )
            del outcomes[task]
        own = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
        if remark := KINDS[kind].remark(own):
            notes.append(f"{task}: {remark}")
        tasks[task] = TaskScore(
            run=name,
            task=task,
            kind=kind,
            fingerprint=described["data_fingerprint"][task],
            class_names=described["class_names"][task],
            score=float(score),
            class_scores=class_scores if isinstance(class_scores, dict) else {},
            outcomes=outcomes.get(task),
        )
    if not tasks:
        raise DataError("; ".join(notes) or "has no tasks")
    return FinishedRun(folder=folder, name=name, config=config, tasks=tasks, notes=notes)


def _validation(folder: Path, metrics: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Outcomes], list[str]]:
    """The run's last validation that kept what every image came to: metrics, outcomes of each task, and notes."""
    own, evaluated = folder / "per_image.npz", folder / "eval"
    broken = None
    if own.is_file():
        try:
            return metrics, _read_outcomes(own), []
        except DataError as error:  # which does not win over a good one
            broken = error
    if (evaluated / "per_image.npz").is_file() and (
        evaluated_metrics := _read(run_files.read_scores, evaluated / "metrics.json")
    ):
        note = f"its numbers are those of its eval folder: {broken or 'training left no per_image.npz'}"
        return evaluated_metrics, _read_outcomes(evaluated / "per_image.npz"), [note]
    if broken:
        raise DataError(f"{broken}; make it anew: python tools/train.py resume={folder}")
    return metrics, {}, [f"has no per_image.npz, so no intervals; make it with: python tools/eval.py run={folder}"]


def _score(outcomes: Outcomes) -> float:
    return outcomes.score(np.ones(len(outcomes.image_ids), int))


def _read(reader: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any] | None:
    """None if there is no such file."""
    if not path.is_file():
        return None
    with _unreadable_as_data_error(path):
        return reader(path)


def _read_outcomes(path: Path) -> dict[str, Outcomes]:
    with _unreadable_as_data_error(path):
        return load_outcomes(path)


@contextmanager
def _unreadable_as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise DataError(str(error)) from None
    except (ValueError, OSError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{path.name} cannot be read ({error})") from None
