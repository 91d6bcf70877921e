"""Object detection with SSD or SSDLite, and what any detector does with its scores and boxes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from mnv2_tasks.boxes.coding import decode_boxes
from mnv2_tasks.boxes.postprocess import Suppress, detect, unpadded, within_images
from mnv2_tasks.boxes.suppression import suppress
from mnv2_tasks.contracts import DetectionBatch, Detections, Frames, Head
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.metrics.coco_map import CocoMAP


class DetectionTask(nn.Module):
    """Multibox loss; class-wise NMS; COCO's twelve numbers.

    Args:
        head: returns an SSDOutput.
        loss: maps what the head returns and BoxTargets to named terms.
        ground_truth: the validation split in COCO's format; None where nothing is evaluated, as in predict.py.
        scores: "softmax" over K + 1 classes, or "sigmoid" of each, as TF's SSDLite weights were trained.
        score_threshold, iou_threshold, candidates, max_detections, max_per_class: see `detect`; all of them move AP.
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
        max_per_class: int | None = None,
    ):
        super().__init__()
        self.head = head
        self.class_names = class_names
        self.criterion = loss
        if scores not in ("softmax", "sigmoid"):
            raise ConfigError(f"scores={scores}: expected softmax or sigmoid")
        self.scores = scores
        self.postprocess = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "candidates": candidates,
            "max_detections": max_detections,
            "max_per_class": max_per_class,
        }
        nothing = {"images": [], "annotations": [], "categories": []}
        self.metric = CocoMAP(ground_truth or nothing, backend=backend)

    def loss(self, output: Any, batch: DetectionBatch) -> dict[str, Tensor]:
        return self.criterion(output, batch.targets)

    def confidence(self, output: Any) -> Tensor:
        """(B, A, K) scores of every anchor and class, background left out."""
        logits = output.class_logits.float()
        return (logits.softmax(dim=-1) if self.scores == "softmax" else logits.sigmoid())[..., :-1]

    def boxes(self, output: Any, anchors: Tensor) -> Tensor:
        """(B, k) indices of anchors -> (B, k, 4) their boxes, xyxy fractions of the network's input."""
        return decode_boxes(rows_of(output.box_deltas, anchors), output.anchors[anchors])

    def detect(
        self, output: Any, to_pixels: Callable[[Tensor], Tensor], suppress: Suppress = suppress
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes, scores, labels and counts, see `boxes.postprocess.detect`.

        Args:
            to_pixels: (B, k, 4) xyxy fractions of the network's input -> pixels, clipped.
        """
        confidence = self.confidence(output)
        return detect(confidence, lambda anchors: to_pixels(self.boxes(output, anchors)), suppress, **self.postprocess)

    def results(self, output: Any, frames: Frames) -> list[Detections]:
        """Boxes of each image in its original pixels."""
        return unpadded(*self.detect(output, partial(within_images, frames=frames)))


def rows_of(values: Tensor, anchors: Tensor) -> Tensor:
    """(B, A, 4), of which (B, k) anchors are picked -> (B, k, 4) float32."""
    return values.float().gather(1, anchors[..., None].expand(-1, -1, 4))
