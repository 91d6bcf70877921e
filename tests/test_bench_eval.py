"""tools/bench.py what=eval."""

from mnv2_tasks.bench import eval as part
from mnv2_tasks.bench.eval_coco import DETECTIONS, by_hotcoco, by_pycocotools, coco_like, evaluated


def test_every_evaluator_is_given_the_same_boxes_and_agrees():
    fast, slow = (evaluated(evaluate, images=6) for evaluate in (by_hotcoco, by_pycocotools))
    assert fast.numbers == slow.numbers and 0 < fast.numbers[0] < 1


def test_drawn_boxes_are_in_the_numbers_of_cocos_validation_split():
    truth, results = coco_like(100)
    assert len(truth["images"]) == len(results) == 100 and len(truth["annotations"]) == 720
    assert {rows.shape for rows in results.values()} == {(DETECTIONS, 6)}


def test_our_counts_are_those_of_torchmetrics():
    table = part.segmentation(images=1, rounds=1)
    assert [row[-1] for row in table.rows if row[0] == "confusion" and row[1] != "ours"] == ["all"] * 2


def test_two_scales_take_the_memory_of_the_larger_one():
    (_, _, one), (_, _, two) = part.views([[0.25], [0.125, 0.25]]).rows
    assert one == two > 0
