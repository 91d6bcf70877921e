"""YOLOv2's boxes: where in its cell a box has its centre, and how much larger than its anchor it is.

A grid is (rows, columns). Rows of anchors are cell-major, then the anchors of a cell.
"""

import torch
from torch import Tensor

from mnv2_tasks.boxes.coding import MAX_LOG_RATIO, centre_size
from mnv2_tasks.boxes.matching import UNMATCHED


def responsible(boxes: Tensor, valid: Tensor, anchors: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which object each anchor answers for: in the cell of its centre, the anchor of the shape that overlaps it most.

    Args:
        boxes: (B, N, 4) xyxy fractions; N may be 0.
        valid: (B, N) bool; the other boxes are padding.
        anchors: (A, 4) xyxy fractions.

    Returns:
        (B, A) int64: index of the object, of several the last, or UNMATCHED.
    """
    rows, columns = grid
    of_cell = len(anchors) // (rows * columns)
    centres, sizes = centre_size(boxes)
    column, row = (
        (middle * cells).long().clamp(0, cells - 1) for middle, cells in zip(centres.unbind(-1), (columns, rows))
    )
    sizes, shapes = sizes[..., None, :], centre_size(anchors[:of_cell])[1]  # (B, N, 1, 2), (anchors of a cell, 2)
    shared = torch.minimum(sizes, shapes).prod(dim=-1)  # (B, N, anchors of a cell)
    best = (shared / (sizes.prod(dim=-1) + shapes.prod(dim=-1) - shared)).argmax(dim=-1)
    anchor = torch.where(valid, (row * columns + column) * of_cell + best, len(anchors))
    objects = torch.arange(valid.shape[1], device=boxes.device).expand_as(anchor)
    unmatched = objects.new_full((len(valid), len(anchors) + 1), UNMATCHED)
    return unmatched.scatter_reduce(1, anchor, objects, "amax")[:, :-1]


def encode_region(boxes: Tensor, anchors: Tensor, grid: tuple[int, int]) -> Tensor:
    """What `decode_region` makes these boxes of: x and y behind their sigmoid, in [0, 1], w and h before their exp.

    Args:
        boxes: (..., A, 4) xyxy fractions, one for each anchor; what has no size is finite, too.
        anchors: (A, 4) xyxy fractions.
    """
    rows, columns = grid
    cells = torch.arange(rows * columns, device=boxes.device).repeat_interleave(len(anchors) // (rows * columns))
    corner = torch.stack([cells % columns, cells // columns], dim=-1)  # (A, 2)
    centre, size = centre_size(boxes)
    place = centre * _placed([columns, rows], boxes) - corner
    return torch.cat([place, torch.log(size.clamp(min=1e-6) / centre_size(anchors)[1])], dim=-1)


def decode_region(deltas: Tensor, anchors: Tensor, grid: tuple[int, int]) -> Tensor:
    """Boxes of the network's output (YOLO9000, arXiv:1612.08242, figure 3).

    Args:
        deltas: (..., 4) x, y, w, h: the centre is sigmoid(x), sigmoid(y) of a cell from its corner, the size exp(w),
            exp(h) of the anchor's.
        anchors: (..., 4) xyxy fractions, each in the middle of its cell.
        grid: rows, columns.

    Returns:
        (..., 4) xyxy fractions, not clipped.
    """
    rows, columns = grid
    cell = _placed([1 / columns, 1 / rows], deltas)  # width, height
    middle, size = centre_size(anchors)
    centre = middle + (deltas[..., :2].sigmoid() - 0.5) * cell
    half = deltas[..., 2:].clamp(max=MAX_LOG_RATIO).exp() * size / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _placed(values: list[float], beside: Tensor) -> Tensor:
    """float32, where `beside` is, which the host does not wait for."""
    return torch.tensor(values, dtype=torch.float32).to(beside.device, non_blocking=True)


def reorg(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C * side**2, H / side, W / side), in darknet's own order of channels.

    It is not space to depth: darknet reads the map's memory as one of C / side**2 channels, `side` times as high and
    wide, and takes that apart (blas.c, reorg_cpu). Weights trained with it hang on the order.
    """
    b, c, h, w = x.shape
    x = x.reshape(b, c // side**2, h, side, w, side).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(b, c * side**2, h // side, w // side)
