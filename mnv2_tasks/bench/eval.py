"""what=eval: from predictions to numbers."""

from collections.abc import Iterable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from mnv2_tasks.bench.contestants import noise, our_batch
from mnv2_tasks.bench.turns import Turns, table_rows, take_turns
from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.metrics.coco_map import KEYS, CocoMAP
from mnv2_tasks.metrics.mean_iou import MeanIoU
from mnv2_tasks.network.latency import by_turns, times_as_fast

DETECTIONS, CATEGORIES, OBJECTS = 100, 80, 7.2  # of COCO: detections and objects of an image
SIDE, CLASSES = 513, 21  # of class maps


def measure(config: DictConfig) -> list[Table]:
    quick, repeats = config.quick, config.repeats
    return [
        coco(images=50 if quick else 5000, rounds=repeats or (1 if quick else 3)),
        segmentation(images=1 if quick else 4, rounds=repeats or (2 if quick else 15)),
    ]


def evaluated(backend: str, images: int, turns: Iterable[None]) -> list[float | None]:
    """A contestant, which returns COCO's numbers."""
    truth, results = coco_like(images)
    numbers: list[float | None] = []
    for _ in turns:
        numbers = coco_numbers(truth, results, backend)
    return numbers


def coco(images: int, rounds: int) -> Table:
    backends = {"pycocotools": "pycocotools", "ours: hotcoco": "hotcoco"}
    contestants = {name: partial(evaluated, backend, images) for name, backend in backends.items()}
    found = take_turns(contestants, rounds=rounds, warmup=0, threads=torch.get_num_threads())
    first = found["pycocotools"]

    def cells(name: str, turns: Turns) -> list[Any]:
        seconds = turns.percentile(50), median(turns.processor)
        ratios = turns.times_as_fast_as(first), turns.times_as_fast_as(first, processor=True)
        difference = None if isinstance(first, str) else _difference(first.answer, turns.answer)
        return [*seconds, *ratios, turns.peak(2**20), difference]

    return Table(
        f"COCO's twelve numbers of {images:,} images with {DETECTIONS} detections each",
        ["by", "wall, s", "processor, s", "faster by", "by processor", "peak, MiB", "numbers"],
        table_rows(found, cells),
        [
            f"Medians of {rounds} rounds by turns, each in a process of its own. From each image's detections as an "
            "array to the numbers, conversions included. The peak is beyond what the detections and objects take."
        ],
    )


def _difference(numbers: list[float | None], others: list[float | None]) -> str:
    largest = max(abs((a or 0) - (b or 0)) for a, b in zip(numbers, others))
    return "identical" if numbers == others else f"differ by {largest:.0e}"


def coco_like(images: int) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """A ground truth in COCO's format, 1 % of it crowds, and `CocoMAP.results`; scores have three digits, so tie."""
    rng = np.random.default_rng(0)
    count = round(images * OBJECTS)
    image_ids = np.sort(rng.choice(600_000, images, replace=False)) + 1
    owners, labels = np.sort(rng.integers(images, size=count)), rng.integers(CATEGORIES, size=count)
    boxes, crowd = _xywh(rng, count), rng.random(count) < 0.01
    areas = 0.7 * boxes[:, 2] * boxes[:, 3]
    rows = zip(image_ids[owners].tolist(), (labels + 1).tolist(), boxes.tolist(), areas.tolist(), crowd.tolist())
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in image_ids.tolist()],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(CATEGORIES)],
        "annotations": [
            {"id": number, "image_id": i, "category_id": label, "bbox": box, "area": area, "iscrowd": int(is_crowd)}
            for number, (i, label, box, area, is_crowd) in enumerate(rows, start=1)
        ],
    }
    results = {}
    ends = np.searchsorted(owners, np.arange(images + 1))
    for image_id, start, end in zip(image_ids.tolist(), ends, ends[1:]):
        near = np.repeat(np.arange(start, end), 3)[:DETECTIONS]  # three near each object, the rest anywhere
        found, classes = _xywh(rng, DETECTIONS), rng.integers(CATEGORIES, size=DETECTIONS)
        found[: len(near)] = boxes[near] * rng.normal(1, 0.05, (len(near), 4))
        classes[: len(near)] = labels[near]
        results[image_id] = np.column_stack([found, rng.random(DETECTIONS).round(3), classes])
    return truth, results


def _xywh(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.column_stack([rng.uniform(0, 500, (count, 2)), np.exp(rng.normal(4, 1, (count, 2)))])


def coco_numbers(truth: dict[str, Any], results: dict[int, np.ndarray], backend: str) -> list[float | None]:
    metric = CocoMAP(truth, backend=backend)
    metric.results = results
    numbers = metric.compute()
    return [numbers[key] for key in KEYS]


def segmentation(images: int, rounds: int) -> Table:
    torch.manual_seed(0)
    batch = our_batch("mobile_deeplabv3", noise(images, SIDE, CLASSES))
    chance, wrong = torch.rand(batch.masks.shape), torch.randint(0, CLASSES, batch.masks.shape)
    found = torch.where(chance < 0.2, wrong, batch.masks.long())
    masks = torch.where(chance > 0.95, IGNORE, batch.masks).byte()
    batch = batch._replace(masks=masks)

    def ours() -> Tensor:
        metric = MeanIoU([str(i) for i in range(CLASSES)])
        metric.update(list(found), batch)
        return torch.from_numpy(metric.confusion)

    def torchmetrics(*, validate_args: bool) -> Tensor:
        metric = MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE, validate_args=validate_args)
        metric.update(found, masks.long())
        return metric.confmat

    contestants = {"ours": ours, "torchmetrics, validate_args=False": partial(torchmetrics, validate_args=False)}
    contestants["torchmetrics"] = partial(torchmetrics, validate_args=True)
    seconds = by_turns(contestants, rounds=rounds, warmup=1)
    rows = []
    for name, taken in seconds.items():
        equal = "all" if torch.equal(contestants[name](), ours()) else "DIFFERENT"
        rows.append(["confusion", name, 1e3 * median(taken) / images, times_as_fast(seconds["ours"], taken), equal])
    return Table(
        f"Segmentation, {SIDE} x {SIDE} pixels, {CLASSES} classes, {images} images at once",
        ["what", "by", "ms/image", "ours is faster by", "equal to ours"],
        rows,
        [f"Medians of {rounds} rounds by turns. Ours also keeps each image's counts."],
        text_columns=2,
    )
