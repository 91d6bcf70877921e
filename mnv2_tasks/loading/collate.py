"""Samples of one kind of task -> its batch."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.contracts import Batch, Frames, Sample
from mnv2_tasks.kinds.kinds import KINDS


class Item(NamedTuple):
    sample: Sample  # its image is the network's input
    content_size: tuple[int, int]  # height, width of the part of it that holds the image
    original_size: tuple[int, int]  # height, width of the image itself
    offset: tuple[int, int] = (0, 0)  # top, left of that part


def collate(kind: str, items: list[Item]) -> Batch:
    """Stack samples, whose images have one size, into the batch that this kind of task takes."""
    samples = [item.sample for item in items]
    ids = torch.tensor([sample.image_id for sample in samples])
    images = images_tensor(np.stack([sample.image for sample in samples]))
    height, width = images.shape[2:]
    places = zip(*((item.content_size, item.original_size, item.offset) for item in items))
    frames = Frames((height, width), *map(torch.tensor, places))
    return KINDS[kind].collate(samples, images, ids, frames)


def images_tensor(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) uint8 that lies in memory channels-last: a view, no copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)
