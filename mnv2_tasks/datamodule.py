"""Loaders: for each task, the samples of its data source, transformed and collated for its kind."""

from collections.abc import Iterator
from functools import partial

import cv2
import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.collate import Item, collate
from mnv2_tasks.data.transforms import Transform
from mnv2_tasks.errors import ConfigError

Key = tuple[int, int]  # epoch, index: it travels with the sampler, so workers need no shared state


class TaskDataset(Dataset[Item]):
    def __init__(self, source: DataSource, split: str, transform: Transform, seed: int):
        self.source, self.split, self.transform, self.seed = source, split, transform, seed

    def __getitem__(self, key: Key) -> Item:
        sample = self.source.sample(self.split, *key)
        return self.transform(sample, (self.seed, *key)), sample.image.shape[:2]


class EpochSampler(Sampler[Key]):
    """Keys (epoch, index) for one of `world` processes, in an order that depends on seed and epoch alone.

    Training (`shuffle`) drops the remainder so that all processes take as many steps. Validation drops and repeats
    nothing: a sample that a padded sampler counts twice would move the metric with the number of GPUs.

    Args:
        done: (epoch, samples) that a resumed run has had of that epoch; they are not given again.
    """

    def __init__(self, length: int, *, shuffle: bool, seed: int, rank: int, world: int, done: tuple[int, int] = (0, 0)):
        self.length, self.shuffle, self.seed, self.rank, self.world = length, shuffle, seed, rank, world
        self.done = done
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        order = range(self.length)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.length, generator=generator).tolist()[: len(self) * self.world]
        skipped = self.done[1] if self.epoch == self.done[0] else 0
        return ((self.epoch, index) for index in order[self.rank :: self.world][skipped:])

    def __len__(self) -> int:
        if self.shuffle:
            return self.length // self.world
        return len(range(self.rank, self.length, self.world))


class TasksData(L.LightningDataModule):
    """One loader per task.

    Args:
        source: the data set.
        kinds: {task name: kind}, in the order of the network's tasks.
        image_size: side of the network's square input, in pixels.
        batch_size: images of one step, for each task and process.
        workers: loader processes of each task; 0 loads in the training process.
        augmentation: name of a preset in data/transforms.py.
        done: (epoch, batches) that a resumed run has trained on of that epoch.
    """

    def __init__(
        self,
        *,
        source: DataSource,
        kinds: dict[str, str],
        image_size: int,
        batch_size: int,
        workers: int,
        augmentation: str,
        seed: int,
        done: tuple[int, int] = (0, 0),
    ):
        super().__init__()
        if not 1 <= batch_size <= source.length("train"):
            raise ConfigError(
                f"batch={batch_size}: expected at least 1 and at most the {source.length('train')} training images"
            )
        if workers < 0:
            raise ConfigError(f"workers={workers}: expected 0 (load in the training process) or more")
        if not 32 <= image_size <= 4096:
            raise ConfigError(f"imgsz={image_size}: expected between 32 and 4096 pixels")
        self.source, self.kinds, self.seed = source, kinds, seed
        self.batch_size, self.workers = batch_size, workers
        self.done = (done[0], done[1] * batch_size)
        self.transforms = {
            "train": Transform(augmentation, image_size),
            "val": Transform("none", image_size),
        }

    def train_dataloader(self) -> dict[str, DataLoader]:
        return {name: self._loader(kind, "train") for name, kind in self.kinds.items()}

    def val_dataloader(self) -> list[DataLoader]:
        return [self._loader(kind, "val") for kind in self.kinds.values()]

    def _loader(self, kind: str, split: str) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        train = split == "train"
        sampler = EpochSampler(
            self.source.length(split),
            shuffle=train,
            seed=self.seed,
            rank=rank,
            world=world,
            done=self.done if train else (0, 0),
        )
        return DataLoader(
            TaskDataset(self.source, split, self.transforms[split], self.seed),
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=partial(collate, kind),
            pin_memory=torch.cuda.is_available(),
            drop_last=train,
            worker_init_fn=_one_thread,
            persistent_workers=self.workers > 0,
        )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the loader's processes are its parallelism
