"""Box regression targets (SSD paper, eq. 2; the variances of its released code)."""

import math

import torch
from torch import Tensor

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # TF writes their inverses: scales 10, 10, 5, 5
MAX_LOG_RATIO = math.log(1000.0 / 16)  # an untrained network must not overflow exp()


def centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 4) xyxy -> (..., 2) centres and (..., 2) sizes, both as x, y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Regression targets that move each anchor onto its box.

    Args:
        boxes: (..., 4) xyxy fractions, width and height > 0.
        anchors: (..., 4) xyxy fractions, row i belonging to box i.

    Returns:
        (..., 4): centre offsets over anchor size / 0.1, log size ratios / 0.2, both as x, y.
    """
    centre, size = centre_size(boxes)
    anchor_centre, anchor_size = centre_size(anchors)
    offset = (centre - anchor_centre) / anchor_size / CENTRE_VARIANCE
    return torch.cat([offset, torch.log(size / anchor_size) / SIZE_VARIANCE], dim=-1)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of `encode_boxes`: (..., 4) deltas and anchors -> (..., 4) xyxy fractions, not clipped."""
    anchor_centre, anchor_size = centre_size(anchors)
    centre = deltas[..., :2] * CENTRE_VARIANCE * anchor_size + anchor_centre
    half = torch.exp((deltas[..., 2:] * SIZE_VARIANCE).clamp(max=MAX_LOG_RATIO)) * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=-1)
