"""What only segmentation knows. A result is a (H, W) class map. See `kinds.Kind`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mnv2_tasks.contracts import IGNORE, Diagnosis, ExportedOutput, Frames, Sample, SegmentationBatch
from mnv2_tasks.drawing.picture_files import write_mask
from mnv2_tasks.drawing.predictions import draw_mask

SCORE: str = "mIoU"
SCORE_TITLE: str = "mIoU"
CLASS_SCORES: str = "IoU"
CLASS_SCORE_TITLE: str = "IoU"
COUNTED: str = "pixels"
OUTPUTS = {"class_map": ExportedOutput("class of each pixel of the input", ("height", "width"))}
FIELDS: tuple[str, ...] = ("mask",)
FILES: str = "masks"
ANY_SIZE: bool = True


def collate(samples: Sequence[Sample], images: Tensor, image_ids: Tensor, frames: Frames) -> SegmentationBatch:
    """Masks of several sizes are padded with IGNORE at the right and below."""
    masks = [sample.mask for sample in samples if sample.mask is not None]
    height, width = (max(mask.shape[axis] for mask in masks) for axis in (0, 1))
    padded = np.full((len(masks), height, width), IGNORE, np.uint8)
    for row, mask in zip(padded, masks, strict=True):
        row[: mask.shape[0], : mask.shape[1]] = mask
    return SegmentationBatch(images, torch.from_numpy(padded), image_ids, frames)


def exported(output: Tensor, size: tuple[int, int], task: Any, suppress: Any) -> tuple[Tensor, ...]:
    logits = F.interpolate(output.float(), size=size, mode="bilinear", align_corners=True)
    return (logits.max(dim=1).indices.to(torch.uint8),)


def from_exported(outputs: Sequence[Tensor], frames: Frames) -> list[Tensor]:
    """Class maps have the input's size and are resized to nearest neighbours."""
    rows = zip(outputs[0], frames.corners(), frames.content_sizes, frames.original_sizes)
    return [_fitted(*row) for row in rows]


def _fitted(class_map: Tensor, corner: Tensor, content: Tensor, original: Tensor) -> Tensor:
    cut = class_map[corner[0] : corner[0] + content[0], corner[1] : corner[1] + content[1]]
    if cut.shape != tuple(original.tolist()):
        cut = F.interpolate(cut[None, None].float(), size=tuple(original.tolist()), mode="nearest")[0, 0]
    return cut.long()


def differences(ours: Tensor, theirs: Tensor) -> Iterator[tuple[str, float, str | None]]:
    yield "pixels of another class, share", float((ours != theirs).double().mean()), "pixels"


def resized(result: Tensor, size: Sequence[int], original: Sequence[int]) -> np.ndarray:
    """(H, W) uint8."""
    class_map = result.to(torch.uint8).cpu().numpy()
    return cv2.resize(class_map, (original[1], original[0]), interpolation=cv2.INTER_NEAREST)


def as_arrays(result: np.ndarray, least: np.ndarray) -> np.ndarray:
    return result


def as_json(result: np.ndarray, class_names: Sequence[str], min_score: float) -> dict[str, Any]:
    """Each class's share of the pixels."""
    shares = np.bincount(result.ravel(), minlength=len(class_names)) / result.size
    return {"classes": {name: round(share, 6) for name, share in zip(class_names, shares.tolist()) if share}}


def in_words(content: dict[str, Any]) -> str:
    shares = sorted(((share, name) for name, share in content["classes"].items()), reverse=True)
    return ", ".join(f"{share:.0%} {name}" for share, name in shares if share >= 0.005)


def write_files(result: np.ndarray, content: dict[str, Any], image: np.ndarray, folder: Path, stem: str) -> None:
    """The class map as a PNG."""
    content["mask"] = f"{stem}_mask.png"
    write_mask(folder / content["mask"], result)


def draw(image: np.ndarray, result: Any, class_names: Sequence[str], min_score: float) -> np.ndarray:
    return draw_mask(image, result, class_names)


def draw_annotations(sample: Sample, class_names: Sequence[str]) -> np.ndarray:
    assert sample.mask is not None
    return draw_mask(sample.image, sample.mask, class_names)


def scores_in_words(name: str, scores: Mapping[str, Any], metric: Any) -> str:
    words = remark(scores)
    return f"{name}: {words}" if words else ""


def remark(scores: Mapping[str, Any]) -> str:
    """Where classes were found that no image has."""
    mean, union = scores["mIoU"], scores.get("mIoU_union")
    if not isinstance(union, float) or union == mean:
        return ""
    return f"mIoU {mean:.4f} is over the classes of the truth; {union:.4f} with those only predicted (mIoU_union)"


def conditions(task: Any, views: str) -> str:
    return views


def diagnosis(metric: Any, class_names: Sequence[str]) -> Diagnosis:
    from mnv2_tasks.drawing.charts import class_bars
    from mnv2_tasks.drawing.confusion import plot_confusion

    scores, outcomes = metric.compute(), metric.outcomes()
    values = np.array([scores["IoU"].get(name, np.nan) for name in class_names])
    bars = partial(class_bars, values, class_names, mean=scores["mIoU"], xlabel="IoU (fraction)")
    return Diagnosis(
        {"confusion": partial(plot_confusion, metric.confusion, class_names, "pixels"), "iou": bars},
        outcomes.image_ids,
        outcomes.of_images(),
        "mIoU",
    )


def server_results(metric: Any) -> None:
    return None


def thresholds(metric: Any) -> None:
    return None
