"""Non-maximum suppression of a batch, every shape known beforehand; exported files have further ways, export/nms.py."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def suppress(boxes: Tensor, labels: Tensor, alive: Tensor, iou_threshold: float, count: int) -> tuple[Tensor, Tensor]:
    """Keep what overlaps no better one of its class by more than `iou_threshold`.

    It is an operator, `mnv2_tasks::survivors`, which the ONNX exporter writes as NonMaxSuppression.

    Args:
        boxes: (B, k, 4) xyxy of candidates, best first, no side below 0.
        labels: (B, k) int64; boxes of different classes never suppress each other.
        alive: (B, k) bool; the others are no candidates.
        count: at most k.

    Returns:
        (B, count) int64 indices of survivors, best first, and (B, count) bool: which of those count.
    """
    counts = alive.float()
    span = (boxes * counts[..., None]).flatten(1).amax(dim=1)[:, None] + 1
    by_class = boxes + (labels.float() * span)[..., None]  # classes never overlap
    rank = torch.arange(boxes.shape[1], 0, -1, dtype=torch.float32, device=boxes.device)
    kept = survivors(by_class, rank * counts, iou_threshold, count)
    best, picks = (rank * kept).topk(count, dim=1)
    return picks, best > 0


@torch.library.custom_op("mnv2_tasks::survivors", mutates_args=())
def survivors(boxes: Tensor, ranks: Tensor, iou_threshold: float, count: int) -> Tensor:
    """(B, k, 4) boxes and (B, k) ranks, 0 of what is no candidate, else above it -> (B, k) bool, at most `count` true.

    A loop over images: all pairs of a batch at once take several times as long on a CPU.
    """
    kept = torch.zeros_like(ranks, dtype=torch.bool)
    for row, of_image, rank in zip(kept, boxes, ranks):
        candidates = rank.nonzero()[:, 0]
        picks = torchvision.ops.nms(of_image[candidates], rank[candidates], iou_threshold)[:count]
        row.index_fill_(0, candidates[picks], True)
    return kept


@survivors.register_kernel("cuda")
def survivors_at_once(boxes: Tensor, ranks: Tensor, iou_threshold: float, count: int) -> Tensor:
    """The same without a number that the host would wait for: greedy, for all images of the batch at once."""
    left, top, right, bottom = boxes.unbind(-1)  # (B, k)
    areas = (right - left) * (bottom - top)

    def pairs(function: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
        return function(values[:, :, None], values[:, None, :])

    width = (pairs(torch.minimum, right) - pairs(torch.maximum, left)).clamp(min=0)
    shared = width * (pairs(torch.minimum, bottom) - pairs(torch.maximum, top)).clamp(min=0)
    # in double, as torchvision compares with the threshold
    spared = ~((shared / (pairs(torch.add, areas) - shared)).double() > iou_threshold)  # (B, k, k)
    k = ranks.shape[1]
    kept = F.pad(torch.zeros_like(ranks, dtype=torch.bool), (0, 1))  # the last column is of those that find none
    for _ in range(count):
        rank, pick = ranks.max(dim=1, keepdim=True)
        kept.scatter_(1, torch.where(rank > 0, pick, k), True)
        ranks = (ranks * spared.gather(1, pick[..., None].expand(-1, -1, k))[:, 0]).scatter(1, pick, 0)
    return kept[:, :-1].contiguous()


@survivors.register_fake
def _(boxes: Tensor, ranks: Tensor, iou_threshold: float, count: int) -> Tensor:
    return torch.empty_like(ranks, dtype=torch.bool)
