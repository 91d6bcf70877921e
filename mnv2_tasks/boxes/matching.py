"""Which anchor answers for which object (SSD paper, section 2.2)."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

UNMATCHED = -1


def match_anchors(boxes: Tensor, anchors: Tensor, iou_threshold: float) -> Tensor:
    """Give every anchor the object it overlaps most, if by `iou_threshold`, and every object its best anchor.

    The forced matches are made greedily, best pair first, each anchor serving one object, as in the SSD authors' code:
    taking every object's arg max at once would let the later of two objects steal the earlier one's only anchor.

    Args:
        boxes: (N, 4) xyxy fractions; N may be 0.
        anchors: (A, 4) xyxy fractions.

    Returns:
        (A,) int64: index of the object, or UNMATCHED.
    """
    if len(boxes) == 0:
        return torch.full((len(anchors),), UNMATCHED, dtype=torch.int64, device=anchors.device)
    iou = box_iou(boxes, anchors)  # (N, A)
    best_iou, match = iou.max(dim=0)
    match = torch.where(best_iou >= iou_threshold, match, UNMATCHED)
    for _ in range(min(iou.shape)):
        pair = iou.argmax()
        box, anchor = pair // len(anchors), pair % len(anchors)
        match[anchor] = box
        iou[box], iou[:, anchor] = -1.0, -1.0
    return match
