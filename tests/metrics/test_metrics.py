import numpy as np
import pytest
import torch
from frames import filling

from mnv2_tasks.contracts import ClassificationBatch, DetectionBatch, Detections, SegmentationBatch
from mnv2_tasks.metrics.accuracy import TopKAccuracy
from mnv2_tasks.metrics.coco_map import KEYS, CocoMAP
from mnv2_tasks.metrics.mean_iou import MeanIoU

IMAGES = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)


def segmentation(masks, ids=None):
    ids = torch.arange(len(masks)) if ids is None else torch.tensor(ids)
    return SegmentationBatch(IMAGES, masks, ids, filling(masks.shape[1:], [list(masks.shape[1:])] * len(masks)))


def detection(ids):
    return DetectionBatch(IMAGES, [], torch.tensor(ids), filling((8, 8), [[100, 100]] * len(ids)))


def ground_truth(category_ids=(7, 12), images=(3, 5)):
    boxes = [(10, 10, 40, 30), (50, 20, 35, 60)]
    return {
        "images": [{"id": i, "width": 100, "height": 100} for i in images],
        "categories": [{"id": c, "name": f"thing{c}"} for c in category_ids],
        "annotations": [
            {"id": 1 + n, "image_id": i, "category_id": category_ids[b], "bbox": list(boxes[b]),
             "area": boxes[b][2] * boxes[b][3], "iscrowd": 0}
            for n, (i, b) in enumerate((i, b) for i in images for b in range(2))
        ],
    }  # fmt: skip


def exact():
    boxes = torch.tensor([[10.0, 10, 50, 40], [50, 20, 85, 80]])
    return Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))


def test_ground_truth_as_prediction_scores_one_in_map():
    metric = CocoMAP(ground_truth())
    metric.update([exact(), exact()], detection([3, 5]))
    numbers = metric.compute()
    assert numbers["AP"] == pytest.approx(1.0) and numbers["AP50"] == pytest.approx(1.0)
    assert numbers["AP_per_class"] == {"thing7": pytest.approx(1.0), "thing12": pytest.approx(1.0)}
    assert numbers["APs"] is None  # no small object: neither 0 nor -1


def test_map_prints_the_twelve_lines_of_coco():
    metric = CocoMAP(ground_truth())
    metric.update([exact(), exact()], detection([3, 5]))
    numbers = metric.compute()
    lines = metric.table.splitlines()
    assert len(lines) == 12 and set(KEYS) <= set(numbers)
    assert lines[0] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000"


def test_results_carry_the_sparse_category_ids():
    metric = CocoMAP(ground_truth())
    metric.update([exact()], detection([3]))
    assert [(r["image_id"], r["category_id"]) for r in metric.coco_results()] == [(3, 7), (3, 12)]
    assert metric.coco_results()[0]["bbox"] == [10, 10, 40, 30]


def test_swapped_labels_score_zero_in_map():
    metric = CocoMAP(ground_truth())
    swapped = exact()._replace(labels=torch.tensor([1, 0]))
    metric.update([swapped, swapped], detection([3, 5]))
    assert metric.compute()["AP"] == 0


def test_finding_nothing_scores_zero_and_does_not_crash():
    metric = CocoMAP(ground_truth())
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    metric.update([none, none], detection([3, 5]))
    assert metric.compute()["AP"] == 0


def test_an_image_seen_twice_counts_once_in_map():
    once, twice = CocoMAP(ground_truth()), CocoMAP(ground_truth())
    for metric, ids in ((once, [3, 5]), (twice, [3, 5, 5, 3])):
        metric.update([exact()] * len(ids), detection(ids))
    assert once.compute() == twice.compute()


def test_map_merged_from_two_halves_equals_the_whole():
    whole, left, right = (CocoMAP(ground_truth()) for _ in range(3))
    bad = exact()._replace(boxes=exact().boxes + 9)
    whole.update([exact(), bad], detection([3, 5]))
    left.update([exact()], detection([3]))
    right.update([bad], detection([5]))
    left.merge(right)
    assert left.compute() == whole.compute()


@pytest.mark.parametrize("seed", range(3))
def test_mean_iou_equals_a_count_of_sets(seed):
    rng = np.random.default_rng(seed)
    masks, predicted = (torch.from_numpy(rng.integers(0, 4, (3, 16, 16))) for _ in range(2))
    metric = MeanIoU(["a", "b", "c", "d"])
    metric.update(list(predicted), segmentation(masks))
    expected = [
        ((masks == k) & (predicted == k)).sum().item() / ((masks == k) | (predicted == k)).sum().item()
        for k in range(4)
    ]
    assert metric.compute()["mIoU"] == pytest.approx(np.mean(expected))
    assert metric.compute()["pixel_accuracy"] == pytest.approx((masks == predicted).double().mean().item())


