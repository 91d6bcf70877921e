"""A run folder as a comparison sees it: its configuration, and each task's score with what every image came to."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import yaml
from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.build import task_kinds
from mnv2_tasks.errors import DataError
from mnv2_tasks.metrics.outcomes import Outcomes, load_outcomes

PRIMARY = {"classification": "top1", "detection": "AP", "segmentation": "mIoU"}
CLASSES = {"classification": "top1_per_class", "detection": "AP_per_class", "segmentation": "IoU"}
TOLERANCE = 1e-6  # between metrics.json and per_image.npz of one validation


@dataclass(frozen=True)
class Scored:
    """One task of one run."""

    task: str
    kind: str
    fingerprint: str  # of its data
    class_names: list[str]
    score: float  # PRIMARY of its kind
    numbers: dict[str, Any]  # of metrics.json, without the task's name
    outcomes: Outcomes | None  # None: nobody kept them


@dataclass(frozen=True)
class Run:
    folder: Path
    name: str
    config: DictConfig
    tasks: dict[str, Scored]
    notes: list[str] = field(default_factory=list)  # what a reader of its numbers should know

    @property
    def seed(self) -> int:
        return self.config.get("seed", 0)


def names_of(folders: Sequence[Path]) -> list[str]:
    """Each folder's path below the deepest folder that holds them all."""
    paths = [folder.resolve() for folder in folders]
    parents = set.intersection(*({*path.parents} for path in paths))
    common = max(parents, key=lambda path: len(path.parts))
    return [path.relative_to(common).as_posix() for path in paths]


def read_config(folder: Path) -> DictConfig:
    path = folder / "config.yaml"
    if not path.is_file():
        raise DataError("is not a run folder: it has no config.yaml")
    try:
        config = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"config.yaml cannot be read ({error})") from None
    if not isinstance(config, DictConfig) or not {"tasks", "choices"} <= set(config):
        raise DataError("config.yaml is not that of a run")
    return config


def read_run(folder: Path, name: str) -> Run:
    """
    Raises:
        DataError: why it cannot take part, to be stated in the report; without the folder's name.
    """
    config = read_config(folder)
    described, metrics = _read_json(folder / "run.json"), _read_json(folder / "metrics.json")
    if metrics is None:
        raise DataError(
            f"has no metrics: interrupted? Go on with: python tools/train.py resume={folder}"
            if (folder / "checkpoints" / "last.ckpt").is_file()
            else "has no metrics: interrupted?"
        )
    if described is None:
        raise DataError("has no run.json, so that its data cannot be told")
    outcomes, notes, seen = {}, [], metrics
    if (folder / "per_image.npz").is_file():
        outcomes = _read_outcomes(folder / "per_image.npz")
    elif (folder / "eval" / "per_image.npz").is_file() and (evaluated := _read_json(folder / "eval" / "metrics.json")):
        outcomes, seen = _read_outcomes(folder / "eval" / "per_image.npz"), evaluated
        notes.append("its numbers are those of its eval folder: training left no per_image.npz")
    else:
        notes.append(f"has no per_image.npz, so no intervals; make it with: python tools/eval.py run={folder}")

    kinds, tasks = task_kinds(config), {}
    for task, kind in kinds.items():
        prefix = f"{task}/" if len(kinds) > 1 else ""
        score = seen.get(prefix + PRIMARY[kind], math.nan)
        if score is None or not math.isfinite(score):
            notes.append(f"{task}: {PRIMARY[kind]} is {'missing' if score is None else 'NaN'}; not averaged in")
            continue
        own = outcomes.get(task)
        if own is not None:
            found = own.score(_once(own))
            if not abs(found - score) <= TOLERANCE:
                notes.append(
                    f"{task}: per_image.npz gives {found:.4f} and metrics.json {score:.4f}; they are of different "
                    f"validations, so it has no interval. Make both anew: python tools/eval.py run={folder}"
                )
                own = None
        numbers = {key.removeprefix(prefix): value for key, value in seen.items() if key.startswith(prefix)}
        tasks[task] = Scored(
            task=task,
            kind=kind,
            fingerprint=described["data_fingerprint"][task],
            class_names=described["class_names"][task],
            score=float(score),
            numbers=numbers,
            outcomes=own,
        )
    if not tasks:
        raise DataError("; ".join(notes) or "has no tasks")
    return Run(folder=folder, name=name, config=config, tasks=tasks, notes=notes)


def _once(outcomes: Outcomes) -> Any:
    return outcomes.image_ids * 0 + 1


def _read_json(path: Path) -> dict[str, Any] | None:
    """None if there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name} cannot be read ({error})") from None


def _read_outcomes(path: Path) -> dict[str, Outcomes]:
    try:
        return load_outcomes(path)
    except (ValueError, OSError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{path.name} cannot be read ({error})") from None
