"""SSD's default boxes, in the layout of TF's `create_ssd_anchors`."""

from functools import lru_cache

import torch
from torch import Tensor

MIN_SCALE, MAX_SCALE = 0.2, 0.95
FIRST_MAP = [
    (0.1, 1.0),
    (MIN_SCALE, 2.0),
    (MIN_SCALE, 0.5),
]  # 3 anchors (scale, width / height): the paper's count
ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)


def _shapes(num_maps: int) -> list[list[tuple[float, float]]]:
    """(scale, aspect ratio) of each anchor of a cell, for each map."""
    step = (MAX_SCALE - MIN_SCALE) / (num_maps - 1)
    scales = [MIN_SCALE + step * i for i in range(num_maps)] + [1.0]
    return [FIRST_MAP] + [
        [(scale, ratio) for ratio in ASPECT_RATIOS] + [((scale * following) ** 0.5, 1.0)]
        for scale, following in zip(scales[1:], scales[2:])
    ]


def anchors_per_cell(num_maps: int) -> list[int]:
    """3 on the first map, 6 on each other."""
    return [len(shapes) for shapes in _shapes(num_maps)]


@lru_cache(maxsize=32)
def _cached(grids: tuple[tuple[int, int], ...]) -> Tensor:
    anchors = []
    for (height, width), shapes in zip(grids, _shapes(len(grids))):
        y = (torch.arange(height) + 0.5) / height
        x = (torch.arange(width) + 0.5) / width
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flip(-1)  # (h, w, 2) as x, y
        half = torch.tensor([(s * r**0.5 / 2, s / r**0.5 / 2) for s, r in shapes])  # (a, 2) as x, y
        centres, half = torch.broadcast_tensors(centres[:, :, None], half)  # (h, w, a, 2)
        anchors.append(torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4))
    return torch.cat(anchors)


@torch.compiler.disable()  # nothing to compile in what is remembered
def ssd_anchors(grids: list[tuple[int, int]]) -> Tensor:
    """The anchors of feature maps with these (height, width), first map first, row by row, cell by cell.

    Anchors are fractions of the image and may reach beyond it (TF does not clip them either). On an image that is not
    square the aspect ratios are those of the image squeezed into a square, as the fixed-size resize does.

    Returns:
        (A, 4) float32 xyxy fractions on the CPU.
    """
    with torch.device("cpu"):  # also when the network is built on the meta device to be counted
        return _cached(tuple(grids)).clone()
