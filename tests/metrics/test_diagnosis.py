"""What lies behind the plots is what counting by hand gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_best_f1 import counts, f1
from test_coco_backends import CLASSES, each_case, metric_of, scenes

from mnv2_tasks.contracts import Detections
from mnv2_tasks.metrics.accuracy import TopKAccuracy
from mnv2_tasks.metrics.box_diagnosis import SCORES, mean_of_classes
from mnv2_tasks.metrics.coco_map import CocoMAP
from mnv2_tasks.metrics.mean_iou import MeanIoU


def classified(seed, num_classes=4, images=50):
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.rand(images, num_classes, generator=generator)).softmax(dim=1)
    labels = torch.randint(0, num_classes, (images,), generator=generator)
    metric = TopKAccuracy([f"class {k}" for k in range(num_classes)])
    for start in (0, 20):  # in two processes
        part, rows = TopKAccuracy(metric.class_names), slice(start, 20 if start == 0 else images)
        part.update(probabilities[rows], SimpleNamespace(labels=labels[rows], image_ids=torch.arange(images)[rows]))
        metric.merge(part)
    return metric, probabilities.numpy(), labels.numpy()


@pytest.mark.parametrize("seed", range(3))
def test_each_image_is_counted_where_its_class_and_the_best_one_meet(seed):
    metric, probabilities, labels = classified(seed)
    expected = np.zeros((4, 4), int)
    for row, label in zip(probabilities, labels):
        expected[label, row.argmax()] += 1
    found = metric.confusion().toarray()
    assert (found == expected).all() and found.trace() == round(50 * metric.compute()["top1"])


@pytest.mark.parametrize("seed", range(3))
def test_each_image_is_in_the_bin_of_its_best_score(seed):
    metric, probabilities, labels = classified(seed)
    bins, error = metric.calibration()
    best, right, gap = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, 0
    for number, of in enumerate(bins):
        inside = (best > number / 10) & (best <= (number + 1) / 10)  # no score lies on an edge
        assert of["count"] == inside.sum()
        if inside.any():
            assert of["avg_confidence"] == pytest.approx(best[inside].mean(), abs=1e-6)
            assert of["avg_accuracy"] == pytest.approx(right[inside].mean())
            gap += abs(best[inside].mean() - right[inside].mean()) * inside.sum()
    assert error == pytest.approx(gap / 50, abs=1e-6)


def test_an_image_scores_what_its_own_class_was_given():
    metric, probabilities, labels = classified(0)
    for image_id, guess in metric.guesses.items():
        assert guess.truth_score == pytest.approx(probabilities[image_id, labels[image_id]])


@each_case
def test_f1_at_a_score_is_that_of_pycocotools_matches_of_the_boxes_that_score_so_much(case, seed):
    metric = metric_of(*case(seed))
    truth, rows = metric._truth(), metric._rows()
    found = metric.diagnosis()
    for index in (0, 13, 50, 77):
        of_score = counts(truth, rows[rows[:, 5] >= SCORES[index]]) if (rows[:, 5] >= SCORES[index]).any() else None
        for k, category in enumerate(sorted(CLASSES)):
            objects = sum(a["category_id"] == category and not a["iscrowd"] for a in truth["annotations"])
            if not objects:
                assert np.isnan(found.f1[index, k])
            elif of_score:
                assert found.f1[index, k] == pytest.approx(f1(*of_score[category]))
            else:
                assert found.f1[index, k] == 0
    mean = mean_of_classes(found.f1)
    assert mean.max() == 0 or mean[round(100 * found.best_score)] == mean.max()


@each_case
def test_the_area_below_the_mean_of_precision_is_ap50(case, seed):
    metric = metric_of(*case(seed))
    ap50 = metric.compute()["AP50"]
    assert mean_of_classes(metric.diagnosis().precision).mean() == pytest.approx(ap50 or 0)


def boxed(found, truth=((0, 0, 20, 20), (50, 50, 20, 20)), crowd=(), classes=2, second_class=0):
    """One image with objects of class 0 at these places (xywh), and what is found: (xywh, score, class)."""
    objects = [(box, 0) for box in truth] + [(box, 1) for box in crowd]
    annotations = [
        {
            "id": i,
            "image_id": 7,
            "category_id": 1 + second_class * (i == 2),
            "bbox": list(b),
            "area": b[2] * b[3],
            "iscrowd": c,
        }
        for i, (b, c) in enumerate(objects, start=1)
    ]
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(classes)]
    images = [{"id": 7, "width": 100, "height": 100}, {"id": 9, "width": 100, "height": 100}]
    metric = CocoMAP({"images": images, "categories": categories, "annotations": annotations})
    boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _, _ in found]).float().reshape(-1, 4)
    scores, labels = (torch.tensor([of[i] for of in found]) for i in (1, 2))
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
    metric.update(
        [Detections(boxes, scores.float(), labels.long()), nothing], SimpleNamespace(image_ids=torch.tensor([7, 9]))
    )
    return metric.diagnosis()


ERRORS = [  # one of each kind, beside the two objects
    ((0, 0, 20, 20), 0.9, 0),  # right
    ((0, 1, 20, 20), 0.8, 0),  # once more
    ((50, 50, 20, 20), 0.7, 1),  # another class
    ((60, 60, 20, 20), 0.6, 0),  # another place: IoU 1 / 7
    ((60, 60, 20, 20), 0.5, 1),  # both
    ((0, 80, 9, 9), 0.4, 0),  # nothing
]


def test_errors_are_counted_by_kind():
    errors = boxed(ERRORS).errors
    assert errors == {"Dupe": 1, "Cls": 1, "Loc": 1, "Both": 1, "Bkg": 1, "Miss": 0}
    assert boxed(ERRORS[:2]).errors == {"Dupe": 1, "Cls": 0, "Loc": 0, "Both": 0, "Bkg": 0, "Miss": 1}


def test_boxes_of_the_best_score_are_counted_where_their_class_and_the_truths_meet():
    found = boxed([*ERRORS[:1], ((50, 50, 20, 20), 0.85, 1), ((0, 80, 9, 9), 0.825, 0)])
    assert found.best_score == 0.83  # above it one of two is found, F1 2 / 3; below, a false alarm is beside it
    assert found.confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    kept = boxed([*ERRORS[:1], ((0, 80, 9, 9), 0.825, 0), ((50, 50, 20, 20), 0.8, 0)])
    assert kept.best_score <= 0.8 and kept.confusion.tolist() == [[2, 0, 0], [0, 0, 0], [1, 0, 0]]
    missed = boxed(ERRORS[:1])
    assert missed.confusion.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("label", [0, 1])
def test_a_box_is_counted_with_the_object_that_it_overlaps_most_whatever_their_classes(label):
    outer, inner = (0, 0, 20, 19), (0, 0, 20, 14)
    found = boxed([((0, 0, 20, 20), 0.9, label)], truth=[inner, outer], second_class=1)
    assert found.confusion[1, label] == 1 and found.confusion[0].tolist() == [0, 0, 1]


def test_an_image_scores_the_f1_of_its_boxes_and_without_objects_and_boxes_none():
    found = boxed([*ERRORS[:1], ((0, 80, 9, 9), 0.9, 1)])
    assert found.image_ids.tolist() == [7, 9]
    assert found.image_f1[0] == pytest.approx(2 * 1 / (2 + 2)) and np.isnan(found.image_f1[1])
    crowded = boxed([*ERRORS[:1], ((0, 80, 9, 9), 0.9, 0)], crowd=[(0, 70, 40, 30)])
    assert crowded.image_f1[0] == pytest.approx(2 * 1 / (1 + 2))  # what lies on a crowd does not count


def test_where_nothing_is_found_or_nothing_is_there_the_numbers_are_zero_or_nan():
    unfound = boxed([])
    assert unfound.best_score == 0.5 and unfound.confusion[0].tolist() == [0, 0, 2] and unfound.errors["Miss"] == 2
    assert unfound.f1[:, 0].max() == 0 and np.isnan(unfound.f1[:, 1]).all() and unfound.image_f1[0] == 0
    empty = boxed([], truth=[])
    assert empty.confusion.sum() == 0 and np.isnan(empty.f1).all() and np.isnan(empty.precision).all()
    alarms = boxed(ERRORS[:1], truth=[])
    assert alarms.confusion.sum() == 1 and alarms.image_f1[0] == 0


def test_of_very_many_boxes_those_of_images_spread_over_the_split_are_diagnosed(monkeypatch):
    metric = metric_of(*scenes(0))
    boxes = sum(map(len, metric.results.values()))
    monkeypatch.setattr("mnv2_tasks.metrics.coco_map.DIAGNOSED", boxes // 2)
    assert metric.diagnosis().image_ids.tolist() == sorted(metric.results)[::3]
    monkeypatch.setattr("mnv2_tasks.metrics.coco_map.DIAGNOSED", boxes)
    assert metric.diagnosis().image_ids.tolist() == sorted(metric.results)


def test_an_image_scores_the_mean_iou_of_its_own_classes():
    metric = MeanIoU(["background", "cat", "dog"])
    truth = torch.tensor([[[0, 0, 1, 255]], [[2, 2, 2, 2]]], dtype=torch.uint8)
    predicted = [torch.tensor([[0, 1, 1, 2]]), torch.tensor([[2, 2, 2, 0]])]
    metric.update(predicted, SimpleNamespace(masks=truth, image_ids=torch.tensor([5, 3])))
    outcomes = metric.outcomes()
    assert outcomes.image_ids.tolist() == [3, 5]
    assert outcomes.of_images().tolist() == [3 / 4, (1 / 2 + 1 / 2) / 2]
