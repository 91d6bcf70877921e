"""Non-maximum suppression of a batch, every shape known beforehand; exported files have further ways, export/nms.py."""

import torch
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

    A loop over images: all pairs of a batch at once, `suppress_looped`, take several times as long on a CPU.
    """
    kept = torch.zeros_like(ranks, dtype=torch.bool)
    for row, of_image, rank in zip(kept, boxes, ranks):
        candidates = rank.nonzero()[:, 0]
        picks = torchvision.ops.nms(of_image[candidates], rank[candidates], iou_threshold)[:count]
        row.index_fill_(0, candidates[picks], True)
    return kept


@survivors.register_fake
def _(boxes: Tensor, ranks: Tensor, iou_threshold: float, count: int) -> Tensor:
    return torch.empty_like(ranks, dtype=torch.bool)
