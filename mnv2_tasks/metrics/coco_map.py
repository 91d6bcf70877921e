"""COCO's twelve numbers, computed by pycocotools."""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mnv2_tasks.contracts import DetectionBatch, Detections
from mnv2_tasks.metrics.outcomes import Matches

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


class CocoMAP:
    """Average precision and recall against a ground truth in COCO's format.

    Args:
        ground_truth: the content of an annotation file: `images`, `annotations`, `categories`. The i-th category, in
            the order of ids, is label i: sparse ids exist here and in the loader, nowhere else.
    """

    primary = "AP"

    def __init__(self, ground_truth: dict[str, Any]):
        self.ground_truth = ground_truth
        self.category_ids = sorted(category["id"] for category in ground_truth["categories"])
        self.reset()

    def reset(self) -> None:
        self.results: dict[int, np.ndarray] = {}  # image id -> (M, 6): x, y, width, height, score, label
        self.table = ""
        self.matches: Matches | None = None

    def update(self, predictions: list[Detections], batch: DetectionBatch) -> None:
        for image_id, found in zip(batch.image_ids.tolist(), predictions):
            boxes = found.boxes.double().cpu().numpy()
            sides = boxes[:, 2:] - boxes[:, :2]
            rows = [boxes[:, :2], sides, found.scores.double().cpu()[:, None], found.labels.cpu()[:, None]]
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
        """What became of each image's detections, once `compute` has matched them."""
        assert self.matches is not None, "compute() comes first"
        return self.matches

    def compute(self) -> dict[str, Any]:
        """COCO's twelve numbers over the images seen, in [0, 1], or None where no object has that size.

        `AP_per_class` gives each class's AP; a class without objects is left out. `table` then holds the twelve lines
        in pycocotools' wording.
        """
        seen = set(self.results)
        truth = COCO()
        truth.dataset = {
            **self.ground_truth,
            "images": [image for image in self.ground_truth["images"] if image["id"] in seen],
            "annotations": [a for a in self.ground_truth["annotations"] if a["image_id"] in seen],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            # loadRes refuses an empty list; an untrained network may well find nothing
            results = self.coco_results()
            found = truth.loadRes(results) if results else _nothing_found(truth)
            evaluation = COCOeval(truth, found, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            evaluation.summarize()
        self.table = printed.getvalue().rstrip()
        self.matches = _matches(evaluation)
        precision = evaluation.eval["precision"][:, :, :, 0, 2]  # (IoU, recall, class): all areas, 100 detections
        names = {category["id"]: category["name"] for category in self.ground_truth["categories"]}
        per_class = {
            names[category]: float(precision[:, :, i].mean())
            for i, category in enumerate(evaluation.params.catIds)
            if (precision[:, :, i] > -1).any()
        }
        numbers = {key: None if value < 0 else float(value) for key, value in zip(KEYS, evaluation.stats)}
        return {**numbers, "AP_per_class": per_class}


def _nothing_found(truth: COCO) -> COCO:
    found = COCO()
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found


def _matches(evaluation: COCOeval) -> Matches:
    """Of an evaluation that has matched; objects of all sizes."""
    params = evaluation.params
    num_images, num_classes, num_areas = len(params.imgIds), len(params.catIds), len(params.areaRng)
    bits = 1 << np.arange(len(params.iouThrs))[:, None]
    objects = np.zeros((num_images, num_classes), np.int32)
    detections = np.zeros(num_classes, np.int64)
    columns: dict[str, list[np.ndarray]] = {"image": [], "matched": [], "ignored": []}
    for k in range(num_classes):
        first = k * num_areas * num_images  # images change fastest, then areas, of which the first is "all"
        pairs = [(i, e) for i, e in enumerate(evaluation.evalImgs[first : first + num_images]) if e is not None]
        for i, e in pairs:
            objects[i, k] = np.count_nonzero(np.logical_not(e["gtIgnore"]))
        if not pairs:
            continue
        scores = np.concatenate([e["dtScores"] for _, e in pairs])
        order = np.argsort(-scores, kind="mergesort")  # equal scores stay in the order of images, as in pycocotools
        detections[k] = len(order)
        columns["image"].append(np.repeat([i for i, _ in pairs], [len(e["dtScores"]) for _, e in pairs])[order])
        for name, key in (("matched", "dtMatches"), ("ignored", "dtIgnore")):
            flags = np.concatenate([e[key] for _, e in pairs], axis=1)[:, order] != 0  # (T, D)
            columns[name].append((flags * bits).sum(axis=0))
    image, matched, ignored = (np.concatenate([np.zeros(0), *parts]) for parts in columns.values())
    return Matches(
        image_ids=np.array(params.imgIds, np.int64),
        objects=objects,
        image=image.astype(np.int32),
        detections=detections,
        matched=matched.astype(np.uint16),
        ignored=ignored.astype(np.uint16),
    )
