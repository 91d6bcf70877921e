"""Object detection with YOLOv2."""

from typing import Any

from torch import Tensor, nn

from mnv2_tasks.boxes.cells import decode_region
from mnv2_tasks.contracts import Head, YOLOv2Output
from mnv2_tasks.tasks.detection import DetectionTask, rows_of


class YOLOv2Task(DetectionTask):
    """Region loss; a score is the objectness times the class's share of a softmax; the rest is as for any detector.

    Args:
        head: returns a YOLOv2Output.
        loss, ground_truth, score_threshold, iou_threshold, candidates, max_detections, backend: see `DetectionTask`.
    """

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
        backend: str,
    ):
        super().__init__(
            head=head, class_names=class_names, ground_truth=ground_truth, loss=loss, scores="softmax",
            score_threshold=score_threshold, iou_threshold=iou_threshold, candidates=candidates,
            max_detections=max_detections, backend=backend,
        )  # fmt: skip

    def confidence(self, output: YOLOv2Output) -> Tensor:
        return output.objectness.float().sigmoid()[..., None] * output.class_logits.float().softmax(dim=-1)

    def boxes(self, output: YOLOv2Output, anchors: Tensor) -> Tensor:
        return decode_region(rows_of(output.box_deltas, anchors), output.anchors[anchors], output.grid)
