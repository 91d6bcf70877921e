"""Rare classes: they weigh more in the loss, or their images are read more often."""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig
from scipy.sparse import csr_array

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.losses.weighted import Weighted
from mnv2_tasks.network.network import Network
from mnv2_tasks.wording import first_few, nearest

BALANCED = "balanced"


def check_rare_classes(config: DictConfig) -> None:
    """Refuse what neither key can mean, before data are read.

    Raises:
        ConfigError: a task that there is not, another word, a weight or a threshold out of its range.
    """
    for key in ("class_weights", "repeat_threshold"):
        for task, wanted in config[key].items():
            if wanted and task not in config.tasks:
                raise ConfigError(f"{key}.{task}: this run has no such task. {nearest(task, config.tasks)}")
    for task, wanted in config.class_weights.items():
        if not (wanted in (None, BALANCED) or isinstance(wanted, DictConfig)):
            raise ConfigError(f"class_weights.{task}={wanted}: expected {BALANCED}, null or {{class: weight, ...}}")
        for name, weight in wanted.items() if isinstance(wanted, DictConfig) else ():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise ConfigError(f"class_weights.{task}.{name}={weight}: expected a number, at least 0")
    for task, threshold in config.repeat_threshold.items():
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise ConfigError(f"repeat_threshold.{task}={threshold}: expected a share of the images in [0, 1]")


def count_classes(config: DictConfig, sources: Mapping[str, DataSource]) -> dict[str, csr_array]:
    """{task: (n, K) of its training split, see `DataSource.class_counts`}, of the tasks whose settings need it."""
    wanted = {task for task, weights in config.class_weights.items() if weights == BALANCED}
    wanted |= {task for task, threshold in config.repeat_threshold.items() if threshold}
    return {task: source.class_counts("train") for task, source in sources.items() if task in wanted}


def weigh_classes(config: DictConfig, network: Network, counts: Mapping[str, csr_array]) -> None:
    """Give the tasks' losses the weights that `class_weights` asks for.

    Args:
        counts: see `count_classes`.

    Raises:
        ConfigError: a class that there is not, or a loss that takes no weights.
    """
    for task, wanted in config.class_weights.items():
        if wanted is None:
            continue
        of_task: Any = network.tasks[task]
        names, criterion = of_task.class_names, of_task.criterion
        if not isinstance(criterion, Weighted):
            raise ConfigError(f"class_weights.{task}: its loss, {type(criterion).__name__}, takes no class weights")
        for name in wanted if wanted != BALANCED else ():
            if name not in names:
                raise ConfigError(f"class_weights.{task}.{name}: there is no such class. {nearest(str(name), names)}")
        values = balanced(counts[task]) if wanted == BALANCED else [wanted.get(name, 1.0) for name in names]
        criterion.class_weights = torch.tensor(values, dtype=torch.float32)


def balanced(counts: csr_array) -> np.ndarray:
    """(K,) weights by which every class that occurs counts as much in all, with a mean of 1 over what was counted."""
    of_class = counts.sum(axis=0)
    held = of_class > 0
    return np.where(held, of_class.sum() / (held.sum() * np.maximum(of_class, 1)), 1.0)


def repeat_factors(config: DictConfig, counts: Mapping[str, csr_array]) -> dict[str, np.ndarray]:
    """{task: (n,) how often a pass reads each training image}, of the tasks with a `repeat_threshold`."""
    return {task: factors(counts[task], t) for task, t in config.repeat_threshold.items() if t and task in counts}


def factors(counts: csr_array, threshold: float) -> np.ndarray:
    """(n,) float64, at least 1: sqrt(threshold / share) of the rarest class that an image has (LVIS, section 4.2).

    Args:
        threshold: share of the images; classes that more images have are not repeated.
    """
    images, classes = cast(tuple[int, int], counts.shape)
    shares = np.bincount(counts.indices, minlength=classes) / images
    of_class = np.sqrt(threshold / np.maximum(shares, 1e-12))
    repeats = np.ones(images)
    np.maximum.at(repeats, np.repeat(np.arange(images), np.diff(counts.indptr)), of_class[counts.indices])
    return repeats


def told_rare_classes(network: Network, repeats: Mapping[str, np.ndarray]) -> list[str]:
    """A line of each task whose rare classes are treated so, for people."""
    lines = []
    tasks: Mapping[str, Any] = network.tasks
    for name, task in tasks.items():
        weights = getattr(task.criterion, "class_weights", None)
        if weights is not None:
            heaviest = sorted(zip(weights.tolist(), task.class_names), reverse=True)
            lines.append(f"{name}: classes weigh {first_few(f'{kind} {weight:.3g}' for weight, kind in heaviest)}")
    for name, times in repeats.items():
        lines.append(
            f"{name}: {np.count_nonzero(times > 1):,} of {len(times):,} training images are read more than once in an "
            f"epoch, up to {times.max():.1f} times; it has {times.sum():,.0f} samples"
        )
    return lines
