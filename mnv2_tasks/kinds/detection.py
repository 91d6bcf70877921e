"""What only detection knows. A result is `Detections`. See `kinds.Kind`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_iou

from mnv2_tasks.boxes.postprocess import Suppress, corners, unpadded, within_input
from mnv2_tasks.contracts import (
    BoxTargets,
    DetectionBatch,
    Detections,
    Diagnosis,
    ExportedOutput,
    FoundBoxes,
    Frames,
    Sample,
)
from mnv2_tasks.drawing.annotations import draw_boxes
from mnv2_tasks.drawing.picture_files import file_name, write_picture
from mnv2_tasks.drawing.predictions import draw_detections

SCORE: str = "AP"
SCORE_TITLE: str = "AP@[.5:.95]"
CLASS_SCORES: str = "AP_per_class"
CLASS_SCORE_TITLE: str = "AP"
COUNTED: str = "boxes"
OUTPUTS = {
    "boxes": ExportedOutput("x0, y0, x1, y1 in pixels of the input; 0 beyond the count", ("detections", "4")),
    "scores": ExportedOutput("score of each box, 0 to 1, descending", ("detections",)),
    "labels": ExportedOutput("class of each box", ("detections",)),
    "counts": ExportedOutput("how many of the boxes there are", ()),
}
FIELDS: tuple[str, ...] = FoundBoxes._fields
FILES: str = "crops"
ANY_SIZE: bool = False  # the anchors and their number belong to one size


def collate(samples: Sequence[Sample], images: Tensor, image_ids: Tensor, frames: Frames) -> DetectionBatch:
    height, width = frames.input_size
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes = [torch.from_numpy(sample.boxes) / scale for sample in samples]
    labels = [torch.from_numpy(sample.box_labels) for sample in samples]
    return DetectionBatch(images, padded_targets(boxes, labels), image_ids, frames)


def padded_targets(boxes: list[Tensor], labels: list[Tensor]) -> BoxTargets:
    """The objects of each image, (n, 4) xyxy fractions and (n,) classes, padded to equal numbers."""
    counts = torch.tensor([len(of_image) for of_image in labels])
    padded = pad_sequence(labels, batch_first=True)  # (B, N)
    valid = torch.arange(padded.shape[1]) < counts[:, None]
    return BoxTargets(pad_sequence(boxes, batch_first=True), padded, valid)


def exported(output: Any, size: tuple[int, int], task: Any, suppress: Suppress) -> tuple[Tensor, ...]:
    return task.detect(output, partial(within_input, size=size), suppress)


def from_exported(outputs: Sequence[Tensor], frames: Frames) -> list[Detections]:
    """From pixels of the input to those of the images, which fill a part of it."""
    boxes, *rest = outputs
    scale, limit = corners(frames.original_sizes / frames.content_sizes), corners(frames.original_sizes)
    boxes = ((boxes - corners(frames.corners())) * scale).clamp(min=0)
    return unpadded(torch.minimum(boxes, limit), *rest)


def differences(ours: Detections, theirs: Detections) -> Iterator[tuple[str, float, str | None]]:
    boxes, scores, lost = compare_detections(ours, theirs)
    yield "largest difference of a score", scores, "score"
    yield "largest difference of a box, pixels", boxes, "box"
    yield "detections of one that the other lacks, share", lost, "lost"


def compare_detections(ours: Detections, theirs: Detections) -> tuple[float, float, float]:
    """Of one image: largest differences of sides and of scores among pairs, and the share of detections without a pair.

    A pair has the same class and overlaps by nine tenths. What scores within a thousandth of the last of the list is
    on its edge and needs none.
    """
    if not len(ours.scores) or not len(theirs.scores):
        lonely = len(ours.scores) + len(theirs.scores)
        return 0.0, 0.0, float(lonely > 0)
    overlap = box_iou(ours.boxes, theirs.boxes) * (ours.labels[:, None] == theirs.labels[None, :])
    best, index = overlap.max(dim=1)
    paired = best >= 0.9
    sides = (ours.boxes - theirs.boxes[index]).abs().amax(dim=1)[paired]
    scores = (ours.scores - theirs.scores[index]).abs()[paired]
    edge = max(float(ours.scores[-1]), float(theirs.scores[-1])) + 1e-3
    inner = [ours.scores > edge, theirs.scores > edge]
    lonely = int((~paired & inner[0]).sum()) + int(((overlap.max(dim=0).values < 0.9) & inner[1]).sum())
    share = lonely / max(1, int(inner[0].sum()) + int(inner[1].sum()))
    return _largest(sides), _largest(scores), share


def _largest(values: Tensor) -> float:
    return float(values.max()) if len(values) else 0.0


def resized(result: Detections, size: Sequence[int], original: Sequence[int]) -> Detections:
    factors = [original[1] / size[1], original[0] / size[0]] * 2
    return Detections(result.boxes.cpu() * torch.tensor(factors), result.scores.cpu(), result.labels.cpu())


def as_arrays(result: Detections, least: np.ndarray) -> FoundBoxes:
    kept = result.scores >= torch.from_numpy(least)[result.labels]
    return FoundBoxes(*(values[kept].numpy() for values in result))


def as_json(result: Detections | FoundBoxes, class_names: Sequence[str], min_score: float) -> list[dict[str, Any]]:
    """Boxes are xyxy pixels of the image."""
    rows = zip(result.labels.tolist(), result.scores.tolist(), result.boxes.tolist())
    return [
        {"class": class_names[label], "score": round(score, 4), "box": [round(side, 2) for side in box]}
        for label, score, box in rows
        if score >= min_score
    ]


def in_words(content: list[dict[str, Any]]) -> str:
    counts = Counter(found["class"] for found in content)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no object"


def write_files(result: FoundBoxes, content: list[dict[str, Any]], image: np.ndarray, folder: Path, stem: str) -> None:
    """What lies in each box as a picture of its own, in a folder for each class."""
    height, width = image.shape[:2]
    for number, (box, found) in enumerate(zip(result.boxes, content), start=1):
        x0, y0 = np.floor(box[:2]).astype(int).clip(0, [width - 1, height - 1])
        x1, y1 = np.ceil(box[2:]).astype(int).clip([x0 + 1, y0 + 1], [width, height])
        name = Path("crops", file_name(found["class"], "class"), f"{stem}_{number}.jpg")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(folder / name, image[y0:y1, x0:x1])
        found["crop"] = name.as_posix()


def draw(
    image: np.ndarray, result: Detections | FoundBoxes, class_names: Sequence[str], min_score: float
) -> np.ndarray:
    return draw_detections(image, result, class_names, min_score=min_score)


def draw_annotations(sample: Sample, class_names: Sequence[str]) -> np.ndarray:
    assert sample.boxes is not None and sample.box_labels is not None
    return draw_boxes(sample.image, sample.boxes, sample.box_labels, class_names)


def scores_in_words(name: str, scores: Mapping[str, Any], metric: Any) -> str:
    """COCO's twelve lines in their exact wording."""
    return metric.table


