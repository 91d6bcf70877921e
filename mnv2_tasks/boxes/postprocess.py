"""Scores and boxes of a batch's anchors -> the boxes that a user sees."""

from collections.abc import Callable

import torch
from torch import Tensor

from mnv2_tasks.boxes.suppression import suppress
from mnv2_tasks.contracts import Detections, Frames

Suppress = Callable[[Tensor, Tensor, Tensor, float, int], tuple[Tensor, Tensor]]  # see suppression.suppress


def detect(
    confidence: Tensor,
    boxes_of: Callable[[Tensor], Tensor],
    suppress: Suppress = suppress,
    *,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    max_detections: int,
    max_per_class: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Class-wise non-maximum suppression of each image's best candidates over all anchors and classes.

    One flat top-k before a single class-offset NMS is several times faster than a loop over classes. No shape depends
    on a value, so that this is also what an exported file does.

    Args:
        confidence: (B, A, K) scores in [0, 1] of each anchor and class.
        boxes_of: (B, k) indices of anchors -> (B, k, 4) their boxes, xyxy pixels from 0 on.
        candidates: how many (anchor, class) pairs of an image enter the NMS.
        max_per_class: boxes of one class that are kept, before `max_detections` of all; None: as many as there are.

    Returns:
        boxes (B, M, 4) float32 xyxy pixels, M = max_detections or all candidates; beyond the counts all is 0
        scores (B, M) float32, descending
        labels (B, M) int64
        counts (B,) int64: how many of the M there are
    """
    num_classes = confidence.shape[-1]
    pairs = confidence.shape[1] * num_classes
    confidence, order = confidence.flatten(1).topk(min(candidates, pairs), dim=1)  # (B, k)
    anchor, labels = order // num_classes, order % num_classes
    boxes = boxes_of(anchor)
    alive, count = confidence > score_threshold, min(max_detections, boxes.shape[1])
    if max_per_class is None or max_per_class >= max_detections:
        picks, valid = suppress(boxes, labels, alive, iou_threshold, count)
    else:
        picks, valid = suppress(boxes, labels, alive, iou_threshold, boxes.shape[1])
        picks, valid = _fewer_of_each(picks, valid, labels.gather(1, picks), max_per_class, count)
    chosen = boxes.gather(1, picks[..., None].expand(-1, -1, 4)) * valid[..., None]
    return chosen, confidence.gather(1, picks) * valid, labels.gather(1, picks) * valid, valid.sum(dim=1)


def _fewer_of_each(picks: Tensor, valid: Tensor, labels: Tensor, most: int, count: int) -> tuple[Tensor, Tensor]:
    """Of survivors, best first, the first `most` of each class, and of these the first `count`."""
    same = (labels[:, :, None] == labels[:, None, :]) & valid[:, None, :]  # (B, survivors, survivors)
    kept = valid & (same.float().tril(-1).sum(dim=2) < most)  # how many better ones of its class there are
    rank = torch.arange(kept.shape[1], 0, -1, dtype=torch.float32, device=kept.device) * kept
    best, first = rank.topk(count, dim=1)
    return picks.gather(1, first), best > 0


def within_input(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 4) xyxy fractions of an input of (height, width) -> its pixels, clipped to it."""
    height, width = size
    corner = torch.tensor([width, height, width, height], dtype=torch.float32, device=boxes.device)
    return torch.minimum((boxes * corner).clamp(min=0), corner)


def within_images(boxes: Tensor, frames: Frames) -> Tensor:
    """(B, k, 4) xyxy fractions of the network's input -> pixels of each image, clipped to it.

    Args:
        frames: on the CPU.
    """
    contents, originals = frames.content_sizes, frames.original_sizes
    scale = originals / contents
    extents = torch.tensor(frames.input_size) / contents * originals
    sizes = (extents, frames.corners() * scale, originals)
    # they are few, and ready: the host need not wait until the device has them
    extent, origin, limit = (corners(of_images).to(boxes.device, non_blocking=True) for of_images in sizes)
    return torch.minimum((boxes * extent - origin).clamp(min=0), limit)


def corners(sizes: Tensor) -> Tensor:
    """(B, 2) heights and widths -> (B, 1, 4) float32 width, height, width, height."""
    return sizes.flip(1).repeat(1, 2)[:, None].float()


def unpadded(boxes: Tensor, scores: Tensor, labels: Tensor, counts: Tensor) -> list[Detections]:
    """What `detect` returned, image by image, on the CPU: all of a batch at once, and in float32, which labels fit."""
    found = torch.cat(
        [boxes, scores[..., None], labels[..., None], counts[:, None, None].expand_as(scores[..., None])], 2
    )
    found = found.cpu()
    kept = found[:, :1, 6].sum(dim=1).long().tolist()  # of no place at all too
    rows = zip(found[..., :4], found[..., 4], found[..., 5].long(), kept)
    return [Detections(b[:count], s[:count], classes[:count]) for b, s, classes, count in rows]
