"""How often each class is annotated, and where the boxes are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.loading.samplers import spread_evenly

LOOKED_AT = 500  # images of a split whose masks are read, or that are drawn: a few seconds


class LabelStatistics(NamedTuple):
    what: str  # is counted: "images", "boxes" or "pixels"
    amounts: np.ndarray  # (K,) int64 of each class; crowds and pixels without a class are not counted
    boxes: np.ndarray  # (N, 4) float64 xyxy fractions; N is 0 where there are none
    images: int  # looked at


def label_statistics(source: DataSource, split: str) -> LabelStatistics:
    """All labels and boxes that files name; of masks, and of what is drawn, those of images spread over the split."""
    named = isinstance(source, FileSource) and source.kind != "segmentation"
    length = source.length(split)
    indices = range(length) if named else spread_evenly(length, LOOKED_AT)
    amounts = source.class_counts(split, indices).sum(axis=0)
    boxes = _boxes(source, split, indices) if source.kind == "detection" else np.zeros((0, 4))
    return LabelStatistics(KINDS[source.kind].COUNTED, amounts, boxes, len(indices))


def _boxes(source: DataSource, split: str, indices: Sequence[int]) -> np.ndarray:
    if isinstance(source, FileSource):  # all of them, without the pictures
        records, sizes = source.verified(split)
        real = ~records.crowd
        return records.boxes[real] / np.tile(sizes[records.image_of_box()[real]][:, ::-1], 2)
    samples = [source.sample(split, 0, index) for index in indices]
    return np.concatenate([np.asarray(sample.boxes, float) / (sample.image.shape[1::-1] * 2) for sample in samples])
