"""Which boxes are kept: the score that each class needs, out of min_score=, classes= and thresholds=."""

import os
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mnv2_tasks.contracts import Task
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.plain_data import read_json, read_yaml
from mnv2_tasks.wording import brief, did_you_mean, first_few, nearest

Thresholds: TypeAlias = str | os.PathLike[str] | Mapping[str, Mapping[str, float]]
SHOWN = 10  # faults of a file


def least_scores(
    tasks: Mapping[str, Task],
    *,
    min_score: float,
    classes: Iterable[str] | str | None = None,
    thresholds: Thresholds | None = None,
) -> dict[str, np.ndarray]:
    """{task: (K,) float32, the least score of each class's boxes; infinite where none is kept}.

    Tasks that find no boxes have them too, and pay no heed.

    Args:
        tasks: of a Task at least `kind` and `class_names`.
        min_score: of classes that `thresholds` does not name.
        classes: names of those that are kept; None: all.
        thresholds: {task: {class: score}}, or the path of a JSON or YAML file of it, such as tools/eval.py writes.

    Raises:
        ConfigError: a score is out of range, or there is no such task or class.
    """
    if not 0 <= min_score <= 1:
        raise ConfigError(f"min_score={min_score}: expected a number in [0, 1]")
    boxed = {task: list(of.class_names) for task, of in tasks.items() if "boxes" in KINDS[of.kind].FIELDS}
    of_classes = {} if thresholds is None else _checked(thresholds, boxed)
    wanted = None if classes is None else _known(classes, boxed)
    least: dict[str, np.ndarray] = {}
    for task, of in tasks.items():
        own = of_classes.get(task, {})
        needed = [
            own.get(name, min_score) if wanted is None or name in wanted or task not in boxed else np.inf
            for name in of.class_names
        ]
        least[task] = np.array(needed, np.float32)
    return least


def _known(classes: Iterable[str] | str, boxed: Mapping[str, list[str]]) -> list[str]:
    one = isinstance(classes, str) or not isinstance(classes, Iterable)
    names = [str(name) for name in ([classes] if one else classes)]
    known = [name for of_task in boxed.values() for name in of_task]
    if not known:
        raise ConfigError("classes=: chooses among boxes, and no task of these weights finds boxes")
    if not names:
        raise ConfigError(f"classes=[]: names none; say classes=[{known[0]}], or leave it out for all")
    for name in names:
        if name not in known:
            raise ConfigError(f"classes={brief(name)}: no class that these weights find. {nearest(name, known)}")
    return names


def _checked(thresholds: Thresholds, boxed: Mapping[str, list[str]]) -> Mapping[str, Mapping[str, float]]:
    if isinstance(thresholds, Mapping):
        name, content = "thresholds", thresholds
    else:
        path = Path(thresholds).expanduser()
        name, content = str(path), read_json(path) if path.suffix.lower() == ".json" else read_yaml(path)
    if not boxed:
        raise ConfigError(f"{name}: has thresholds of boxes, and no task of these weights finds boxes")
    faults = [f"{name}: {fault}" for fault in _faults(content, boxed)]
    if faults:
        more = [f"... {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise ConfigError("\n".join(faults[:SHOWN] + more))
    return content


def _faults(content: Any, boxed: Mapping[str, list[str]]) -> Iterator[str]:
    if not isinstance(content, Mapping):
        yield f"expected {{task: {{class: score}}}}, not {brief(content)}"
        return
    for task, of_task in content.items():
        if task not in boxed:
            yield f"{brief(task)}: no task of these weights that finds boxes. {nearest(str(task), boxed)}"
        elif not isinstance(of_task, Mapping):
            yield f"{task}: expected {{class: score}}, not {brief(of_task)}"
        else:
            yield from (f"{task}: {fault}" for fault in _faults_of_task(of_task, boxed[task]))


def _faults_of_task(scores: Mapping[Any, Any], known: list[str]) -> Iterator[str]:
    for name, score in scores.items():
        if name not in known:
            yield (
                f"{brief(name)}: no class that these weights find. {did_you_mean(str(name), known)}"
                f"There are: {first_few(known)}"
            )
        elif isinstance(score, bool) or not isinstance(score, Real) or not 0 <= float(score) <= 1:
            yield f"{name}: {brief(score)}, expected a number in [0, 1]"
