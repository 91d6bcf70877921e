"""Samples of one kind of task -> its batch."""

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.contracts import (
    Batch,
    BoxTargets,
    ClassificationBatch,
    DetectionBatch,
    Sample,
    SegmentationBatch,
)

Item = tuple[Sample, tuple[int, int]]  # a transformed sample and its original (height, width)


def collate(kind: str, items: list[Item]) -> Batch:
    """Stack samples, whose images have one size, into the batch that this kind of task takes."""
    samples = [sample for sample, _ in items]
    ids = torch.tensor([sample.image_id for sample in samples])
    sizes = torch.tensor([size for _, size in items])
    images = images_tensor(np.stack([sample.image for sample in samples]))
    if kind == "classification":
        return ClassificationBatch(images, torch.tensor([sample.label for sample in samples]), ids, sizes)
    if kind == "detection":
        return DetectionBatch(images, [_targets(sample) for sample in samples], ids, sizes)
    masks = torch.from_numpy(np.stack([sample.mask for sample in samples])).long()
    return SegmentationBatch(images, masks, ids, sizes)


def images_tensor(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) uint8 that lies in memory channels-last: a view, no copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _targets(sample: Sample) -> BoxTargets:
    height, width = sample.image.shape[:2]
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    return BoxTargets(torch.from_numpy(sample.boxes) / scale, torch.from_numpy(sample.box_labels))