@pytest.mark.parametrize("num_classes", [2, 21, 255])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_confusion_is_counted_pixel_by_pixel_with_up_to_255_classes(num_classes, dtype):
    generator = torch.Generator().manual_seed(num_classes)
    masks = torch.randint(0, num_classes, (2, 20, 30), generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = 255
    masks[0, 0, 0], masks[1, 0, :2] = num_classes - 1, 255
    predicted = [torch.randint(0, num_classes, size, generator=generator) for size in ((20, 30), (18, 25))]  # unpadded
    predicted[0][0, 0] = num_classes - 1
    expected = np.zeros((num_classes, num_classes), np.int64)
    for mask, of in zip(masks, predicted):
        for truth, guess in zip(mask[: of.shape[0], : of.shape[1]].flatten().tolist(), of.flatten().tolist()):
            if truth != 255:
                expected[truth, guess] += 1
    metric = MeanIoU([str(i) for i in range(num_classes)])
    metric.update(predicted, segmentation(masks.to(dtype)))
    np.testing.assert_array_equal(metric.confusion, expected)
    hit, missed = metric.outcomes().hit.sum(0), metric.outcomes().missed.sum(0)
    assert hit.tolist() == expected.diagonal().tolist() and (hit + missed).tolist() == expected.sum(1).tolist()


def test_ground_truth_as_prediction_scores_one_in_mean_iou():
    masks = torch.randint(0, 3, (2, 8, 8))
    metric = MeanIoU(["a", "b", "c"])
    metric.update(list(masks), segmentation(masks))
    assert metric.compute()["mIoU"] == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_pixels_labelled_255_never_change_mean_iou(seed):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 3, (2, 8, 8), generator=generator)
    ignored = torch.rand(2, 8, 8, generator=generator) < 0.3
    masks[ignored] = 255
    predicted = torch.randint(0, 3, (2, 8, 8), generator=generator)
    other = predicted.clone()
    other[ignored] = (other[ignored] + 1) % 3
    scores = []
    for guess in (predicted, other):
        metric = MeanIoU(["a", "b", "c"])
        metric.update(list(guess), segmentation(masks))
        scores.append(metric.compute())
    assert scores[0] == scores[1]


def test_absent_classes_are_left_out_of_the_mean():
    masks = torch.zeros(1, 4, 4, dtype=torch.int64)
    metric = MeanIoU(["background", "cat", "dog"])
    metric.update([torch.zeros(4, 4, dtype=torch.int64)], segmentation(masks))
    expected = {"mIoU": 1.0, "mIoU_union": 1.0, "pixel_accuracy": 1.0, "IoU": {"background": 1.0}}
    assert metric.compute() == expected


def test_class_that_is_only_predicted_lowers_the_mean_over_the_union_alone():
    masks, predicted = torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.int64)
    predicted[0] = 2  # 4 of 16 pixels
    masks[0, 3], predicted[3] = 255, 1  # 4 more, which have no class: what is predicted there does not count
    metric = MeanIoU(["background", "cat", "dog"])
    metric.update([predicted], segmentation(masks))
    scores = metric.compute()
    assert (scores["mIoU"], scores["mIoU_union"]) == (pytest.approx(8 / 12), pytest.approx(8 / 12 / 2))
    assert scores["IoU"] == {"background": pytest.approx(8 / 12)}  # as before


def test_mean_iou_counts_beyond_float32_and_each_image_once():
    masks = torch.zeros(1, 64, 64, dtype=torch.int64)
    metric = MeanIoU(["a", "b"])
    metric.confusion[0, 0] = 2**24
    metric.update([masks[0]], segmentation(masks, ids=[1]))
    metric.update([masks[0]], segmentation(masks, ids=[1]))
    assert metric.confusion[0, 0] == 2**24 + 64 * 64


def test_accuracy_counts_top_one_and_top_five():
    scores = torch.eye(10)[[0, 1, 2, 3]] * 10 - torch.arange(10) * 0.1
    labels = torch.tensor([0, 1, 0, 9])  # right, right, second best, last
    metric = TopKAccuracy([str(i) for i in range(10)])
    metric.update(scores, ClassificationBatch(IMAGES, labels, torch.arange(4), filling((8, 8), [[8, 8]] * 4)))
    numbers = metric.compute()
    assert (numbers["top1"], numbers["top5"], numbers["images"]) == (0.5, 0.75, 4)
    assert numbers["top1_per_class"] == {"0": 0.5, "1": 1.0, "9": 0.0}  # classes without an image are not averaged in
