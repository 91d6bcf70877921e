"""Config -> the network for its data sets, and their loaders: what training and evaluation begin with."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

import numpy as np
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.build import (
    build_fit,
    build_network,
    class_names_of,
    data_config,
    data_name,
    ground_truths_of,
    task_kinds,
    trained_tasks,
)
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.data.images.fit import check_side
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.caching import CachedPictures, Wanted, choose_caches
from mnv2_tasks.loading.loaders import TasksData, TrainingSet
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.rounding import train_rounded
from mnv2_tasks.runs.processes import processes_here


def build_tasks_network(
    config: DictConfig, sources: dict[str, DataSource], further_taps: Sequence[str] = ()
) -> Network:
    """The network for these data, with the truths that its metrics need; the same weights for the same seed."""
    seed_everything(config.seed, verbose=False)
    network = build_network(config, class_names_of(sources), ground_truths_of(sources), further_taps)
    if config.qat:
        train_rounded(network)
    return network


def build_data(
    config: DictConfig,
    sources: dict[str, DataSource],
    done: tuple[int, int] = (0, 0),
    repeats: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> TasksData:
    kinds = task_kinds(config)

    def augment(task: str) -> Augment:
        of_kinds, kind = data_config(config, task).augmentation, kinds[task]
        if kind not in of_kinds:
            raise ConfigError(
                f"data={data_name(config, task)}: its augmentation has nothing for {kind}, only for "
                f"{', '.join(of_kinds)}; +data.augmentation.{kind}=<preset>"
            )
        if config.train_imgsz is not None:
            check_side("train_imgsz", config.train_imgsz)
        wanted = cast(dict, OmegaConf.to_container(of_kinds))[kind]
        return Augment(wanted, config.train_imgsz or config.imgsz, list(config.input.mean), kind)

    return TasksData(
        sources=sources,
        augment=augment,
        fit=build_fit(config),
        batch_size=config.batch,
        batch_ratio={task: config.batch_ratio.get(task, 1.0) for task in config.tasks},  # ~tasks.<task> leaves its own
        trained=trained_tasks(config),
        workers=config.workers,
        seed=config.seed,
        done=done,
        reduced=[task for task in kinds if _decode(config, task) == "reduced"],
        repeats=repeats,
    )


def build_caches(config: DictConfig, data: TasksData) -> list[CachedPictures]:
    """What `data.cache` keeps of the training pictures, not read yet.

    Raises:
        ConfigError: it does not fit.
    """
    of_tasks = {task: data_config(config, task) for task in data.trained}
    bounds = [of.cache_gb for of in of_tasks.values() if of.get("cache_gb") is not None]
    for bound in bounds:
        if isinstance(bound, int | float) and 0 < bound < math.inf:
            continue
        raise ConfigError(f"data.cache_gb={bound}: expected a positive number, or null")
    wanted = {}
    for task, loader in data.train_dataloader().items():
        dataset = cast(TrainingSet, loader.dataset)
        if isinstance(dataset.source, FileSource):  # others draw; runs of former versions have no such key
            wanted[task] = Wanted(dataset.source, dataset.least, str(of_tasks[task].get("cache", "none")))
    most = 1e9 * min(bounds) if bounds else None
    return choose_caches(wanted, most=most, processes=processes_here(config.trainer))


def _decode(config: DictConfig, task: str) -> str:
    # drawn data, and runs of former versions, have no such key
    wanted = data_config(config, task).get("decode", "full")
    if wanted not in ("reduced", "full"):
        raise ConfigError(f"data.decode={wanted}: expected reduced or full")
    return wanted
