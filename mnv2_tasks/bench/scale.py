"""what=scale: how time and memory grow with pixels, images, classes, objects and annotations."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mnv2_tasks.bench.contestants import CLASSES, noise, our_batch, our_config, our_loss, our_network
from mnv2_tasks.bench.eval import OBJECTS, coco_like, coco_numbers
from mnv2_tasks.data.reading.coco_json import read_coco_json
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.latency import least_seconds
from mnv2_tasks.network.network import Network

STEEP = 1.2  # a fitted slope above this is worse than linear; below, it may be the caches that large work outgrows


class Growth(NamedTuple):
    work: str
    axis: str
    amounts: Sequence[int]
    prepare: Callable[[int], Callable[[], Any]]  # an amount -> a call; an int that it returns is bytes of memory


def measure(config: DictConfig) -> list[Table]:
    keep_freed_memory()  # as training does; what the system zeroes anew for large images would pass for work
    seconds = 0.0 if config.quick else 0.5 * (config.repeats or 1)
    with TemporaryDirectory() as folder:
        growths = [*_networks(config.quick), *_annotations(config.quick, Path(folder))]
        rows = [measured(growth, seconds) for growth in growths]
    return [
        Table(
            "Growth",
            ["work", "with the", "to", "ms there", "slope of time", "MB there", "slope of memory", ""],
            rows,
            [
                "Slopes are those of the upper half of each curve in log-log; in proportion is 1, constant 0. Time is "
                "the processor's. Memory is that of tensors that a training step keeps for its gradients."
            ],
        )
    ]


def measured(growth: Growth, during: float) -> list[Any]:
    """A row of the table."""
    seconds, sizes = [], []
    for amount in growth.amounts:
        call = growth.prepare(amount)
        sizes.append(call())
        seconds.append(least_seconds(call, during=during, clock=time.process_time))
    slopes = slope(growth.amounts, seconds), slope(growth.amounts, sizes) if isinstance(sizes[0], int) else None
    remark = "worse than linear" if any(found is not None and found > STEEP for found in slopes) else ""
    megabytes = None if slopes[1] is None else sizes[-1] / 1e6
    ends = growth.amounts[-1], 1e3 * seconds[-1]
    return [growth.work, growth.axis, *ends, slopes[0], megabytes, slopes[1], remark]


def slope(amounts: Sequence[float], values: Sequence[float]) -> float:
    """Of the upper half of the curve in log-log, where what is constant counts least."""
    upper = slice(min(len(amounts) // 2, max(len(amounts) - 3, 0)), None)
    return float(np.polyfit(np.log(amounts[upper]), np.log(values[upper]), 1)[0])


def _networks(quick: bool) -> Iterator[Growth]:
    sides = (64, 96) if quick else (96, 128, 192, 256, 384, 512, 768, 1024)
    batches = (2, 4) if quick else (2, 4, 8, 16, 32, 64)  # at least 2, for batch norm after pooling
    classes = (2, 8) if quick else (2, 10, 30, 100, 250)  # at most 255, for masks are uint8
    objects = (2, 8) if quick else (1, 5, 20, 50, 100, 200, 500)
    axes: list[tuple[str, Sequence[int], Callable[[int], tuple[int, ...]]]] = [  # see `noise`
        ("pixels of an image", [side**2 for side in sides], lambda pixels: (2, round(pixels**0.5), 20)),
        ("images of a batch", batches, lambda count: (count, 96, 20)),
        ("classes", classes, lambda number: (2, 96, number)),
    ]
    for axis, amounts, setting in axes:
        for task in CLASSES:
            for work, how in {"results": _predict, "training step": _step}.items():
                yield Growth(f"{task}, {work}", axis, amounts, partial(_network_call, task, how, setting))
    crowded = partial(_network_call, "ssdlite", _step, lambda number: (2, 320, 20, number))
    yield Growth("ssdlite, training step", "objects of an image", objects, crowded)


def _network_call(
    task: str, how: Callable[..., Any], setting: Callable[[int], tuple[int, ...]], amount: int
) -> Callable[[], Any]:
    count, side, classes, *objects = setting(amount)
    return partial(how, _network(task, side, classes), task, our_batch(task, noise(count, side, classes, *objects)))


@cache
def _network(task: str, side: int, classes: int) -> Network:
    return our_network(our_config(task, side, width=0.35), {task: classes})


@torch.inference_mode()
def _predict(network: Network, task: str, batch: Any) -> None:
    network.eval().predict(batch.images, batch.frames)


def _step(network: Network, task: str, batch: Any) -> int:
    """Loss and gradients, without the optimizer, whose work is that of the weights. Returns the bytes kept between."""
    network.train().zero_grad()
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = our_loss(network, task, batch)
    loss.backward()
    return sum(kept.values())


def _annotations(quick: bool, folder: Path) -> Iterator[Growth]:
    def reading(count: int) -> Callable[[], Any]:
        truth, file = coco_like(round(count / OBJECTS))[0], folder / f"{count}.json"
        file.write_text(json.dumps(truth), encoding="utf-8")
        (folder / truth["images"][0]["file_name"]).touch()  # one picture that is there is enough
        return partial(read_coco_json, file, folder, outlines=False)

    def evaluation(count: int) -> Callable[[], Any]:
        return partial(coco_numbers, *coco_like(round(count / OBJECTS)), "hotcoco")

    counts = (70, 700) if quick else (1_000, 10_000, 100_000)
    yield Growth("reading COCO json", "annotations", counts, reading)
    yield Growth("COCO's numbers", "annotations", counts, evaluation)
