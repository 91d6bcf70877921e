"""SSD's matching, loss and detections as version 0.1 had them, image by image, with shapes that depend on the data."""

import torch
import torch.nn.functional as F
from torchvision.ops import batched_nms, box_iou

from mnv2_tasks.boxes.coding import decode_boxes, encode_boxes
from mnv2_tasks.boxes.matching import UNMATCHED


def match_image(boxes, anchors, iou_threshold):
    """(N, 4) and (A, 4) -> (A,): rounds of the pairs that are each other's best."""
    if len(boxes) == 0:
        return torch.full((len(anchors),), UNMATCHED, dtype=torch.int64)
    iou = box_iou(boxes, anchors)
    best_iou, match = iou.max(dim=0)
    match = torch.where(best_iou >= iou_threshold, match, UNMATCHED)
    waiting = torch.arange(len(boxes))
    while len(waiting):
        best, anchor = iou.max(dim=1)
        mutual = (iou.argmax(dim=0)[anchor] == torch.arange(len(waiting))) & (best >= 0)
        if not mutual.any():
            break
        match[anchor[mutual]] = waiting[mutual]
        iou[:, anchor[mutual]] = -1.0
        iou, waiting = iou[~mutual], waiting[~mutual]
    return match


def multibox_loss(output, objects, *, iou_threshold, negatives_per_positive, min_negatives, box_weight, scores):
    """`objects`: (boxes, labels) of each image."""
    class_logits, box_deltas, anchors = output
    background = class_logits.shape[-1] - 1
    labels = class_logits.new_full(class_logits.shape[:2], background, dtype=torch.int64)
    matched_boxes = anchors.repeat(len(objects), 1, 1)
    for i, (boxes, classes) in enumerate(objects):
        match = match_image(boxes, anchors, iou_threshold)
        matched = match != UNMATCHED
        labels[i, matched] = classes[match[matched]]
        matched_boxes[i, matched] = boxes[match[matched]]
    positive = labels != background
    num_positives = positive.sum().clamp(min=1)
    if scores == "sigmoid":
        wanted = F.one_hot(labels, class_logits.shape[-1]).float()
        entropy = F.binary_cross_entropy_with_logits(class_logits, wanted, reduction="none").sum(-1)
    else:
        entropy = F.cross_entropy(class_logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    negatives = (negatives_per_positive * positive.sum(1, keepdim=True)).clamp(min=min_negatives)
    order = entropy.detach().masked_fill(positive, -torch.inf).argsort(dim=1, descending=True)
    counted = positive | ((order.argsort(dim=1) < negatives) & ~positive)
    wanted = encode_boxes(matched_boxes, anchors)[positive]
    box_loss = F.smooth_l1_loss(box_deltas[positive], wanted, reduction="sum")
    return {"class": (entropy * counted).sum() / num_positives, "box": box_weight * box_loss / num_positives}


def detect_image(
    class_logits,
    box_deltas,
    anchors,
    extent,
    original_size,
    *,
    scores,
    score_threshold,
    iou_threshold,
    candidates,
    max_detections,
):
    """`extent`, `original_size`: (2,) height and width. Returns boxes, scores and labels."""
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
    return boxes[keep], confidence[keep], labels[keep]
