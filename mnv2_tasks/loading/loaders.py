"""Loaders: for each task, the samples of its data source, transformed and collated for its kind."""

import gc
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.collate import Item, collate
from mnv2_tasks.loading.samplers import Key, TrainingSampler, ValidationSampler, pass_length

PATIENCE = 30.0  # seconds that a run has to save, and to end its loader processes


class TrainingSet(Dataset[Item]):
    """Samples with their annotations, augmented.

    Args:
        reduced: decode no more of a picture than the augmentation needs.
    """

    def __init__(self, source: DataSource, augment: Augment, seed: int, *, reduced: bool = False):
        self.source, self.augment, self.seed = source, augment, seed
        self.least = augment.least if reduced else None  # see `DataSource.sample`

    def __getitem__(self, key: Key) -> Item:
        sample = self.source.sample("train", *key, least=self.least)
        out = self.augment(sample, (self.seed, *key))
        return Item(out, out.image.shape[:2], sample.image.shape[:2])


class ValidationSet(Dataset[Item]):
    """Images fitted to the network, annotations as they are: predictions come back to them, not they to predictions."""

    def __init__(self, source: DataSource, fit: Fit):
        self.source, self.fit = source, fit

    def __getitem__(self, key: Key) -> Item:
        sample = self.source.sample("val", *key)
        image, content, offset = self.fit(sample.image)
        return Item(sample._replace(image=image), content, sample.image.shape[:2], offset)


