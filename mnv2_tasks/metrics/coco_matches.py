"""COCO's matching of detections with objects, of all images and classes at once.

An evaluator's own matches are Python objects for each image, class and range of sizes: a minute where its numbers take
a second. These are the same ones; the tests compare them with pycocotools'.
"""

from typing import Any, NamedTuple

import numpy as np

from mnv2_tasks.metrics.outcomes import THRESHOLDS, Matches

IOU_THRESHOLDS = np.linspace(0.5, 0.95, THRESHOLDS)
MAX_DETECTIONS = 100  # of an image and class
LARGEST = 1e5**2  # square pixels: the end of the range of sizes that COCO calls "all"


class _Boxes(NamedTuple):
    """Of N detections or objects, those of one group one after the other."""

    group: np.ndarray  # (N,) int64: class * images + image
    xywh: np.ndarray  # (4, N) pixels


def match(truth: dict[str, Any], results: np.ndarray) -> tuple[Matches, np.ndarray]:
    """Give each detection, best score first, the free object of its image and class that overlaps it most.

    Args:
        truth: `images`, `annotations` and `categories` as an annotation file has them.
        results: (N, 7) float64 image id, x, y, width, height, score, category id.

    Returns:
        what became of the D detections that count, and their (D,) scores in the same order.
    """
    image_ids, category_ids = (
        np.unique(np.array([entry["id"] for entry in truth[key]], np.int64)) for key in ("images", "categories")
    )
    num_images, num_classes = len(image_ids), len(category_ids)

    def groups(images: np.ndarray, categories: np.ndarray) -> np.ndarray:
        return np.searchsorted(category_ids, categories) * num_images + np.searchsorted(image_ids, images)

    annotations = [(a["image_id"], *a["bbox"], a["area"], a["iscrowd"], a["category_id"]) for a in truth["annotations"]]
    columns = np.array(annotations, np.float64).reshape(-1, 8).T
    group, crowd = groups(columns[0], columns[7]), columns[6] > 0
    uncounted = crowd | _beyond_all(columns[5])
    order = np.lexsort((uncounted, group))
    objects, crowd, uncounted = _Boxes(group[order], columns[1:5, order]), crowd[order], uncounted[order]

    columns = results.T
    group, scores = groups(columns[0], columns[6]), columns[5]
    order = np.lexsort((-scores, group))  # here and below, equal scores stay in their order, as in pycocotools
    group = group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)  # 0: the best of its image and class
    kept = rank < MAX_DETECTIONS
    group, rank, order = group[kept], rank[kept], order[kept]
    found, scores = _Boxes(group, columns[1:5, order]), scores[order]

    matched, ignored = _matched(found, rank, objects, crowd, uncounted)
    ignored |= np.where(_beyond_all(found.xywh[2] * found.xywh[3]), ~matched & (1 << THRESHOLDS) - 1, 0)
    labels, image = np.divmod(group, max(1, num_images))
    order = np.lexsort((-scores, labels))
    counted = np.bincount(objects.group[~uncounted], minlength=num_classes * num_images)
    matches = Matches(
        image_ids=image_ids,
        objects=counted.reshape(num_classes, num_images).T.astype(np.int32),
        image=image[order].astype(np.int32),
        detections=np.bincount(labels, minlength=num_classes),
        matched=matched[order].astype(np.uint16),
        ignored=ignored[order].astype(np.uint16),
    )
    return matches, scores[order]


def _matched(
    found: _Boxes, rank: np.ndarray, objects: _Boxes, crowd: np.ndarray, uncounted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) twice: bit t says that a detection took an object at threshold t, and one that does not count."""
    detection, candidate, iou = _overlapping(found, objects, crowd)
    # what a detection takes first: an object that counts, then the largest overlap, then the last of equal ones
    order = np.lexsort((-candidate, -iou, uncounted[candidate], detection, rank[detection]))
    detection, candidate, iou = detection[order], candidate[order], iou[order]
    matched, ignored = np.zeros((2, len(rank)), np.int64)
    taken = np.zeros((THRESHOLDS, len(crowd)), bool)
    starts = np.flatnonzero(np.diff(rank[detection], prepend=-1))
    for pairs in map(slice, starts, [*starts[1:], len(order)]):  # of one rank: no two of them want the same object
        wanting, wanted = detection[pairs], candidate[pairs]
        free = (crowd[wanted] | ~taken[:, wanted]) & (iou[pairs] >= IOU_THRESHOLDS[:, None])  # (T, pairs)
        firsts = np.flatnonzero(np.diff(wanting, prepend=-1))  # of each detection
        best = np.minimum.reduceat(np.where(free, np.arange(len(wanting)), len(wanting)), firsts, axis=1)
        threshold, _ = np.nonzero(best < len(wanting))
        place = best[best < len(wanting)]
        taken[threshold, wanted[place]] = True
        np.bitwise_or.at(matched, wanting[place], 1 << threshold)
        np.bitwise_or.at(ignored, wanting[place], uncounted[wanted[place]] * (1 << threshold))
    return matched, ignored


def _overlapping(found: _Boxes, objects: _Boxes, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P,) three times: the pairs of a group that reach the lowest threshold, and their IoU.

    In pycocotools' order of operations; of a crowd it is the share of the detection that the crowd covers.
    """
    first = np.searchsorted(objects.group, found.group)
    number = np.searchsorted(objects.group, found.group, side="right") - first
    detection = np.repeat(np.arange(len(number)), number)
    candidate = np.arange(number.sum()) + np.repeat(first - np.cumsum(number) + number, number)

    def shared(start: int) -> np.ndarray:
        of_found, of_objects = found.xywh[start], objects.xywh[start]
        ends = (of_found + found.xywh[start + 2])[detection], (of_objects + objects.xywh[start + 2])[candidate]
        return np.maximum(np.minimum(*ends) - np.maximum(of_found[detection], of_objects[candidate]), 0)

    intersection = shared(0) * shared(1)
    area, object_area = (found.xywh[2] * found.xywh[3])[detection], (objects.xywh[2] * objects.xywh[3])[candidate]
    union = np.where(crowd[candidate], area, area + object_area - intersection)
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)
    close = iou >= IOU_THRESHOLDS[0]
    return detection[close], candidate[close], iou[close]


def _beyond_all(areas: np.ndarray) -> np.ndarray:
    return (areas < 0) | (areas > LARGEST)
