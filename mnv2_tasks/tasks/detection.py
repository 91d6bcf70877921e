"""Object detection with SSD or SSDLite."""

from typing import Any

from torch import Tensor, nn

from mnv2_tasks.boxes.postprocess import detect
from mnv2_tasks.contracts import DetectionBatch, Detections, Head
from mnv2_tasks.metrics.coco_map import CocoMAP


class DetectionTask(nn.Module):
    """Multibox loss; class-wise NMS; COCO's twelve numbers.

    Args:
        head: returns an SSDOutput.
        loss: maps an SSDOutput and a list of BoxTargets to named terms.
        ground_truth: the validation split in COCO's format; None where nothing is evaluated, as in predict.py.
        score_threshold, iou_threshold, candidates, max_detections: see `detect`; all of them move AP.
    """

    kind = "detection"

    def __init__(
        self,
        *,
        head: Head,
        class_names: list[str],
        ground_truth: dict[str, Any] | None,
        loss: nn.Module,
        score_threshold: float,
        iou_threshold: float,
        candidates: int,
        max_detections: int,
    ):
        super().__init__()
        self.head = head
        self.class_names = class_names
        self.multibox_loss = loss
        self.postprocess = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "candidates": candidates,
            "max_detections": max_detections,
        }
        self.metric = CocoMAP(ground_truth or {"images": [], "annotations": [], "categories": []})

    def loss(self, features: dict[str, Tensor], batch: DetectionBatch) -> dict[str, Tensor]:
        return self.multibox_loss(self.head(features), batch.targets)

    def predict(self, features: dict[str, Tensor], original_sizes: Tensor) -> list[Detections]:
        """Boxes of each image in its original pixels."""
        output = self.head(features)
        return [
            detect(logits, deltas, output.anchors, size, **self.postprocess)
            for logits, deltas, size in zip(output.class_logits, output.box_deltas, original_sizes)
        ]
