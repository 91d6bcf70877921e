"""The score from which on a class's detections are worth keeping, and what each score would come to."""

import numpy as np

from mnv2_tasks.metrics.outcomes import Matches


def best_scores(matches: Matches, scores: np.ndarray) -> np.ndarray:
    """(K,) of each class the score s at which the F1 of the detections that score s or more is greatest.

    At IoU 0.5 and over all images; crowds, and what lies on them, count neither for nor against. Of equal ones it is
    the highest, NaN where no object was found: none is there, or none was met. Best detections match first, so that
    those below s change nothing above it.

    Args:
        scores: (D,) of the detections, in the order of `matches`.
    """
    best = np.full(len(matches.detections), np.nan)
    objects = matches.objects.sum(axis=0)
    for k, end in enumerate(np.cumsum(matches.detections)):
        rows = slice(end - matches.detections[k], end)
        (counted, hits), of_class = found_at_half(matches, rows), scores[rows]
        right = np.cumsum(hits)
        if len(right) and right[-1]:
            f1 = 2 * right / (np.cumsum(counted) + objects[k])
            last = np.append(of_class[1:] != of_class[:-1], True)  # equal scores are kept or left out together
            best[k] = of_class[np.argmax(np.where(last, f1, -1))]
    return best


def f1_curves(matches: Matches, scores: np.ndarray, least: np.ndarray) -> np.ndarray:
    """(S, K) F1 of each class's detections that score s or more, at IoU 0.5; NaN of a class without objects.

    Args:
        scores: as of `best_scores`.
        least: (S,) the scores s.
    """
    curves = np.full((len(least), len(matches.detections)), np.nan)
    objects = matches.objects.sum(axis=0)
    for k, end in enumerate(np.cumsum(matches.detections)):
        if objects[k]:
            rows = slice(end - matches.detections[k], end)
            counted, right = found_at_half(matches, rows)
            kept = np.searchsorted(-scores[rows], -least, side="right")  # best first
            total, hits = (np.append(0, np.cumsum(of))[kept] for of in (counted, right))
            curves[:, k] = 2 * hits / (total + objects[k])
    return curves


def found_at_half(matches: Matches, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """(d,) bool twice: which of these detections count, and which found an object, at IoU 0.5."""
    counted = (matches.ignored[rows] & 1) == 0
    return counted, counted & ((matches.matched[rows] & 1) == 1)
