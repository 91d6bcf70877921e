"""Loaders: for each task, the samples of its data source, transformed and collated for its kind."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import cv2
import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.collate import Item, collate
from mnv2_tasks.data.fit import Fit
from mnv2_tasks.data.transforms import Augment
from mnv2_tasks.errors import ConfigError

Key = tuple[int, int]  # epoch, index: it travels with the sampler, so workers need no shared state


class TrainingSet(Dataset[Item]):
    """Samples with their annotations, augmented."""

    def __init__(self, source: DataSource, augment: Augment, seed: int):
        self.source, self.augment, self.seed = source, augment, seed

    def __getitem__(self, key: Key) -> Item:
        sample = self.source.sample("train", *key)
        out = self.augment(sample, (self.seed, *key))
        return Item(out, out.image.shape[:2], sample.image.shape[:2])


class ValidationSet(Dataset[Item]):
    """Images fitted to the network, annotations as they are: predictions come back to them, not they to predictions."""

    def __init__(self, source: DataSource, fit: Fit):
        self.source, self.fit = source, fit

    def __getitem__(self, key: Key) -> Item:
        sample = self.source.sample("val", *key)
        image, content = self.fit(sample.image)
        return Item(sample._replace(image=image), content, sample.image.shape[:2])


class EpochSampler(Sampler[Key]):
    """Keys (epoch, index) for one of `world` processes, in an order that depends on seed and epoch alone.

    Training (`shuffle`) drops the remainder so that all processes take as many steps. Validation drops and repeats
    nothing, and deals whole batches: a sample counted twice would move the metric with the number of GPUs, and so
    would, by the last bits of its scores, one that is computed in other company.

    Args:
        batch_size: of a process.
        done: (epoch, samples) that a resumed run has had of that epoch; they are not given again.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        seed: int,
        rank: int,
        world: int,
        batch_size: int = 1,
        done: tuple[int, int] = (0, 0),
    ):
        self.length, self.shuffle, self.seed, self.rank, self.world = length, shuffle, seed, rank, world
        self.batch_size, self.done = batch_size, done
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def _own(self) -> list[int]:
        if not self.shuffle:
            return [i for i in range(self.length) if i // self.batch_size % self.world == self.rank]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator).tolist()
        return order[: self.length // self.world * self.world][self.rank :: self.world]

    def __iter__(self) -> Iterator[Key]:
        skipped = self.done[1] if self.epoch == self.done[0] else 0
        return ((self.epoch, index) for index in self._own()[skipped:])

    def __len__(self) -> int:
        return self.length // self.world if self.shuffle else len(self._own())


class TasksData(L.LightningDataModule):
    """One loader per task.

    Args:
        sources: {task name: its data set}, in the order of the network's tasks.
        augment: kind of task -> what is done to its training samples.
        fit: what is done to validation images.
        batch_size: images of one step, for each task and process.
        workers: loader processes of each task; 0 loads in the training process.
        done: (epoch, batches) that a resumed run has trained on of that epoch.
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
        done: tuple[int, int] = (0, 0),
    ):
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"batch={batch_size}: expected at least 1")
        if workers < 0:
            raise ConfigError(f"workers={workers}: expected 0 (load in the training process) or more")
        self.sources, self.augment, self.fit, self.seed = sources, augment, fit, seed
        self.batch_size, self.workers = batch_size, workers
        self.done = (done[0], done[1] * batch_size)

    def train_dataloader(self) -> dict[str, DataLoader]:
        return {name: self._train_loader(source) for name, source in self.sources.items()}

    def val_dataloader(self) -> list[DataLoader]:
        return [self._val_loader(source) for source in self.sources.values()]

    def _train_loader(self, source: DataSource) -> DataLoader:
        length = source.length("train")
        if self.batch_size > length:
            raise ConfigError(f"batch={self.batch_size}: expected at most the {length} training images")
        dataset = TrainingSet(source, self.augment(source.kind), self.seed)
        return self._loader(source, dataset, "train", self.batch_size, shuffle=True, done=self.done)

    def _val_loader(self, source: DataSource) -> DataLoader:
        # images larger than the input become inputs of their own sizes, which cannot be stacked
        one_by_one = self.fit.fit == "pad" and source.largest("val") > self.fit.size
        return self._loader(source, ValidationSet(source, self.fit), "val", 1 if one_by_one else self.batch_size)

    def _loader(
        self,
        source: DataSource,
        dataset: Dataset[Item],
        split: str,
        batch_size: int,
        *,
        shuffle: bool = False,
        done: tuple[int, int] = (0, 0),
    ) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(
            source.length(split),
            shuffle=shuffle,
            seed=self.seed,
            rank=rank,
            world=world,
            batch_size=batch_size,
            done=done,
        )
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=partial(collate, source.kind),
            pin_memory=torch.cuda.is_available(),
            drop_last=shuffle,
            worker_init_fn=_one_thread,
            persistent_workers=self.workers > 0,
        )


def training_images(data: TasksData, count: int) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) uint8 of about `count` training images, shared among the tasks."""
    for loader in data.train_dataloader().values():
        wanted = max(1, count // len(data.sources) // data.batch_size)
        yield from (batch.images for batch in islice(loader, wanted))


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the loader's processes are its parallelism
