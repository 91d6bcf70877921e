"""COCO's twelve numbers by several implementations, of boxes in the numbers of COCO's validation split."""

import contextlib
import importlib.util
import io
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from mnv2_tasks.drawing.table import Table
from mnv2_tasks.metrics.coco_map import KEYS, CocoMAP

DETECTIONS, CLASSES, OBJECTS = 100, 80, 7.2  # detections and objects of an image


class Evaluated(NamedTuple):
    numbers: list[float | None]
    wall: float  # seconds
    processor: float  # of all threads
    memory: float | None  # MiB, beyond what the detections and the ground truth take


def by_hotcoco(truth: dict[str, Any], results: dict[int, Any]) -> list[float | None]:
    return _by_metric(CocoMAP(truth), results)


def by_pycocotools(truth: dict[str, Any], results: dict[int, Any]) -> list[float | None]:
    return _by_metric(CocoMAP(truth, backend="pycocotools"), results)


def _by_metric(metric: CocoMAP, results: dict[int, Any]) -> list[float | None]:
    metric.results = results
    numbers = metric.compute()
    return [numbers[key] for key in KEYS]


def by_faster_coco_eval(truth: dict[str, Any], results: dict[int, Any]) -> list[float | None]:
    from faster_coco_eval import COCO, COCOeval_faster  # pyright: ignore[reportMissingImports]

    metric = CocoMAP(truth)
    metric.results = results
    objects = COCO(truth)
    evaluation = COCOeval_faster(objects, objects.loadRes(metric.coco_results()), "bbox")
    evaluation.run()
    return [None if value < 0 else float(value) for value in evaluation.stats[: len(KEYS)]]


def evaluated(evaluate: Callable[..., list[float | None]], images: int) -> Evaluated:
    truth, results = coco_like(images)
    before = _memory("VmRSS")
    wall, processor = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        numbers = evaluate(truth, results)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = _memory("VmHWM")
    return Evaluated(numbers, wall, processor, peak - before if peak and before else None)


def _memory(field: str) -> float | None:
    """MiB of this process; None where the system has no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def coco(images: int, rounds: int) -> Table:
    contestants = {"pycocotools": by_pycocotools, "ours: hotcoco": by_hotcoco}
    if importlib.util.find_spec("faster_coco_eval"):
        contestants["faster-coco-eval"] = by_faster_coco_eval
    taken: dict[str, list[Evaluated]] = {name: [] for name in contestants}
    fresh = multiprocessing.get_context("spawn")
    for _ in range(rounds):
        for name, evaluate in contestants.items():
            with ProcessPoolExecutor(1, mp_context=fresh) as process:
                taken[name].append(process.submit(evaluated, evaluate, images).result())
    base = taken["pycocotools"]
    table = Table(
        f"COCO's twelve numbers of {images:,} images with {DETECTIONS} detections each",
        ["by", "wall, s", "processor, s", "faster by", "by processor", "peak, MiB", "numbers"],
        notes=[
            f"Medians of {rounds} rounds by turns, each in a process of its own. From each image's detections as an "
            "array to the numbers, conversions included. The peak is beyond what the detections and objects take."
        ],
    )
    for name, rows in taken.items():
        memory = [row.memory for row in rows if row.memory is not None]
        table.rows.append(
            [
                name,
                median(row.wall for row in rows),
                median(row.processor for row in rows),
                median(b.wall / row.wall for b, row in zip(base, rows)),
                median(b.processor / row.processor for b, row in zip(base, rows)),
                round(max(memory)) if memory else None,
                _difference(base[0].numbers, rows[0].numbers),
            ]
        )
    return table


def _difference(numbers: list[float | None], others: list[float | None]) -> str:
    largest = max(abs((a or 0) - (b or 0)) for a, b in zip(numbers, others))
    return "identical" if numbers == others else f"differ by {largest:.0e}"


def coco_like(images: int) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """A ground truth in COCO's format, 1 % of it crowds, and `CocoMAP.results`; scores have three digits, so tie."""
    rng = np.random.default_rng(0)
    count = round(images * OBJECTS)
    image_ids = np.sort(rng.choice(600_000, images, replace=False)) + 1
    image, labels = np.sort(rng.integers(images, size=count)), rng.integers(CLASSES, size=count)
    boxes = np.concatenate([rng.uniform(0, 500, (count, 2)), np.exp(rng.normal(4, 1, (count, 2)))], axis=1)  # xywh
    areas, crowd = 0.7 * boxes[:, 2] * boxes[:, 3], rng.random(count) < 0.01
    rows = zip(image_ids[image].tolist(), (labels + 1).tolist(), boxes.tolist(), areas.tolist(), crowd.tolist())
    truth = {
        "images": [{"id": i, "height": 480, "width": 640} for i in image_ids.tolist()],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)],
        "annotations": [
            {"id": number, "image_id": i, "category_id": label, "bbox": box, "area": area, "iscrowd": int(is_crowd)}
            for number, (i, label, box, area, is_crowd) in enumerate(rows, start=1)
        ],
    }
    results = {}
    for index, image_id in enumerate(image_ids.tolist()):
        own = np.repeat(np.flatnonzero(image == index), 3)[:DETECTIONS]  # three near each object, the rest anywhere
        found = np.concatenate(
            [rng.uniform(0, 500, (DETECTIONS, 2)), np.exp(rng.normal(4, 1, (DETECTIONS, 2)))], axis=1
        )
        classes = rng.integers(CLASSES, size=DETECTIONS)
        found[: len(own)] = boxes[own] * rng.normal(1, 0.05, (len(own), 4))
        classes[: len(own)] = labels[own]
        scores = np.sort(rng.random(DETECTIONS).round(3))[::-1]
        shuffled = rng.permutation(DETECTIONS)
        results[image_id] = np.column_stack([found[shuffled], scores, classes[shuffled]])
    return truth, results
