"""Which samples one process reads, and in which order. It depends on the seed and the position alone."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

WINDOW = 16  # shards that are read at a time

# how often the sample was given before, or more, and its index: this travels, so that workers need no shared state
Key = tuple[int, int]


class TrainingSampler(Sampler[Key]):
    """A data set read pass after pass, each in an order of its own; an epoch is a piece of that stream.

    Where an epoch ends within a pass, the next one goes on there, and where the data set ends within an epoch, a new
    pass begins. So data sets of any lengths train together and every image is used as often as every other, whatever
    the batch size and the number of processes. (DistributedSampler repeats or drops images where the processes do not
    divide them, and cannot go on within an epoch.) Step s of process r takes samples
    [(s * world + r) * batch_size, ...) of the stream.

    Args:
        length: of the data set.
        steps: of an epoch.
        batch_size: of a process.
        done: (epoch, steps) that a resumed run has trained on of that epoch; their samples are not given again.
        shards: indices that lie together. A pass then goes from one handful of shards, in random order, to the next,
            and mixes the samples of each: it reads a part of the disk at a time. None: mixes all.
        repeats: (length,) of each sample, how often a pass gives it in the mean, at least 1; None: once. What is no
            whole number is rounded up or down in each pass, so that the passes have equal lengths.
    """

    def __init__(
        self,
        length: int,
        *,
        steps: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        done: tuple[int, int] = (0, 0),
        shards: Sequence[np.ndarray] | None = None,
        repeats: np.ndarray | None = None,
    ):
        self.length, self.steps, self.batch_size = length, steps, batch_size
        self.seed, self.rank, self.world, self.done = seed, rank, world, done
        self.shards, self.repeats = shards, repeats
        self.pass_length = pass_length(length, repeats)
        self.most = 1 if repeats is None else int(np.ceil(repeats.max())) + 1  # times of a sample in a pass
        self.epoch = done[0]  # until Lightning sets it: loader processes begin to read before that

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        first = self.done[1] if self.epoch == self.done[0] else 0
        number, order = -1, []
        for step in range(self.epoch * self.steps + first, (self.epoch + 1) * self.steps):
            start = (step * self.world + self.rank) * self.batch_size
            for position in range(start, start + self.batch_size):
                if position // self.pass_length != number:
                    number = position // self.pass_length
                    order = self._order(torch.Generator().manual_seed(self.seed * 1_000_003 + number))
                time, index = divmod(order[position % self.pass_length], self.length)
                yield number * self.most + time, index

    def _order(self, generator: torch.Generator) -> list[int]:
        """Of a pass: index i for the first time as i, for the second as i + length, and so on."""
        times = self._times(generator)
        if self.shards is None:
            return _mixed(_repeated(np.arange(self.length), times), generator)
        order: list[int] = []
        for window in torch.randperm(len(self.shards), generator=generator).split(WINDOW):
            together = np.concatenate([self.shards[shard] for shard in window.tolist()])
            order += _mixed(_repeated(together, times), generator)
        return order

    def _times(self, generator: torch.Generator) -> np.ndarray | None:
        """(length,) how often this pass gives each sample; None: once."""
        if self.repeats is None:
            return None
        ends = np.cumsum(self.repeats)
        ends *= self.pass_length / ends[-1]
        ends[-1] = self.pass_length
        start = torch.rand((), generator=generator, dtype=torch.float64).item()
        return np.diff(np.floor(ends + start), prepend=0).astype(np.int64)

    def __len__(self) -> int:
        return self.steps * self.batch_size


def pass_length(length: int, repeats: np.ndarray | None) -> int:
    """Samples of a pass, see `TrainingSampler`."""
    return length if repeats is None else math.ceil(repeats.sum() - 1e-6)


def _repeated(indices: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    if times is None:
        return indices
    counts = times[indices]
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(indices, counts) + len(times) * (np.arange(len(before)) - before)


def _mixed(values: np.ndarray, generator: torch.Generator) -> list[int]:
    return values[torch.randperm(len(values), generator=generator).numpy()].tolist()


class ValidationSampler(Sampler[Key]):
    """Every image once, dealt to the processes in whole batches.

    A sample counted twice would move the metric with the number of GPUs, and so would, by the last bits of its scores,
    one that is computed in other company.

    Args:
        batch_size: of a process.
    """

    def __init__(self, length: int, *, batch_size: int, rank: int = 0, world: int = 1):
        self.own = [i for i in range(length) if i // batch_size % world == rank]

    def __iter__(self) -> Iterator[Key]:
        return ((0, index) for index in self.own)

    def __len__(self) -> int:
        return len(self.own)


def spread_evenly(length: int, count: int) -> list[int]:
    """Up to `count` indices from the first to the last of `length`: data sets are often sorted by class."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(int)).tolist()
