"""How far a written file's results are from PyTorch's on the same pixels."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from mnv2_tasks.contracts import Frames, Model
from mnv2_tasks.kinds.kinds import KINDS
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
            for quantity, value, limit in KINDS[task.kind].differences(ours[name], theirs[name]):
                found.setdefault((name, quantity), []).append(value)
                limits[name, quantity] = getattr(allowed, limit) if allowed and limit else None
    whole = {key: max(v) if key[1].startswith("largest") else sum(v) / len(v) for key, v in found.items()}
    return [Difference(*key, value, limits[key]) for key, value in whole.items()]


def exceeding(found: Sequence[Difference]) -> list[str]:
    """Those beyond what is allowed, in words."""
    return [f"{d.task}, {d.quantity}: {d.value:.2g}" for d in found if d.allowed is not None and d.value > d.allowed]


def _pairs(network: Model, exported: Model, images: np.ndarray) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each image's results of both, by task; the first image is also looked at alone."""
    batches = [images[:1], *(images[start : start + BATCH] for start in range(0, len(images), BATCH))]
    for batch in batches:
        ours, theirs = results_of(network, batch), results_of(exported, batch)
        for i in range(len(batch)):
            yield {name: rows[i] for name, rows in ours.items()}, {name: rows[i] for name, rows in theirs.items()}


def results_of(model: Model, images: np.ndarray) -> dict[str, Any]:
    """By task, of (B, H, W, 3) uint8 that fill the network's input."""
    size = (images.shape[1], images.shape[2])
    sizes = torch.tensor([size] * len(images))
    with torch.inference_mode():
        return model.predict(images_tensor(images), Frames(size, sizes, sizes))
