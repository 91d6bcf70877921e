"""What to look at when a loss is not finite: the parts, the layer, the images, their boxes; and the batch, saved."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnv2_tasks.contracts import IGNORE, Batch, DetectionBatch, SegmentationBatch
from mnv2_tasks.whole_files import written_whole

SHOWN = 8  # images in the message; the saved batch has all


def not_finite(
    terms: dict[str, dict[str, Tensor]], batches: dict[str, Batch], step: int, folder: Path, layer: str
) -> str:
    """The message, after writing `<folder>/not_finite_step_<n>.pt`: {task: the fields of its batch}, readable with
    torch.load(weights_only=True).

    Args:
        terms: {task: {loss term: scalar}}.
        layer: the first whose results are not finite, see `first_not_finite`; "" where all are.
    """
    parts = {task: {name: float(value) for name, value in of_task.items()} for task, of_task in terms.items()}
    lines = [f"the loss is not finite at step {step}: {parts}"]
    lines += [f"  first in {layer}"] if layer else []
    for task, batch in batches.items():
        lines += [f"  {task}: images {batch.image_ids.tolist()}", *_contents(batch)]
    path = folder / f"not_finite_step_{step}.pt"
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        torch.save({task: plain(batch) for task, batch in batches.items()}, file)
    lines.append("Lower the learning rate (lr=...), or look at the boxes and masks of these images.")
    return "\n".join(lines) + f" The batch is saved: {path}."


def _contents(batch: Batch) -> list[str]:
    if isinstance(batch, DetectionBatch):
        rows = zip(batch.image_ids.tolist(), *batch.targets)
        return [
            f"    image {i}: labels {labels[valid].tolist()}, boxes as fractions {_rounded(boxes[valid])}"
            for i, boxes, labels, valid in list(rows)[:SHOWN]
        ]
    if isinstance(batch, SegmentationBatch):
        rows = zip(batch.image_ids.tolist(), batch.masks)
        return [
            f"    image {i}: classes {mask.unique().tolist()}, {(mask == IGNORE).float().mean():.0%} without class"
            for i, mask in list(rows)[:SHOWN]
        ]
    return [f"    labels {batch.labels.tolist()}"]


def _rounded(boxes: Tensor) -> list[list[float]]:
    return [[round(side, 4) for side in box] for box in boxes.tolist()]


def plain(batch: Any) -> Any:
    """Named tuples as dicts, tensors on the CPU: what a file of weights_only=True may hold."""
    if hasattr(batch, "_asdict"):
        return {name: plain(value) for name, value in batch._asdict().items()}
    if isinstance(batch, list | tuple):
        return [plain(value) for value in batch]
    return batch.detach().cpu() if isinstance(batch, Tensor) else batch
