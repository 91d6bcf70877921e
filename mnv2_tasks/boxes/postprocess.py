"""Scores and offsets of a batch -> the boxes that a user sees."""

from collections.abc import Callable

import torch
from torch import Tensor

from mnv2_tasks.boxes.coding import decode_boxes
from mnv2_tasks.boxes.suppression import suppress
from mnv2_tasks.contracts import Detections, SSDOutput

Suppress = Callable[[Tensor, Tensor, Tensor, float, int], tuple[Tensor, Tensor]]  # see suppression.suppress


def detect(
    output: SSDOutput,
    extent: Tensor,
    limit: Tensor,
    suppress: Suppress = suppress,
    *,
    scores: str,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    max_detections: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Class-wise non-maximum suppression of each image's best candidates over all anchors and classes.

    One flat top-k before a single class-offset NMS is several times faster than a loop over classes. No shape depends
    on a value, so that this is also what an exported file does.

    Args:
        extent: xyxy of the corner of the network's input, (width, height, width, height), in the pixels wanted;
            (4,), or (B, 1, 4) of each image.
        limit: the same of the image's own corner, to which boxes are clipped.
        scores: "softmax" over all columns, or "sigmoid" of each class alone.
        candidates: how many (anchor, class) pairs of an image enter the NMS.

    Returns:
        boxes (B, M, 4) float32 xyxy pixels, M = max_detections or all candidates; beyond the counts all is 0
        scores (B, M) float32, descending
        labels (B, M) int64
        counts (B,) int64: how many of the M there are
    """
    logits = output.class_logits.float()
    confidence = (logits.softmax(dim=-1) if scores == "softmax" else logits.sigmoid())[..., :-1]  # (B, A, K)
    num_classes = confidence.shape[-1]
    pairs = confidence.shape[1] * num_classes
    confidence, order = confidence.flatten(1).topk(min(candidates, pairs), dim=1)  # (B, k)
    anchor, labels = order // num_classes, order % num_classes
    deltas = output.box_deltas.float().gather(1, anchor[..., None].expand(-1, -1, 4))
    boxes = torch.minimum((decode_boxes(deltas, output.anchors[anchor]) * extent).clamp(min=0), limit)
    count = min(max_detections, boxes.shape[1])
    picks, valid = suppress(boxes, labels, confidence > score_threshold, iou_threshold, count)
    chosen = boxes.gather(1, picks[..., None].expand(-1, -1, 4)) * valid[..., None]
    return chosen, confidence.gather(1, picks) * valid, labels.gather(1, picks) * valid, valid.sum(dim=1)


def corners(sizes: Tensor) -> Tensor:
    """(B, 2) heights and widths -> (B, 1, 4) float32, as `detect` takes them."""
    return sizes.flip(1).repeat(1, 2)[:, None].float()


def unpadded(boxes: Tensor, scores: Tensor, labels: Tensor, counts: Tensor) -> list[Detections]:
    """What `detect` returned, image by image."""
    rows = zip(boxes, scores, labels, counts.tolist())
    return [Detections(b[:count], s[:count], classes[:count]) for b, s, classes, count in rows]