class TasksData(L.LightningDataModule):
    """One loader per task, each with as many batches in an epoch.

    An epoch is one pass over the data set that takes the most steps; the others are read on and on meanwhile, see
    `TrainingSampler`.

    Args:
        sources: {task name: its data set}, in the order of the network's tasks.
        augment: task name -> what is done to its training samples.
        fit: what is done to validation images.
        batch_size: images of one step, for each task and process.
        batch_ratio: {task name: factor on `batch_size`}, rounded to whole images.
        trained: the tasks that take part in training; None: all.
        workers: loader processes of each task; 0 loads in the training process.
        done: (epoch, batches) that a resumed run has trained on of that epoch.
        reduced: the tasks whose training pictures are decoded no larger than their augmentation needs.
        repeats: {task name: (n,) how often a pass gives each training sample}, see `TrainingSampler`.
    """

    def __init__(
        self,
        *,
        sources: dict[str, DataSource],
        augment: Callable[[str], Augment],
        fit: Fit,
        batch_size: int,
        workers: int,
        seed: int,
        batch_ratio: Mapping[str, float] = MappingProxyType({}),
        trained: Collection[str] | None = None,
        done: tuple[int, int] = (0, 0),
        reduced: Collection[str] = (),
        repeats: Mapping[str, np.ndarray] = MappingProxyType({}),
    ):
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"batch={batch_size}: expected at least 1")
        if workers < 0:
            raise ConfigError(f"workers={workers}: expected 0 (load in the training process) or more")
        self.sources, self.augment, self.fit, self.seed = sources, augment, fit, seed
        self.batch_size, self.workers, self.done, self.reduced = batch_size, workers, done, reduced
        self.repeats = repeats
        self.trained = [name for name in sources if trained is None or name in trained]
        self.batch_sizes = _batch_sizes(batch_size, batch_ratio, list(sources))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """All but what the host reads: to have that back, it would wait for the device."""
        if isinstance(batch, dict):
            return {task: self.transfer_batch_to_device(part, device, dataloader_idx) for task, part in batch.items()}
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(image_ids=batch.image_ids, frames=batch.frames)

    def train_dataloader(self) -> dict[str, DataLoader]:
        for name in self.trained:
            self._check_length(name)
        return {name: self._train_loader(name) for name in self.trained}

    def try_augmentation(self) -> None:
        """Augment the first image of each trained task.

        Raises:
            ConfigError: it fails, or leaves what is no input of the network.
        """
        for name in self.trained:
            source, augment = self.sources[name], self.augment(name)
            sample = source.sample("train", 0, 0, least=augment.least if name in self.reduced else None)
            key = f"data.augmentation.{source.kind}"
            try:
                image = augment(sample, (self.seed, 0, 0)).image
            except Exception as error:  # of albumentations, of OpenCV, of a function of the user's
                raise ConfigError(f"{key}: fails on a training image ({error})") from error
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                found = f"{image.dtype} {tuple(image.shape)}"
                raise ConfigError(f"{key}: makes {found} of a picture, where uint8 (H, W, 3) is needed")

    def val_dataloader(self) -> list[DataLoader]:
        return list(self.val_loaders().values())

    def val_loaders(self) -> dict[str, DataLoader]:
        return {name: self._val_loader(source) for name, source in self.sources.items()}

    def steps(self) -> dict[str, int]:
        """{trained task: whole steps that its data set gives in one pass}; the largest is an epoch."""
        return {name: self._pass_length(name) // self._per_step(name) for name in self.trained}

    def _pass_length(self, name: str) -> int:
        return pass_length(self.sources[name].length("train"), self.repeats.get(name))

    def describe_epoch(self) -> str:
        """How often each task's data set is read in an epoch, for people."""
        steps = self.steps()
        longest = max(steps, key=lambda name: steps[name])
        shares = [
            f"{name} {steps[longest] * self._per_step(name) / self._pass_length(name):.4g} times"
            f" in batches of {self.batch_sizes[name]}"
            for name in self.trained
        ]
        return f"an epoch: {steps[longest]} steps, as {longest} takes the most; data sets are read {', '.join(shares)}"

    def _per_step(self, name: str) -> int:
        return self.batch_sizes[name] * _processes()[1]

    def _check_length(self, name: str) -> None:
        length, batch_size, world = self.sources[name].length("train"), self.batch_sizes[name], _processes()[1]
        if batch_size * world > length:
            task = f" ({name}, by batch_ratio)" if batch_size != self.batch_size else ""
            processes = f" for {world} processes" if world > 1 else ""
            raise ConfigError(f"batch={batch_size}{task}: expected at most the {length} training images{processes}")

    def _train_loader(self, name: str) -> DataLoader:
        source, batch_size = self.sources[name], self.batch_sizes[name]
        rank, world = _processes()
        sampler = TrainingSampler(
            source.length("train"),
            steps=max(self.steps().values()),
            batch_size=batch_size,
            seed=self.seed,
            rank=rank,
            world=world,
            done=self.done,
            shards=source.shards("train"),
            repeats=self.repeats.get(name),
        )
        dataset = TrainingSet(source, self.augment(name), self.seed, reduced=name in self.reduced)
        return self._loader(dataset, sampler, batch_size)

    def _val_loader(self, source: DataSource) -> DataLoader:
        # images larger than the input become inputs of their own sizes, which cannot be stacked
        one_by_one = self.fit.mode == "pad" and source.largest("val") > self.fit.size
        batch_size = 1 if one_by_one else self.batch_size
        rank, world = _processes()
        sampler = ValidationSampler(source.length("val"), batch_size=batch_size, rank=rank, world=world)
        return self._loader(ValidationSet(source, self.fit), sampler, batch_size)

    def _loader(
        self, dataset: TrainingSet | ValidationSet, sampler: TrainingSampler | ValidationSampler, batch_size: int
    ) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=partial(collate, dataset.source.kind),
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # not the global one, whose draws belong to the steps: see StepRandomness
        )


def _batch_sizes(batch_size: int, ratios: Mapping[str, float], tasks: list[str]) -> dict[str, int]:
    unknown = [name for name in ratios if name not in tasks]
    if unknown:
        raise ConfigError(f"batch_ratio: there is no task {unknown[0]}; there are {', '.join(tasks)}")
    for name, ratio in ratios.items():
        if not ratio > 0 or round(ratio * batch_size) < 1:
            raise ConfigError(
                f"batch_ratio.{name}={ratio}: expected a factor that leaves at least one of batch={batch_size} images"
            )
    return {name: round(ratios.get(name, 1.0) * batch_size) for name in tasks}


def training_images(data: TasksData, count: int) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) uint8 of about `count` training images, shared among the tasks."""
    loaders = data.train_dataloader()
    for name, loader in loaders.items():
        wanted = max(1, count // len(loaders) // data.batch_sizes[name])
        yield from (batch.images for batch in islice(loader, wanted))


def _processes() -> tuple[int, int]:
    """Rank of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the loader's processes are its parallelism
    gc.freeze()  # collecting what was forked would copy it: a hundred megabytes for each process
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, _: Any) -> None:
    """systemd and SLURM ask all processes of a run to end: it still needs this one for the step that it then saves."""
    late = threading.Timer(PATIENCE, os._exit, [128 + number])  # unless the run ends it before
    late.daemon = True
    late.start()
