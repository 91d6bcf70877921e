"""COCO's twelve numbers: matched and accumulated by hotcoco or by pycocotools, averaged and worded by pycocotools."""

import contextlib
import io
import math
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mnv2_tasks.contracts import DetectionBatch, Detections
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.metrics.best_f1 import best_scores
from mnv2_tasks.metrics.box_diagnosis import BoxDiagnosis, diagnose
from mnv2_tasks.metrics.coco_matches import match
from mnv2_tasks.metrics.outcomes import Matches

DIAGNOSED = 1_000_000  # boxes
KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


class CocoMAP:
    """Average precision and recall against a ground truth in COCO's format.

    Args:
        ground_truth: the content of an annotation file: `images`, `annotations`, `categories`. The i-th category, in
            the order of ids, is label i: sparse ids exist here and in the loader, nowhere else. Without `annotations`,
            as of a test set, results are collected and nothing is scored.
        backend: "hotcoco", or "pycocotools", which takes many times as long for the same numbers.

    Raises:
        ConfigError: there is no such backend, or hotcoco, wanted for images, is not installed.
    """

    primary = "AP"

    def __init__(self, ground_truth: dict[str, Any], *, backend: str = "hotcoco"):
        if backend not in BACKENDS:
            raise ConfigError(f"eval.backend={backend}: expected {' or '.join(BACKENDS)}")
        if backend == "hotcoco" and ground_truth["images"] and "annotations" in ground_truth:
            _hotcoco()
        self.ground_truth = ground_truth
        self.backend = backend
        self.category_ids = sorted(category["id"] for category in ground_truth["categories"])
        self.reset()

    def reset(self) -> None:
        self.results: dict[int, np.ndarray] = {}  # image id -> (M, 6): x, y, width, height, score, label
        self.table = ""

    def update(self, predictions: list[Detections], batch: DetectionBatch) -> None:
        for image_id, found in zip(batch.image_ids.tolist(), predictions):
            boxes = found.boxes.double().numpy()
            sides = boxes[:, 2:] - boxes[:, :2]
            rows = [boxes[:, :2], sides, found.scores.double()[:, None], found.labels[:, None]]
            self.results[image_id] = np.concatenate(rows, axis=1)

    def merge(self, other: "CocoMAP") -> None:
        self.results.update(other.results)

    def coco_results(self) -> list[dict[str, Any]]:
        """The detections as COCO's results format has them: pixels, xywh, original category ids."""
        return [
            {
                "image_id": image_id,
                "category_id": self.category_ids[int(row[5])],
                "bbox": row[:4].tolist(),
                "score": float(row[4]),
            }
            for image_id, rows in sorted(self.results.items())
            for row in rows
        ]

    def outcomes(self) -> Matches:
        """What became of each image's detections."""
        return match(self._truth(), self._rows())[0]

    def thresholds(self) -> dict[str, float]:
        """{class: the score from which on its F1 at IoU 0.5 is greatest}, without those of whom nothing was found."""
        best = best_scores(*match(self._truth(), self._rows()))
        names = {category["id"]: category["name"] for category in self.ground_truth["categories"]}
        return {
            names[category]: float(score) for category, score in zip(self.category_ids, best) if not np.isnan(score)
        }

    def diagnosis(self) -> BoxDiagnosis:
        """What a score does not say: which classes are confused, which kinds of error cost most.

        Of more than a million boxes it takes those of images spread evenly over the split: ten seconds, not minutes.

        Raises:
            ConfigError: hotcoco is not installed.
        """
        every = max(1, math.ceil(sum(map(len, self.results.values())) / DIAGNOSED))
        part = CocoMAP(self.ground_truth, backend=self.backend)
        part.results = {image_id: self.results[image_id] for image_id in sorted(self.results)[::every]}
        return diagnose(_hotcoco(), part._truth(), part._rows())

    def compute(self) -> dict[str, Any]:
        """COCO's twelve numbers over the images seen, in [0, 1], or None where no object has that size.

        `AP_per_class` gives each class's AP; a class without objects is left out. `table` then holds the twelve lines
        in pycocotools' wording. Nothing where the ground truth has no annotations.
        """
        if "annotations" not in self.ground_truth:
            return {}
        summary: Any = COCOeval(iouType="bbox")
        summary.eval = BACKENDS[self.backend](self._truth(), self._rows())
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            summary.summarize()
        self.table = printed.getvalue().rstrip()
        precision = summary.eval["precision"][:, :, :, 0, 2]  # (IoU, recall, class): all areas, 100 detections
        names = {category["id"]: category["name"] for category in self.ground_truth["categories"]}
        per_class = {
            names[category]: float(precision[:, :, i].mean())
            for i, category in enumerate(self.category_ids)
            if (precision[:, :, i] > -1).any()
        }
        numbers = {key: None if value < 0 else float(value) for key, value in zip(KEYS, summary.stats)}
        return {**numbers, "AP_per_class": per_class}

    def _truth(self) -> dict[str, Any]:
        """Of the images seen."""
        of_images = {"images": "id", "annotations": "image_id"}
        return self.ground_truth | {
            part: [entry for entry in self.ground_truth[part] if entry[key] in self.results]
            for part, key in of_images.items()
        }

    def _rows(self) -> np.ndarray:
        """(N, 7) float64 image id, x, y, width, height, score, category id, as both evaluators read them."""
        image_ids = np.array(sorted(self.results))
        rows = [self.results[i] for i in image_ids]
        boxes = np.concatenate([np.zeros((0, 6)), *rows])
        categories = np.array(self.category_ids)[boxes[:, 5].astype(int)]
        return np.column_stack([np.repeat(image_ids, [len(of) for of in rows]), boxes[:, :5], categories])


def _by_hotcoco(truth: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    hotcoco = _hotcoco()
    objects = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(objects, objects.load_res(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


def _by_pycocotools(truth: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    objects: Any = COCO()
    objects.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        objects.createIndex()
        # loadRes refuses an empty list; an untrained network may well find nothing
        found = objects.loadRes(rows) if len(rows) else _nothing_found(truth)
        evaluation: Any = COCOeval(objects, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


# (truth, rows) -> precision (IoU, recall, class, area, detections) and recall (IoU, class, area, detections)
BACKENDS = {"hotcoco": _by_hotcoco, "pycocotools": _by_pycocotools}


def _hotcoco() -> Any:
    try:
        import hotcoco
    except ImportError:
        raise ConfigError(
            "eval.backend=hotcoco: it is not installed, pip install hotcoco, or say eval.backend=pycocotools"
        ) from None
    return hotcoco


def _nothing_found(truth: dict[str, Any]) -> COCO:
    found: Any = COCO()
    found.dataset = {**truth, "annotations": []}
    found.createIndex()
    return found
