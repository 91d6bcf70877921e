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
    # Pairs that are each other's best are what best-first would take in the end: a few rounds instead of one per object
    waiting = torch.arange(len(boxes), device=boxes.device)
    while len(waiting):
        best, anchor = iou.max(dim=1)  # of each waiting object; among equals the first
        mutual = (iou.argmax(dim=0)[anchor] == torch.arange(len(waiting), device=boxes.device)) & (best >= 0)
        if not mutual.any():  # more objects than anchors
            break
        match[anchor[mutual]] = waiting[mutual]
        iou[:, anchor[mutual]] = -1.0
        iou, waiting = iou[~mutual], waiting[~mutual]
    return match
