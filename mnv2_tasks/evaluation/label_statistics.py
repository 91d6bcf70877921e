"""How often each class is annotated, and where the boxes are."""

from typing import NamedTuple

import numpy as np

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.loading.samplers import spread_evenly

LOOKED_AT = 500  # images of a split whose masks are read, or that are drawn: a few seconds


class LabelStatistics(NamedTuple):
    what: str  # is counted: "images", "boxes" or "pixels"
    amounts: np.ndarray  # (K,) int64 of each class; crowds and pixels without a class are not counted
    boxes: np.ndarray  # (N, 4) float64 xyxy fractions; N is 0 where there are none
    images: int  # looked at


def label_statistics(source: DataSource, split: str) -> LabelStatistics:
    """All labels and boxes that files name; of masks, and of what is drawn, those of images spread over the split."""
    if isinstance(source, FileSource) and source.kind != "segmentation":
        records, sizes = source.verified(split)
        if source.kind == "classification":
            return _counted(source, "images", records.labels, len(records))
        real = ~records.crowd
        sides = np.tile(sizes[records.image_of_box()[real]][:, ::-1], 2)
        return _counted(source, "boxes", records.box_labels[real], len(records), records.boxes[real] / sides)
    indices = spread_evenly(source.length(split), LOOKED_AT)
    if source.kind == "segmentation":
        pixels = sum((np.bincount(_mask(source, split, i).ravel(), minlength=256) for i in indices), np.zeros(256, int))
        return LabelStatistics("pixels", pixels[: len(source.class_names)], np.zeros((0, 4)), len(indices))
    samples = [source.sample(split, 0, index) for index in indices]
    if source.kind == "classification":
        return _counted(source, "images", np.array([sample.label for sample in samples]), len(samples))
    boxes = [np.asarray(sample.boxes, float) / (sample.image.shape[1::-1] * 2) for sample in samples]
    labels = [np.asarray(sample.box_labels) for sample in samples]
    return _counted(source, "boxes", np.concatenate(labels), len(samples), np.concatenate(boxes))


def _mask(source: DataSource, split: str, index: int) -> np.ndarray:
    if isinstance(source, FileSource):  # without its picture
        records, sizes = source.verified(split)
        height, width = sizes[index].tolist()
        return source.mask(records, index, (height, width))
    mask = source.sample(split, 0, index).mask
    assert mask is not None
    return mask


def _counted(
    source: DataSource, what: str, labels: np.ndarray, images: int, boxes: np.ndarray | None = None
) -> LabelStatistics:
    amounts = np.bincount(labels, minlength=len(source.class_names))
    return LabelStatistics(what, amounts, np.zeros((0, 4)) if boxes is None else boxes, images)
