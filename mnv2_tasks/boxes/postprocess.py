"""Scores and offsets of one image -> the boxes that a user sees."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mnv2_tasks.boxes.coding import decode_boxes
from mnv2_tasks.contracts import Detections, SSDOutput


def detect(
    class_logits: Tensor,
    box_deltas: Tensor,
    anchors: Tensor,
    extent: Tensor,
    original_size: Tensor,
    *,
    scores: str,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    max_detections: int,
) -> Detections:
    """Class-wise non-maximum suppression of the best candidates over all anchors and classes.

    One flat top-k before a single class-offset NMS is several times faster than a loop over classes.

    Args:
        class_logits: (A, K + 1), background last.
        box_deltas: (A, 4).
        anchors: (A, 4) xyxy fractions.
        extent: (2,) height and width of the network's whole input in pixels of the original image.
        original_size: (2,) height and width of the image in pixels; boxes are clipped to it.
        scores: "softmax" over all columns, or "sigmoid" of each class alone.
        candidates: how many (anchor, class) pairs enter the NMS.
    """
    logits = class_logits.float()
    confidence = (logits.softmax(dim=-1) if scores == "softmax" else logits.sigmoid())[:, :-1]  # (A, K)
    num_classes = confidence.shape[1]
    confidence, order = confidence.flatten().topk(min(candidates, confidence.numel()))
    keep = confidence > score_threshold
    confidence, order = confidence[keep], order[keep]
    anchor, labels = order // num_classes, order % num_classes
    scale, limit = (size.flip(0).repeat(2).to(box_deltas.device, torch.float32) for size in (extent, original_size))
    boxes = (decode_boxes(box_deltas[anchor].float(), anchors[anchor]) * scale).clamp(min=0)  # xyxy pixels
    boxes = torch.minimum(boxes, limit)
    keep = batched_nms(boxes, confidence, labels, iou_threshold)[:max_detections]
    return Detections(boxes[keep], confidence[keep], labels[keep])


def detect_batch(
    output: SSDOutput,
    size: tuple[int, int],
    suppress: Callable[[Tensor, Tensor, Tensor, float, int], tuple[Tensor, Tensor]],
    *,
    scores: str,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    max_detections: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`detect` for a batch, every shape known beforehand.

    Returns:
        boxes (B, M, 4) float32 xyxy pixels of the input, M = max_detections; beyond the counts all is 0
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
    height, width = size
    limit = torch.tensor([width, height, width, height], dtype=torch.float32, device=logits.device)
    boxes = torch.minimum((decode_boxes(deltas, output.anchors[anchor]) * limit).clamp(min=0), limit)
    count = min(max_detections, boxes.shape[1])
    picks, valid = suppress(boxes, labels, confidence > score_threshold, iou_threshold, count)
    chosen = boxes.gather(1, picks[..., None].expand(-1, -1, 4)) * valid[..., None]
    return chosen, confidence.gather(1, picks) * valid, labels.gather(1, picks) * valid, valid.sum(dim=1)
