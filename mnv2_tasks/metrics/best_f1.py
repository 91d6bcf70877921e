"""The score from which on a class's detections are worth keeping."""

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
        counted, of_class = (matches.ignored[rows] & 1) == 0, scores[rows]
        right = np.cumsum(counted & ((matches.matched[rows] & 1) == 1))
        if len(right) and right[-1]:
            f1 = 2 * right / (np.cumsum(counted) + objects[k])
            last = np.append(of_class[1:] != of_class[:-1], True)  # equal scores are kept or left out together
            best[k] = of_class[np.argmax(np.where(last, f1, -1))]
    return best
