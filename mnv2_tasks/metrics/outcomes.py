"""What a split's images came to, one by one: enough to score any resample of them without the network.

A resample says how often each image is drawn. With every count 1 the score is the metric's own.
Kept as plain arrays in a run's `per_image.npz`, under `<task>/<field>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from mnv2_tasks.whole_files import written_whole

RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision
THRESHOLDS = 10  # IoU of 0.5, 0.55 .. 0.95


@dataclass(frozen=True)
class Outcomes:
    """Of I images and K classes. `counts` are (..., I): one resample, or many at once."""

    image_ids: np.ndarray  # (I,) int64, ascending

    def scores(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The score (...,) and that of each class (..., K), in [0, 1].

        A class that a resample does not contain has NaN and is not averaged in; so has the score without any class.
        """
        raise NotImplementedError

    def score(self, counts: np.ndarray) -> float:
        """Of one resample."""
        return float(self.scores(counts)[0])

    def class_scores(self, counts: np.ndarray) -> np.ndarray:
        return self.scores(counts)[1]


@dataclass(frozen=True)
class Hits(Outcomes):
    """Of classification; the score is top-1 accuracy over the images."""

    labels: np.ndarray  # (I,) int32
    top1: np.ndarray  # (I,) bool: the true class is the best one
    top5: np.ndarray  # (I,) bool: it is among the best five
    num_classes: np.ndarray  # () int64

    def scores(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = counts.astype(float)
        size = len(self.labels), int(self.num_classes)
        members = csr_array((np.ones(size[0]), (np.arange(size[0]), self.labels)), shape=size)  # (I, K)
        per_class = _ratio((counts * self.top1) @ members, counts @ members)
        return _ratio(counts @ self.top1, counts.sum(axis=-1)), per_class


@dataclass(frozen=True)
class Pixels(Outcomes):
    """Of segmentation: the pixels of each image that have a class. The score is mean IoU over the classes present."""

    hit: np.ndarray  # (I, K) int32: of the class, and predicted as it
    missed: np.ndarray  # (I, K) int32: of the class, and predicted as another
    wrong: np.ndarray  # (I, K) int32: predicted as the class, and of another

    def scores(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = counts.astype(float)  # exact up to 2^53 pixels, and a fast product
        hit, missed, wrong = (counts @ pixels.astype(float) for pixels in (self.hit, self.missed, self.wrong))
        per_class = _iou(hit, missed, wrong)
        return _mean(per_class), per_class

    def of_images(self) -> np.ndarray:
        """(I,) the score of each image alone."""
        return _mean(_iou(self.hit, self.missed, self.wrong))


@dataclass(frozen=True)
class Matches(Outcomes):
    """Of detection: what COCO's matching said of each detection, at each of its T = 10 IoU thresholds.

    The score is AP@[.5:.95] over all sizes of objects, with at most 100 detections per image and class. Matching
    happens within an image, so that a resample needs no new one; only the accumulation over images depends on which
    there are. Copies of an image follow one another detection by detection; of equal scores within one image and class
    COCO's order would be arbitrary.
    """

    objects: np.ndarray  # (I, K) int32: objects that count, crowds do not
    image: np.ndarray  # (D,) int32: index of the detection's image; by class, and in it best score first
    detections: np.ndarray  # (K,) int64: of each class, in all images; they add up to D
    matched: np.ndarray  # (D,) uint16: bit t says that it found an object at threshold t
    ignored: np.ndarray  # (D,) uint16: bit t says that it counts neither as right nor as wrong there

    def scores(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        objects = counts.astype(np.int64) @ self.objects  # (..., K)
        ends = np.cumsum(self.detections)
        per_class = [
            self._average_precision(counts, slice(end - number, end), objects[..., k])
            for k, (end, number) in enumerate(zip(ends, self.detections))
        ]
        scores = np.stack(per_class, axis=-1) if per_class else np.zeros(objects.shape)
        return _mean(scores), scores

    def _average_precision(self, counts: np.ndarray, rows: slice, objects: np.ndarray) -> np.ndarray:
        """(...,) mean over the thresholds; NaN where there are no objects."""
        drawn = counts[..., self.image[rows]].astype(np.int64)  # (..., d)
        matched, ignored = self.matched[rows], self.ignored[rows]
        present = np.maximum(objects, 1)[..., None]
        total = np.zeros(objects.shape)
        for bit in np.array([1 << t for t in range(THRESHOLDS)], np.uint16):
            counted = np.cumsum(np.where(ignored & bit, 0, drawn), axis=-1)
            found = np.flatnonzero((matched & ~ignored & bit) > 0)  # precision peaks and recall grows there only
            right = np.cumsum(drawn[..., found], axis=-1)
            precision = right / (counted[..., found] + np.spacing(1))
            precision = np.flip(np.maximum.accumulate(np.flip(precision, -1), axis=-1), -1)
            # each of COCO's recalls reads the precision at the first detection that reaches it
            reached = np.searchsorted(RECALLS, right / present, side="right")
            total += (precision * np.diff(reached, axis=-1, prepend=0)).sum(axis=-1) / len(RECALLS)
        return np.where(objects > 0, total / THRESHOLDS, np.nan)


KINDS = (Hits, Pixels, Matches)


def save_outcomes(path: Path, outcomes: Mapping[str, Outcomes]) -> None:
    """Write {task name: outcomes of its validation split} as one compressed .npz."""
    arrays = {f"{task}/{f.name}": getattr(of, f.name) for task, of in outcomes.items() for f in fields(of)}
    with written_whole(path) as file:
        np.savez_compressed(file, **arrays)


def load_outcomes(path: Path) -> dict[str, Outcomes]:
    """{task name: outcomes}. The fields that are there say of which kind."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:  # np.load leaks a damaged file
        arrays = {name: file[name] for name in file.files}
    outcomes: dict[str, Outcomes] = {}
    for task in dict.fromkeys(name.rpartition("/")[0] for name in arrays):
        own = {name.rpartition("/")[2]: array for name, array in arrays.items() if name.rpartition("/")[0] == task}
        kind = next((kind for kind in KINDS if {f.name for f in fields(kind)} == set(own)), None)
        if kind is None:
            raise ValueError(f"{path}: {task} has the fields {sorted(own)}, which are of no kind of task")
        outcomes[task] = kind(**own)
    return outcomes


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _iou(hit: np.ndarray, missed: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """NaN where no pixel is of the class."""
    return np.where(hit + missed > 0, _ratio(hit, hit + missed + wrong), np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, of those that are not NaN."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1))
