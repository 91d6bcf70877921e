"""Samples of one kind of task -> its batch."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    contents = torch.tensor([item.content_size for item in items])
    originals = torch.tensor([item.original_size for item in items])
    frames = Frames((height, width), contents, originals)
    if kind == "classification":
        return ClassificationBatch(images, torch.tensor([sample.label for sample in samples]), ids, frames)
    if kind == "detection":
        scale = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = [torch.from_numpy(sample.boxes) / scale for sample in samples]
        labels = [torch.from_numpy(sample.box_labels) for sample in samples]
        return DetectionBatch(images, padded_targets(boxes, labels), ids, frames)
    return SegmentationBatch(images, _masks([sample.mask for sample in samples]), ids, frames)


def images_tensor(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) uint8 that lies in memory channels-last: a view, no copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def padded_targets(boxes: list[Tensor], labels: list[Tensor]) -> BoxTargets:
    """The objects of each image, (n, 4) xyxy fractions and (n,) classes, padded to equal numbers."""
    counts = torch.tensor([len(of_image) for of_image in labels])
    padded = pad_sequence(labels, batch_first=True)  # (B, N)
    valid = torch.arange(padded.shape[1]) < counts[:, None]
    return BoxTargets(pad_sequence(boxes, batch_first=True), padded, valid)


def _masks(masks: list[np.ndarray]) -> Tensor:
    height, width = (max(mask.shape[axis] for mask in masks) for axis in (0, 1))
    padded = np.full((len(masks), height, width), IGNORE, np.uint8)
    for row, mask in zip(padded, masks):
        row[: mask.shape[0], : mask.shape[1]] = mask
    return torch.from_numpy(padded)
