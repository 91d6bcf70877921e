"""Non-maximum suppression whose shapes depend on no pixel, for graphs that are written to a file.

Candidates come sorted by score. Both ways give the indices of the survivors in that order, filled up to `count`.
"""

import torch
import torchvision
from torch import Tensor


def suppress_unrolled(
    boxes: Tensor, labels: Tensor, alive: Tensor, iou_threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """Greedy, written out in `count` rounds of plain tensor operations, for runtimes without an operator of their own.

    Args:
        boxes: (B, k, 4) xyxy of candidates, best first.
        labels: (B, k) int64; boxes of different classes never suppress each other.
        alive: (B, k) bool; the others are no candidates.

    Returns:
        (B, count) int64 indices of survivors, best first, and (B, count) bool: which of those count.
    """
    rival = _overlaps(boxes, iou_threshold) & (labels[:, :, None] == labels[:, None, :])  # (B, k, k)
    k = boxes.shape[1]
    rank = torch.arange(k, 0, -1, dtype=torch.float32, device=boxes.device)  # larger is better
    left = rank * alive.float()
    picks, valid = [], []
    for _ in range(count):
        best, pick = left.max(dim=1, keepdim=True)  # (B, 1)
        picks.append(pick)
        valid.append(best > 0)
        beaten = rival.gather(1, pick[..., None].expand(-1, 1, k))[:, 0]  # (B, k), the pick itself among them
        left = left * (~beaten).float()
    return torch.cat(picks, dim=1), torch.cat(valid, dim=1)


def suppress(boxes: Tensor, labels: Tensor, alive: Tensor, iou_threshold: float, count: int) -> tuple[Tensor, Tensor]:
    """The same by an operator `mnv2_tasks::survivors`, which the ONNX exporter writes as NonMaxSuppression."""
    span = boxes.amax(dim=(1, 2), keepdim=True) + 1
    apart = boxes + labels[..., None].to(boxes.dtype) * span  # classes never overlap
    k = boxes.shape[1]
    rank = torch.arange(k, 0, -1, dtype=torch.float32, device=boxes.device)
    kept = survivors(apart, rank * alive.float(), iou_threshold, count)
    best, picks = (rank * kept.float()).topk(count, dim=1)
    return picks, best > 0


@torch.library.custom_op("mnv2_tasks::survivors", mutates_args=())
def survivors(boxes: Tensor, ranks: Tensor, iou_threshold: float, count: int) -> Tensor:
    """(B, k, 4) boxes and (B, k) ranks, of which those above 0 are candidates -> (B, k) bool, at most `count` true."""
    kept = torch.zeros_like(ranks, dtype=torch.bool)
    for row, of_image, rank in zip(kept, boxes, ranks):
        candidates = (rank > 0).nonzero()[:, 0]
        picks = torchvision.ops.nms(of_image[candidates], rank[candidates], iou_threshold)[:count]
        row[candidates[picks]] = True
    return kept


@survivors.register_fake
def _(boxes: Tensor, ranks: Tensor, iou_threshold: float, count: int) -> Tensor:
    return torch.empty_like(ranks, dtype=torch.bool)


def _overlaps(boxes: Tensor, iou_threshold: float) -> Tensor:
    """(B, k, 4) -> (B, k, k) bool: the intersection over union exceeds the threshold, or it is the same box."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    union = area[:, :, None] + area[:, None, :] - shared
    same = torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device)
    return (shared > iou_threshold * union) | same
