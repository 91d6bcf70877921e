"""what=scale: time and memory with larger images and batches, more classes, objects and annotations."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mnv2_tasks.bench.growth import MEGA, Growth, draw, grow, table_of
from mnv2_tasks.bench.scale_annotations import annotations
from mnv2_tasks.boxes.matching import match_anchors
from mnv2_tasks.boxes.postprocess import detect
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import (
    Batch,
    BoxTargets,
    ClassificationBatch,
    DetectionBatch,
    Frames,
    Sample,
    SegmentationBatch,
)
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.kinds.detection import padded_targets
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.network import Network

TASKS = ("classification", "ssdlite", "mobile_deeplabv3")


def image_sizes(quick: bool, repeats: int) -> Growth:
    sides = (64, 96) if quick else (96, 128, 192, 256, 384, 512, 768, 1024)
    networks = {task: _network(task) for task in TASKS}
    curves = []
    for task, network in networks.items():
        forward = grow(
            f"{task}, forward",
            [side**2 for side in sides],
            lambda pixels, network=network: partial(_forward, network, _images(1, round(pixels**0.5))),
            repeats=repeats,
            megabytes=lambda pixels, _, n=network: model_cost(n, round(pixels**0.5)).peak_activation_bytes / MEGA,
        )
        step = grow(
            f"{task}, training step",
            forward.amounts,
            lambda pixels, task=task, network=network: _step(task, network, 2, round(pixels**0.5)),
            repeats=repeats,
            megabytes=_megabytes_kept,
        )
        curves += [forward, step]
    memory = "of a forward pass, most that is alive at one moment; of a training step of two images, what is kept for"
    return Growth("image size", "pixels of an image", curves, f"{memory} its gradients")


def batches(quick: bool, repeats: int) -> Growth:
    sizes = (2, 4) if quick else (1, 2, 4, 8, 16, 32, 64)
    curves = []
    for task in TASKS:
        network = _network(task)
        curves.append(
            grow(
                f"{task}, training step",
                [size for size in sizes if size > 1],  # batch norm after pooling needs two values
                lambda size, task=task, network=network: _step(task, network, size, 96),
                repeats=repeats,
                megabytes=_megabytes_kept,
            )
        )
        curves.append(
            grow(
                f"{task}, results",
                sizes,
                lambda size, network=network: partial(_predict, network, _images(size, 96)),
                repeats=repeats,
            )
        )
    return Growth("batch", "images of 96 x 96 pixels", curves, "what is kept for the gradients")


def classes(quick: bool, repeats: int) -> Growth:
    numbers = (2, 8) if quick else (2, 10, 30, 100, 300, 1000)
    curves = []
    for task in TASKS:
        make = lambda count, task=task: partial(_predict, _network(task, count), _images(1, 96))  # noqa: E731
        few = numbers if task != "mobile_deeplabv3" else [n for n in numbers if n < 256]  # masks are uint8
        peak = lambda count, _, task=task: model_cost(_network(task, count), 96).peak_activation_bytes / MEGA  # noqa: E731
        curves.append(grow(f"{task}, results", few, make, repeats=repeats, megabytes=peak))
        step = lambda count, task=task: _step(task, _network(task, count), 2, 96)  # noqa: E731
        curves.append(grow(f"{task}, training step", few, step, repeats=repeats, megabytes=_megabytes_kept))
    memory = "of results, most alive at one moment of the network's pass; of a training step, kept for the gradients"
    return Growth("classes", "classes", curves, memory)


def objects(quick: bool, repeats: int) -> Growth:
    counts = (0, 2, 8) if quick else (0, 1, 5, 20, 50, 100, 200, 500)
    network = _network("ssdlite", 20)
    task: Any = network.tasks["ssdlite"]
    with torch.no_grad():
        output = network(_images(1, 320).float())["ssdlite"]
    augment = Augment("ssd", 320, [0.0, 0.0, 0.0])
    picture = np.zeros((320, 320, 3), np.uint8)

    def matching(count: int) -> Callable[[], Any]:
        boxes, _, valid = _targets(1, count, 20)
        return partial(match_anchors, boxes, valid, output.anchors, 0.5)

    def loss(count: int) -> Callable[[], Any]:
        return partial(task.criterion, output, _targets(1, count, 20))

    def augmented(count: int) -> Callable[[], Any]:
        boxes, labels = (320 * _boxes(count)).numpy(), np.zeros(count, np.int64)
        return partial(augment, Sample(picture, 1, boxes=boxes, box_labels=labels), (0, 0, 0))

    def found(count: int) -> Callable[[], Any]:
        logits = torch.full_like(output.class_logits, -9.0)
        logits[..., -1] = 0.0
        sure = torch.randperm(logits.shape[1], generator=torch.Generator().manual_seed(0))[:count]
        logits[0, sure, 0] = 9.0
        corner = torch.full((4,), 320.0)
        return partial(detect, output._replace(class_logits=logits), corner, corner, **task.postprocess)

    crowded = "neighbours contend: a few more rounds"
    curves = [
        grow("matching of anchors", counts, matching, repeats=repeats, remark=crowded),
        grow("multibox loss", counts, loss, repeats=repeats, remark=crowded),
        grow("augmentation", counts, augmented, repeats=repeats),
        grow("post-processing", counts, found, repeats=repeats, remark="ends at candidates=400"),
    ]
    return Growth("objects", "objects in an image of 320 x 320 pixels", curves)


GROWTHS = (image_sizes, batches, classes, objects, annotations)


def measure(config: DictConfig, out: Path) -> list[Table]:
    """A table and a plot of each of `GROWTHS`."""
    keep_freed_memory()  # as training does; what the system zeroes anew for large images would pass for work
    tables = []
    for number, grown in enumerate(GROWTHS, start=1):
        found = grown(config.quick, config.repeats or (1 if config.quick else 3))
        draw(found, out / f"scale_{number}_{found.title.replace(' ', '_')}.png")
        tables.append(table_of(found))
    return tables


# ---------------------------------------------------------------- networks and their inputs


@cache
def _network(task: str, num_classes: int = 20) -> Network:
    config = compose("train", [f"task={task}", "width=0.35", "weights=none"])
    torch.manual_seed(0)
    return build_network(config, {task: [f"class {i}" for i in range(num_classes)]})


def _images(batch: int, side: int) -> Tensor:
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _frames(batch: int, side: int) -> Frames:
    sizes = torch.full((batch, 2), side)
    return Frames((side, side), sizes, sizes)


def _boxes(count: int) -> Tensor:
    """(N, 4) xyxy fractions."""
    generator = torch.Generator().manual_seed(count)
    corners, sides = torch.rand(count, 2, generator=generator) * 0.8, torch.rand(count, 2, generator=generator) * 0.2
    return torch.cat([corners, corners + sides.clamp(min=0.02)], dim=1)


def _targets(images: int, count: int, num_classes: int) -> BoxTargets:
    labels = torch.arange(count) % num_classes
    return padded_targets([_boxes(count)] * images, [labels] * images)


def _forward(network: Network, images: Tensor) -> None:
    with torch.inference_mode():
        network.eval()(images)


def _predict(network: Network, images: Tensor) -> None:
    with torch.inference_mode():
        network.eval().predict(images, _frames(len(images), images.shape[-1]))


def _step(task: str, network: Network, batch: int, side: int) -> Callable[[], int]:
    """Loss and gradients, without the optimizer, whose work is that of the weights. Returns the bytes kept between."""
    images, ids, frames = _images(batch, side), torch.arange(batch), _frames(batch, side)
    inputs: Batch
    if task == "classification":
        inputs = ClassificationBatch(images, ids % 2, ids, frames)
    elif task == "ssdlite":
        inputs = DetectionBatch(images, _targets(batch, 5, 2), ids, frames)
    else:
        inputs = SegmentationBatch(images, torch.zeros(batch, side, side, dtype=torch.int64), ids, frames)

    def work() -> int:
        network.train().zero_grad()
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            total = sum(network.tasks[task].loss(network.output(task, images), inputs).values())
        assert isinstance(total, Tensor)
        total.backward()
        return sum(kept.values())

    return work


def _megabytes_kept(amount: int, kept: int) -> float:
    return kept / MEGA
