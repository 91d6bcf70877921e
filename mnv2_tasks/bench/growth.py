"""The work that what=scale lets grow: larger images and batches, more classes, objects and annotations."""

import gc
import json
import pickle
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnv2_tasks.bench.scale import Curve, Growth, grow
from mnv2_tasks.boxes.matching import match_anchors
from mnv2_tasks.build import build_network
from mnv2_tasks.config import compose
from mnv2_tasks.contracts import (
    Batch,
    BoxTargets,
    ClassificationBatch,
    DetectionBatch,
    Frames,
    Sample,
    SegmentationBatch,
    SSDOutput,
)
from mnv2_tasks.cost import model_cost
from mnv2_tasks.data.coco_json import read_coco_json
from mnv2_tasks.data.records import Records
from mnv2_tasks.data.transforms import Augment
from mnv2_tasks.data.verify import verify_files
from mnv2_tasks.metrics.coco_map import CocoMAP
from mnv2_tasks.network import Network
from mnv2_tasks.samplers import TrainingSampler

TASKS = ("classification", "ssdlite", "mobile_deeplabv3")
MEGA = 1e6
PER_IMAGE = 7  # objects, as COCO has on average
SIDE, OBJECT = 64, 16  # of the pictures that annotations are for and of their objects, in pixels


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
        return partial(match_anchors, _boxes(count), output.anchors, 0.5)

    def loss(count: int) -> Callable[[], Any]:
        return partial(task.multibox_loss, output, [_targets(count, 20)])

    def augmented(count: int) -> Callable[[], Any]:
        boxes, labels = (320 * _boxes(count)).numpy(), np.zeros(count, np.int64)
        return partial(augment, Sample(picture, 1, boxes=boxes, box_labels=labels), (0, 0, 0))

    def found(count: int) -> Callable[[], Any]:
        logits = torch.full_like(output.class_logits, -9.0)
        logits[..., -1] = 0.0
        sure = torch.randperm(logits.shape[1], generator=torch.Generator().manual_seed(0))[:count]
        logits[0, sure, 0] = 9.0
        task.head = lambda features: SSDOutput(logits, output.box_deltas, output.anchors)
        return partial(task.predict, {}, _frames(1, 320))

    curves = [
        grow("matching of anchors", counts, matching, repeats=repeats),
        grow("multibox loss", counts, loss, repeats=repeats),
        grow("augmentation", counts, augmented, repeats=repeats),
        grow("post-processing", counts, found, repeats=repeats, remark="ends at candidates=400"),
    ]
    return Growth("objects", "objects in an image of 320 x 320 pixels", curves)


def annotations(quick: bool, repeats: int) -> Growth:
    counts = (70, 700) if quick else (1_000, 10_000, 100_000, 1_000_000)
    some = [count for count in counts if count <= 100_000]  # a million need 140,000 files
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (SIDE, SIDE)).save(folder / "0.png")
        files = {count: _annotation_file(folder, count) for count in counts}
        read = partial(read_coco_json, pictures=folder, outlines=False)
        records = {count: read(files[count]).records for count in counts}
        once = {"repeats": 1}
        once = min(1, repeats)  # a million of them take their time
        curves = [
            grow(
                "reading COCO json",
                counts,
                lambda count: partial(read, files[count]),
                repeats=once,
                megabytes=lambda count, _: _peak_megabytes(partial(read, files[count])),
            ),
            grow(
                "sending them to a worker",
                counts,
                lambda count: partial(_sent_to_a_worker, records[count]),
                repeats=repeats,
                megabytes=lambda count, _: _bytes(records[count]) / MEGA,
            ),
            grow(
                "order of an epoch of so many images",
                counts,
                lambda count: partial(_epoch, count),
                repeats=once,
                megabytes=lambda count, _: _peak_megabytes(partial(_epoch, count)),
            ),
            grow(
                "looking at verified files again",
                some,
                lambda count: _verification(folder, records[count]),
                repeats=repeats,
            ),
            grow("COCO's numbers", some, lambda count: _evaluation(records[count]), repeats=once),
        ]
    memory = "most that is held on the way; of what workers get, the arrays themselves"
    return Growth("data set", f"annotations, {PER_IMAGE} to an image", curves, memory)


