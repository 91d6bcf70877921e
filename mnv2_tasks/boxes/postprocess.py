"""Scores and offsets of one image -> the boxes that a user sees."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mnv2_tasks.boxes.coding import decode_boxes
from mnv2_tasks.contracts import Detections


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
