"""How far a written file's results are from PyTorch's on the same pixels."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou

from mnv2_tasks.contracts import Detections, Frames, Model
from mnv2_tasks.loading.collate import images_tensor

BATCH = 4


class Difference(NamedTuple):
    task: str
    quantity: str
    value: float  # the largest, or the share
    allowed: float | None  # None: only told


class Allowed(NamedTuple):
    """Rounding moves what lies on an edge: a pixel between classes, a box at the threshold of the NMS."""

    score: float
    box: float  # pixels
    lost: float  # share of detections
    pixels: float  # share


ALLOWED = {
    "fp32": Allowed(score=1e-3, box=0.1, lost=0.005, pixels=0.001),
    "fp16": Allowed(score=2e-2, box=2.0, lost=0.05, pixels=0.01),
    "bf16": Allowed(score=1e-1, box=8.0, lost=0.15, pixels=0.03),
}


def differences(network: Model, exported: Model, images: np.ndarray, precision: str) -> list[Difference]:
    """Of every task, over images one by one and in batches.

    Args:
        images: (N, H, W, 3) uint8, fitted to the network's input.
    """
    allowed = ALLOWED.get(precision)
    found: dict[tuple[str, str], list[float]] = {}
    limits: dict[tuple[str, str], float | None] = {}
    for ours, theirs in _pairs(network, exported, images):
        for name, task in network.tasks.items():
            for quantity, value, limit in _compare(task.kind, ours[name], theirs[name], allowed):
                found.setdefault((name, quantity), []).append(value)
                limits[name, quantity] = limit
    whole = {key: max(v) if key[1].startswith("largest") else sum(v) / len(v) for key, v in found.items()}
    return [Difference(*key, value, limits[key]) for key, value in whole.items()]


def _pairs(network: Model, exported: Model, images: np.ndarray) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each image's results of both, by task; the first image is also looked at alone."""
    batches = [images[:1], *(images[start : start + BATCH] for start in range(0, len(images), BATCH))]
    for batch in batches:
        size = (batch.shape[1], batch.shape[2])
        sizes = torch.tensor([size] * len(batch))
        with torch.inference_mode():
            ours, theirs = (
                model.predict(images_tensor(batch), Frames(size, sizes, sizes)) for model in (network, exported)
            )
        for i in range(len(batch)):
            yield {name: rows[i] for name, rows in ours.items()}, {name: rows[i] for name, rows in theirs.items()}


def _compare(kind: str, ours: Any, theirs: Any, allowed: Allowed | None) -> Iterator[tuple[str, float, float | None]]:
    if kind == "classification":
        yield "largest difference of a probability", float((ours - theirs).abs().max()), allowed and allowed.score
        yield "images with another best class", float(ours.argmax() != theirs.argmax()), None
    elif kind == "segmentation":
        yield "pixels of another class, share", float((ours != theirs).double().mean()), allowed and allowed.pixels
    else:
        boxes, scores, lost = compare_detections(ours, theirs)
        yield "largest difference of a score", scores, allowed and allowed.score
        yield "largest difference of a box, pixels", boxes, allowed and allowed.box
        yield "detections of one that the other lacks, share", lost, allowed and allowed.lost


def compare_detections(ours: Detections, theirs: Detections) -> tuple[float, float, float]:
    """Of one image: largest differences of sides and of scores among pairs, and the share of detections without a pair.

    A pair has the same class and overlaps by nine tenths. What scores within a thousandth of the last of the list is
    on its edge and needs none.
    """
    if not len(ours.scores) or not len(theirs.scores):
        lonely = len(ours.scores) + len(theirs.scores)
        return 0.0, 0.0, float(lonely > 0)
    overlap = box_iou(ours.boxes, theirs.boxes) * (ours.labels[:, None] == theirs.labels[None, :])
    best, index = overlap.max(dim=1)
    paired = best >= 0.9
    sides = (ours.boxes - theirs.boxes[index]).abs().amax(dim=1)[paired]
    scores = (ours.scores - theirs.scores[index]).abs()[paired]
    edge = max(float(ours.scores[-1]), float(theirs.scores[-1])) + 1e-3
    inner = [ours.scores > edge, theirs.scores > edge]
    lonely = int((~paired & inner[0]).sum()) + int(((overlap.max(dim=0).values < 0.9) & inner[1]).sum())
    share = lonely / max(1, int(inner[0].sum()) + int(inner[1].sum()))
    return _largest(sides), _largest(scores), share


def _largest(values: torch.Tensor) -> float:
    return float(values.max()) if len(values) else 0.0
