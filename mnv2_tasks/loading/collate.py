"""Samples of one kind of task -> its batch."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.contracts import (
    IGNORE,
    Batch,
    BoxTargets,
    ClassificationBatch,
    DetectionBatch,
    Frames,
    Sample,
    SegmentationBatch,
)


class Item(NamedTuple):
    sample: Sample  # its image is the network's input
    content_size: tuple[int, int]  # height, width of the part of it that holds the image
    original_size: tuple[int, int]  # height, width of the image itself


def collate(kind: str, items: list[Item]) -> Batch:
    """Stack samples, whose images have one size, into the batch that this kind of task takes."""
    samples = [item.sample for item in items]
    ids = torch.tensor([sample.image_id for sample in samples])
    images = images_tensor(np.stack([sample.image for sample in samples]))
    height, width = images.shape[2:]
    contents, originals = (torch.tensor([getattr(item, name) for item in items]) for name in Item._fields[1:])
    frames = Frames((height, width), contents, originals)
    if kind == "classification":
        return ClassificationBatch(images, torch.tensor([sample.label for sample in samples]), ids, frames)
    if kind == "detection":
        return DetectionBatch(images, [_targets(sample) for sample in samples], ids, frames)
    return SegmentationBatch(images, _masks([sample.mask for sample in samples]), ids, frames)


def images_tensor(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) uint8 that lies in memory channels-last: a view, no copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _targets(sample: Sample) -> BoxTargets:
    height, width = sample.image.shape[:2]
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    return BoxTargets(torch.from_numpy(sample.boxes) / scale, torch.from_numpy(sample.box_labels))


def _masks(masks: list[np.ndarray]) -> Tensor:
    height, width = (max(mask.shape[axis] for mask in masks) for axis in (0, 1))
    padded = np.full((len(masks), height, width), IGNORE, np.uint8)
    for row, mask in zip(padded, masks):
        row[: mask.shape[0], : mask.shape[1]] = mask
    return torch.from_numpy(padded)