GROWTHS = (image_sizes, batches, classes, objects, annotations)


# ---------------------------------------------------------------- networks and their inputs


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


def _targets(count: int, num_classes: int) -> BoxTargets:
    return BoxTargets(_boxes(count), torch.arange(count) % num_classes)


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
        inputs = DetectionBatch(images, [_targets(5, 2)] * batch, ids, frames)
    else:
        inputs = SegmentationBatch(images, torch.zeros(batch, side, side, dtype=torch.int64), ids, frames)

    def work() -> int:
        network.train().zero_grad()
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            total = sum(network.loss({task: inputs})[task].values())
        assert isinstance(total, Tensor)
        total.backward()
        return sum(kept.values())

    return work


def _megabytes_kept(amount: int, kept: int) -> float:
    return kept / MEGA


# ---------------------------------------------------------------- annotations


def _annotation_file(folder: Path, count: int) -> Path:
    """COCO's format. Of the pictures only the first is there, which is enough to read it."""
    path, num_images = folder / f"{count}.json", max(1, count // PER_IMAGE)
    corners = np.random.default_rng(0).integers(0, SIDE - OBJECT, (count, 2)).tolist()
    images = [{"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in range(num_images)]
    rows = [
        {
            "id": i + 1, "image_id": i % num_images, "category_id": i % 80,
            "bbox": [x, y, OBJECT, OBJECT], "area": OBJECT**2, "iscrowd": 0,
        }
        for i, (x, y) in enumerate(corners)
    ]  # fmt: skip
    categories = [{"id": i, "name": f"class {i}"} for i in range(80)]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def _sent_to_a_worker(records: Records) -> Records:
    """As spawned loader processes get them; forked ones share them."""
    return pickle.loads(pickle.dumps(records, protocol=5))


def _bytes(records: Records) -> int:
    arrays = [getattr(value, "content", value) for value in vars(records).values()]
    return sum(array.nbytes for array in arrays)


def _epoch(length: int) -> None:
    for _ in TrainingSampler(length, steps=max(1, length // 64), batch_size=min(64, length), seed=0):
        pass


def _verification(folder: Path, records: Records) -> Callable[[], Any]:
    """Of files that were verified before, as in every run but the first."""
    for i in range(1, len(records)):
        if not (folder / f"{i}.png").exists():
            (folder / f"{i}.png").hardlink_to(folder / "0.png")
    return partial(verify_files, records, class_names=["class"], split="train")


def _evaluation(records: Records) -> Callable[[], Any]:
    """Every object found a little beside its place, and as many false alarms."""
    boxes = [
        {"id": i + 1, "image_id": int(image), "category_id": int(label), "bbox": box, "area": OBJECT**2, "iscrowd": 0}
        for i, (image, label, box) in enumerate(zip(records.image_of_box(), records.box_labels, _xywh(records.boxes)))
    ]
    images = [{"id": int(i), "height": SIDE, "width": SIDE} for i in records.ids]
    categories = [{"id": i, "name": f"class {i}"} for i in range(80)]
    metric = CocoMAP({"images": images, "annotations": boxes, "categories": categories})
    generator = np.random.default_rng(0)
    for i in range(len(records)):
        rows = records.boxes_of(i)
        xywh = np.tile(np.array(_xywh(records.boxes[rows])), (2, 1))
        xywh[:, :2] += generator.normal(0, 2, (len(xywh), 2))
        labels = np.tile(records.box_labels[rows], 2)
        metric.results[int(records.ids[i])] = np.column_stack([xywh, generator.random(len(xywh)), labels])
    return metric.compute


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def _peak_megabytes(work: Callable[[], Any]) -> float:
    """What Python and numpy allocate on the way, in a call of its own: watching takes time."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MEGA
    finally:
        tracemalloc.stop()