def remark(scores: Mapping[str, Any]) -> str:
    return ""


def conditions(task: Any, views: str) -> str:
    scores = task.get("scores", "objectness times softmax")
    of_class = f", {task.max_per_class} of a class" if task.get("max_per_class") else ""
    return (
        f"{scores} scores above {task.score_threshold}, best {task.candidates} into NMS at IoU "
        f"{task.iou_threshold}, {task.max_detections} detections per image{of_class}; COCO counts 100"
    )


def diagnosis(metric: Any, class_names: Sequence[str]) -> Diagnosis:
    from mnv2_tasks.kinds.box_charts import box_charts

    found = metric.diagnosis()
    looked_at, images = len(found.image_ids), len(metric.results)
    charts = box_charts(found, class_names, f"; {looked_at:,} of {images:,} images" if looked_at < images else "")
    score = f"F1 of the boxes that score {found.best_score:.2f} or more"
    return Diagnosis(charts, found.image_ids, found.image_f1, score, found.best_score)


def server_results(metric: Any) -> list[dict[str, Any]]:
    """With the data set's own image and category ids, as COCO's server takes them."""
    return metric.coco_results()


def thresholds(metric: Any) -> dict[str, float]:
    """Of the greatest F1 at IoU 0.5."""
    return metric.thresholds()
