"""Evaluation writes the thresholds of the greatest F1, as pycocotools' matches of every choice have it."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_coco_backends import CLASSES, crowded, each_case, metric_of, scenes


def counts(truth, rows, classes=CLASSES):
    """{category: (right, wrong, objects)} at IoU 0.5, of these detections alone."""
    objects = COCO()
    objects.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        objects.createIndex()
        found = objects.loadRes(rows)
        evaluation = COCOeval(objects, found, "bbox")
        evaluation.evaluate()
    sums = {category: np.zeros(3, int) for category in classes}
    every = evaluation.params.areaRng[0]
    for of_image in evaluation.evalImgs:
        if of_image is not None and of_image["aRng"] == every:
            met, counted = of_image["dtMatches"][0] > 0, of_image["dtIgnore"][0] == 0
            there = np.count_nonzero(np.asarray(of_image["gtIgnore"]) == 0)
            sums[of_image["category_id"]] += [np.sum(met & counted), np.sum(~met & counted), there]
    return sums


def f1(right, wrong, objects):
    return 2 * right / (right + wrong + objects) if right else 0.0


@each_case
def test_no_other_threshold_of_a_class_has_a_greater_f1(case, seed):
    metric = metric_of(*case(seed))
    truth, rows = metric._truth(), metric._rows()
    found = metric.thresholds()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    of_scores = {s: counts(truth, rows[rows[:, 5] >= s]) for s in np.unique(rows[:, 5])}
    for category in CLASSES:
        all_f1 = {score: f1(*of_score[category]) for score, of_score in of_scores.items()}
        best = max(all_f1.values(), default=0)
        if best == 0:
            assert names[category] not in found
        else:
            assert found[names[category]] == max(score for score, value in all_f1.items() if value == best)


@pytest.mark.parametrize("case", [scenes, crowded])
def test_scores_of_float32_come_back_as_the_same_number(case):
    truth, results = case(0)
    for rows in results.values():
        rows[:, 4] = np.random.default_rng(len(rows)).random(len(rows)).astype(np.float32)
    found = metric_of(truth, results).thresholds()
    held = {float(score) for rows in results.values() for score in rows[:, 4]}
    assert found and all(score in held and float(np.float32(score)) == score for score in found.values())


def test_threshold_keeps_what_is_right_and_leaves_out_what_is_wrong():
    box, other = [10, 10, 20, 20], [60, 60, 20, 20]
    truth = {
        "images": [{"id": i} for i in range(3)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": box, "area": 400, "iscrowd": 0} for i in range(3)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    rows = {i: np.array([[*box, 0.6 + i / 10, 0], [*other, 0.1 + i / 10, 0], [*other, 0.9, 1]]) for i in range(3)}
    assert metric_of(truth, rows).thresholds() == {"cat": 0.6}
