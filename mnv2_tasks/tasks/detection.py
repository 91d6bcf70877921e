"""Object detection with SSD or SSDLite."""

from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.boxes.postprocess import corners, detect, unpadded
from mnv2_tasks.contracts import DetectionBatch, Detections, Frames, Head, SSDOutput
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.metrics.coco_map import CocoMAP


class DetectionTask(nn.Module):
    """Multibox loss; class-wise NMS; COCO's twelve numbers.

    Args:
        head: returns an SSDOutput.
        loss: maps an SSDOutput and BoxTargets to named terms.
        ground_truth: the validation split in COCO's format; None where nothing is evaluated, as in predict.py.
        scores: "softmax" over K + 1 classes, or "sigmoid" of each, as TF's SSDLite weights were trained.
        score_threshold, iou_threshold, candidates, max_detections: see `detect`; all of them move AP.
        backend: what computes COCO's numbers, see `CocoMAP`.
    """

    kind = "detection"

    def __init__(
        self,
        *,
        head: Head,
        class_names: list[str],
        ground_truth: dict[str, Any] | None,
        loss: nn.Module,
        scores: str,
        score_threshold: float,
        iou_threshold: float,
        candidates: int,
        max_detections: int,
        backend: str,
    ):
        super().__init__()
        self.head = head
        self.class_names = class_names
        self.criterion = loss
        if scores not in ("softmax", "sigmoid"):
            raise ConfigError(f"scores={scores}: expected softmax or sigmoid")
        self.postprocess = {
            "scores": scores,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "candidates": candidates,
            "max_detections": max_detections,
        }
        nothing = {"images": [], "annotations": [], "categories": []}
        self.metric = CocoMAP(ground_truth or nothing, backend=backend)

    def loss(self, output: SSDOutput, batch: DetectionBatch) -> dict[str, Tensor]:
        return self.criterion(output, batch.targets)

    def results(self, output: SSDOutput, frames: Frames) -> list[Detections]:
        """Boxes of each image in its original pixels."""
        # the network's whole input, of which the image may fill a part, in pixels of the image
        extents = torch.tensor(frames.input_size) / frames.content_sizes.cpu() * frames.original_sizes.cpu()
        extent, limit = (corners(sizes).to(output.anchors.device) for sizes in (extents, frames.original_sizes))
        return unpadded(*detect(output, extent, limit, **self.postprocess))
