"""Annotations, from a thousand to a million: reading, sending, ordering, verifying and evaluating them."""

import json
import os
import pickle
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from mnv2_tasks.bench.growth import MEGA, Growth, grow
from mnv2_tasks.data.reading.coco_json import read_coco_json
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data.reading.verify import verify_files
from mnv2_tasks.loading.samplers import TrainingSampler
from mnv2_tasks.metrics.coco_map import CocoMAP

PER_IMAGE = 7  # objects, as COCO has on average
SIDE, OBJECT = 64, 16  # of the pictures that annotations are for and of their objects, in pixels


def annotations(quick: bool, repeats: int) -> Growth:
    counts = (70, 700) if quick else (1_000, 10_000, 100_000, 1_000_000)
    some = [count for count in counts if count <= 100_000]  # a million need 140,000 files
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, MNV2_CACHE=f"{name}/cache"):
        folder = Path(name)
        Image.new("RGB", (SIDE, SIDE)).save(folder / "0.png")
        files = {count: _annotation_file(folder, count) for count in counts}
        read = partial(read_coco_json, pictures=folder, outlines=False)
        records = {count: read(files[count]).records for count in counts}
        once = 1  # a million of them take their time
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
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MEGA
    finally:
        tracemalloc.stop()
