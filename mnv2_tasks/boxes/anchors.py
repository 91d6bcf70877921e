"""Default boxes around the cells of feature maps: SSD's, in the layout of TF's `create_ssd_anchors`, and any others."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# TF's. Weights of before 0.2 were trained with these and do not say so: their meaning hangs on them
FIRST_MAP = [[0.1, 1.0], [0.2, 2.0], [0.2, 0.5]]  # 3 anchors (scale, width / height): the paper's count
RATIOS = [1.0, 2.0, 0.5, 3.0, 1 / 3]


def tf_scales(num_maps: int) -> list[float]:
    """Of each map but the first: evenly from TF's min_scale, 0.2, which is the first's, to its max_scale, 0.95."""
    return [round(0.2 + 0.75 * i / (num_maps - 1), 9) for i in range(1, num_maps)]


def anchor_shapes(
    first_map: Sequence[Sequence[float]] | None,
    scales: Sequence[float],
    ratios: Sequence[float] | Sequence[Sequence[float]],
    last_scale: float = 1.0,
) -> list[list[tuple[float, float]]]:
    """(scale, aspect ratio) of each anchor of a cell, for each map.

    Args:
        first_map: the (scale, ratio) of the first map's, as they are; None: the first map is like the others.
        scales: of the other maps. A scale is the side of a square of the anchor's area, the image's side being 1.
        ratios: width / height of the other maps' anchors, the same on all or a list for each. Each cell has one more,
            a square between its map's scale and the next one's, after the last scale `last_scale`.
    """
    of_each: Any = ratios if isinstance(ratios[0], Sequence) else [ratios] * len(scales)
    first = [] if first_map is None else [[(scale, ratio) for scale, ratio in first_map]]
    return first + [
        [(scale, ratio) for ratio in own] + [((scale * following) ** 0.5, 1.0)]
        for scale, following, own in zip(scales, [*scales[1:], last_scale], of_each, strict=True)
    ]


@lru_cache(maxsize=32)
def _cached(
    grids: tuple[tuple[int, int], ...],
    sizes_of_maps: tuple[tuple[tuple[float, float], ...], ...],
    cells: tuple[float, ...] | None,
) -> Tensor:
    anchors = []
    spans = grids if cells is None else [(across, across) for across in cells]
    for (height, width), (down, across), sizes in zip(grids, spans, sizes_of_maps, strict=True):
        y = (torch.arange(height) + 0.5) / down
        x = (torch.arange(width) + 0.5) / across
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flip(-1)  # (h, w, 2) as x, y
        half = torch.tensor([(w / 2, h / 2) for w, h in sizes])  # (a, 2) as x, y
        centres, half = torch.broadcast_tensors(centres[:, :, None], half)  # (h, w, a, 2)
        anchors.append(torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4))
    return torch.cat(anchors)


@torch.compiler.disable()  # nothing to compile in what is remembered
def grid_anchors(
    grids: Sequence[tuple[int, int]],
    sizes: Sequence[Sequence[tuple[float, float]]],
    cells: Sequence[float] | None = None,
) -> Tensor:
    """The anchors of feature maps with these (height, width), first map first, row by row, cell by cell.

    Args:
        sizes: (width, height) of a cell's anchors, for each map, as fractions of the image.
        cells: of each map, how many fill the image from side to side: 37.5 of 8 px in SSD300, whose map has 38. None:
            as many as the map has.

    Returns:
        (A, 4) float32 xyxy fractions on the CPU.
    """
    with torch.device("cpu"):  # also when the network is built on the meta device to be counted
        return _cached(tuple(grids), tuple(map(tuple, sizes)), None if cells is None else tuple(cells)).clone()


def ssd_anchors(
    grids: Sequence[tuple[int, int]],
    shapes: Sequence[Sequence[tuple[float, float]]] | None = None,
    cells: Sequence[float] | None = None,
) -> Tensor:
    """The anchors of feature maps with these (height, width), first map first, row by row, cell by cell.

    Anchors are fractions of the image and may reach beyond it (TF does not clip them either). On an image that is not
    square the aspect ratios are those of the image squeezed into a square, as the fixed-size resize does.

    Args:
        shapes: see `anchor_shapes`; None: TF's.
        cells: see `grid_anchors`.

    Returns:
        (A, 4) float32 xyxy fractions on the CPU.
    """
    shapes = shapes or anchor_shapes(FIRST_MAP, tf_scales(len(grids)), RATIOS)
    return grid_anchors(grids, [[(s * r**0.5, s / r**0.5) for s, r in of_map] for of_map in shapes], cells)
