"""What is wrong with a detector's boxes: hotcoco's confusions, errors and calibration, COCO's curves, F1."""

from typing import Any, NamedTuple

import numpy as np

from mnv2_tasks.metrics.best_f1 import f1_curves, found_at_half
from mnv2_tasks.metrics.coco_matches import match
from mnv2_tasks.metrics.outcomes import RECALLS, Matches

SCORES = np.arange(101) / 100  # at which F1 is computed


class BoxDiagnosis(NamedTuple):
    """At IoU 0.5, of K classes and I images."""

    precision: np.ndarray  # (101, K) at `RECALLS`, as COCO interpolates it: its mean is AP50; NaN without objects
    f1: np.ndarray  # (101, K) at `SCORES`; NaN without objects
    best_score: float  # at which the mean F1 is greatest; 0.5 where nothing was found
    confusion: np.ndarray  # (K + 1, K + 1) int64 of the boxes that score that much: row the truth, last the background
    lost: dict[str, float]  # AP50 that each of TIDE's kinds of error costs (arXiv:2008.08115)
    errors: dict[str, int]  # how many there are of each
    calibration: dict[str, Any]  # ece, and bins of scores
    image_ids: np.ndarray  # (I,) int64
    image_f1: np.ndarray  # (I,) of the boxes that score `best_score` or more; NaN without objects and boxes


def diagnose(hotcoco: Any, truth: dict[str, Any], rows: np.ndarray) -> BoxDiagnosis:
    """
    Args:
        truth, rows: as of `coco_matches.match`.
    """
    objects = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(objects, objects.load_res(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.array(evaluation.eval["precision"][0, :, :, 0, 2])  # all areas, 100 detections
    assert len(precision) == len(RECALLS)
    matches, scores = match(truth, rows)
    f1 = f1_curves(matches, scores, SCORES)
    mean = mean_of_classes(f1)
    best = float(SCORES[np.argmax(mean)]) if mean.max(initial=0) > 0 else 0.5
    tide = evaluation.tide_errors()
    return BoxDiagnosis(
        precision=np.where(precision < 0, np.nan, precision),
        f1=f1,
        best_score=best,
        confusion=evaluation.confusion_matrix(iou_thr=0.5, min_score=best)["matrix"].astype(np.int64),
        lost=tide["delta_ap"],
        errors=tide["counts"],
        calibration=evaluation.calibration(),
        image_ids=matches.image_ids,
        image_f1=_of_images(matches, scores >= best),
    )


def mean_of_classes(curves: np.ndarray) -> np.ndarray:
    """(S, K) -> (S,), of the classes that are not NaN; 0 where all are."""
    present = ~np.isnan(curves)
    return np.where(present, curves, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)


def _of_images(matches: Matches, kept: np.ndarray) -> np.ndarray:
    counted, right = found_at_half(matches, slice(None))
    found, hits = (np.bincount(matches.image[kept & of], minlength=len(matches.image_ids)) for of in (counted, right))
    total = found + matches.objects.sum(axis=1)
    return np.divide(2 * hits, total, out=np.full(len(total), np.nan), where=total > 0)
