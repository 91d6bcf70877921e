"""tools/bench.py what=eval."""

import pytest

from mnv2_tasks.bench.eval import DETECTIONS, coco, coco_like, evaluated, segmentation


def test_every_evaluator_is_given_the_same_boxes_and_agrees():
    fast, slow = (evaluated(backend, 6, turns=[None]) for backend in ("hotcoco", "pycocotools"))
    assert fast == slow and 0 < fast[0] < 1


@pytest.mark.slow
def test_evaluators_are_compared_in_time_memory_and_numbers():
    rows = {row[0]: row[1:] for row in coco(images=6, rounds=1).rows}
    assert rows["pycocotools"][2:4] == [1.0, 1.0] and {row[-1] for row in rows.values()} == {"identical"}
    assert all(number > 0 for row in rows.values() for number in row[:4])


def test_drawn_boxes_are_in_the_numbers_of_cocos_validation_split():
    truth, results = coco_like(100)
    assert len(truth["images"]) == len(results) == 100 and len(truth["annotations"]) == 720
    assert {rows.shape for rows in results.values()} == {(DETECTIONS, 6)}


def test_our_counts_are_those_of_torchmetrics():
    assert [row[-1] for row in segmentation(images=1, rounds=1).rows] == ["all"] * 3
