"""What is kept of each image scores any resample as the metric itself would."""

import contextlib
import io

import numpy as np
import pytest
import torch
from frames import filling
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mnv2_tasks.contracts import ClassificationBatch, DetectionBatch, Detections, SegmentationBatch
from mnv2_tasks.metrics.accuracy import TopKAccuracy
from mnv2_tasks.metrics.coco_map import CocoMAP
from mnv2_tasks.metrics.mean_iou import MeanIoU
from mnv2_tasks.metrics.outcomes import load_outcomes, save_outcomes

IMAGES = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
SEEDS = pytest.mark.parametrize("seed", range(4))


def once(outcomes):
    return np.ones(len(outcomes.image_ids), np.int64)


def draw(rng, num_images):
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images))


def scenes(seed, num_images=12, classes=(3, 8, 40)):
    """A ground truth with crowds and empty images, and noisy detections of it with tied scores."""
    rng = np.random.default_rng(seed)
    images, annotations, found = [], [], {}
    for i in range(num_images):
        image_id = 5 * i + 2
        images.append({"id": image_id, "width": 100, "height": 100})
        rows = []
        scores = iter(rng.permutation(20) / 20)  # equal ones in several images, whose order is that of the images
        for _ in range(rng.integers(0, 7)):
            label, x, y = rng.integers(len(classes)), *rng.uniform(0, 60, 2)
            w, h = rng.uniform(5, 40, 2)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": classes[label], "area": w * h,
                 "bbox": [x, y, w, h], "iscrowd": int(rng.random() < 0.1)}
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                box = np.array([x, y, x + w, y + h]) + rng.normal(0, 2, 4)
                rows.append((*box, next(scores), label if rng.random() < 0.8 else rng.integers(len(classes))))
        rows = torch.tensor(sorted(rows, key=lambda row: -row[4]), dtype=torch.float64).reshape(-1, 6)
        found[image_id] = Detections(rows[:, :4].float(), rows[:, 4].float(), rows[:, 5].long())
    categories = [{"id": c, "name": f"thing{c}"} for c in classes]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def detection_metric(truth, found):
    metric = CocoMAP(truth)
    ids = list(found)
    metric.update(list(found.values()), DetectionBatch(IMAGES, [], torch.tensor(ids), filling((8, 8), [[9, 9]])))
    return metric


def resampled(truth, found, counts):
    """The data set that a resample stands for: every copy of an image is an image of its own."""
    images, annotations, copies = [], [], {}
    for image, count in zip(sorted(truth["images"], key=lambda image: image["id"]), counts):
        for _ in range(count):
            image_id = len(images) + 1
            images.append({**image, "id": image_id})
            copies[image_id] = found[image["id"]]
            annotations += [
                {**a, "id": len(annotations) + 1 + n, "image_id": image_id}
                for n, a in enumerate(a for a in truth["annotations"] if a["image_id"] == image["id"])
            ]
    return {**truth, "images": images, "annotations": annotations}, copies


def coco_ap(truth, found):
    """pycocotools' own AP and its AP of each class, NaN where there are no objects."""
    results = [
        {"image_id": i, "category_id": truth["categories"][label]["id"], "score": score,
         "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for i, of in found.items()
        for (x0, y0, x1, y1), score, label in zip(
            of.boxes.double().tolist(), of.scores.double().tolist(), of.labels.tolist()
        )
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    per_class = np.where(precision > -1, precision, np.nan).mean(axis=(0, 1))
    return evaluation.stats[0], per_class


@SEEDS
def test_detection_with_each_image_once_scores_as_pycocotools(seed):
    truth, found = scenes(seed)
    metric = detection_metric(truth, found)
    numbers = metric.compute()
    outcomes = metric.outcomes()
    ap, per_class = coco_ap(truth, found)
    assert outcomes.score(once(outcomes)) == pytest.approx(ap, abs=1e-9)
    assert outcomes.score(once(outcomes)) == pytest.approx(numbers["AP"], abs=1e-9)
    np.testing.assert_allclose(outcomes.class_scores(once(outcomes)), per_class, atol=1e-9)


@SEEDS
def test_detection_resample_scores_as_pycocotools_on_copied_images(seed):
    truth, found = scenes(seed)
    metric = detection_metric(truth, found)
    metric.compute()
    counts = draw(np.random.default_rng(seed), len(found))
    ap, per_class = coco_ap(*resampled(truth, found, counts))
    assert metric.outcomes().score(counts) == pytest.approx(ap, abs=1e-9)
    np.testing.assert_allclose(metric.outcomes().class_scores(counts), per_class, atol=1e-9)


def test_detection_that_finds_nothing_scores_zero_on_every_resample():
    truth, found = scenes(0)
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    metric = detection_metric(truth, {image_id: empty for image_id in found})
    assert metric.compute()["AP"] == 0
    assert metric.outcomes().score(once(metric.outcomes())) == 0


def test_detection_without_objects_has_no_score():
    truth, found = scenes(0)
    metric = detection_metric({**truth, "annotations": []}, found)
    assert metric.compute()["AP"] is None
    assert np.isnan(metric.outcomes().score(once(metric.outcomes())))


def segmentation_metric(predictions, masks, ids):
    metric = MeanIoU([f"class{i}" for i in range(5)])
    size = list(masks.shape[1:])
    batch = SegmentationBatch(IMAGES, masks, torch.tensor(ids), filling(size, [size] * len(masks)))
    metric.update(list(predictions), batch)
    return metric


@SEEDS
def test_segmentation_resample_scores_as_the_metric_on_copied_images(seed):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 4, (9, 6, 7), generator=generator)  # class 4 is never there, though predicted
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = 255
    predictions = torch.where(
        torch.rand(masks.shape, generator=generator) < 0.5,
        masks.clamp(max=4),
        torch.randint(0, 5, masks.shape, generator=generator),
    )
    metric = segmentation_metric(predictions, masks, list(range(9)))
    outcomes = metric.outcomes()
    assert outcomes.score(once(outcomes)) == pytest.approx(metric.compute()["mIoU"], abs=1e-12)

    counts = draw(np.random.default_rng(seed), 9)
    copies = np.repeat(np.arange(9), counts)
    again = segmentation_metric(predictions[copies], masks[copies], list(range(9))).compute()
    assert outcomes.score(counts) == pytest.approx(again["mIoU"], abs=1e-12)
    per_class = dict(zip(metric.class_names, outcomes.class_scores(counts)))
    assert {name: value for name, value in per_class.items() if not np.isnan(value)} == pytest.approx(again["IoU"])


@SEEDS
def test_classification_resample_scores_as_the_metric_on_copied_images(seed):
    generator = torch.Generator().manual_seed(seed)
    scores, labels = torch.rand(11, 8, generator=generator), torch.randint(0, 8, (11,), generator=generator)

    def metric_of(rows):
        metric = TopKAccuracy([f"class{i}" for i in range(8)])
        frames = filling((8, 8), [[8, 8]] * len(rows))
        metric.update(scores[rows], ClassificationBatch(IMAGES, labels[rows], torch.arange(len(rows)), frames))
        return metric

    outcomes = metric_of(torch.arange(11)).outcomes()
    counts = draw(np.random.default_rng(seed), 11)
    again = metric_of(torch.tensor(np.repeat(np.arange(11), counts))).compute()
    assert outcomes.score(counts) == pytest.approx(again["top1"], abs=1e-12)
    names = [f"class{i}" for i in range(8)]
    per_class = {n: v for n, v in zip(names, outcomes.class_scores(counts)) if not np.isnan(v)}
    assert per_class == pytest.approx(again["top1_per_class"])


def test_file_returns_what_was_written(tmp_path):
    truth, found = scenes(1)
    metric = detection_metric(truth, found)
    metric.compute()
    masks = torch.randint(0, 4, (3, 6, 7))
    pixels = segmentation_metric(masks, masks, [4, 2, 9]).outcomes()
    assert pixels.image_ids.tolist() == [2, 4, 9]
    save_outcomes(tmp_path / "per_image.npz", {"ssdlite": metric.outcomes(), "deeplabv3": pixels})
    loaded = load_outcomes(tmp_path / "per_image.npz")
    assert list(loaded) == ["ssdlite", "deeplabv3"]
    assert loaded["ssdlite"].score(once(loaded["ssdlite"])) == metric.outcomes().score(once(metric.outcomes()))
    assert loaded["deeplabv3"].score(once(pixels)) == 1


def test_training_and_evaluation_leave_the_outcomes_of_each_image(tiny):
    from pathlib import Path

    from mnv2_tasks.config.compose import compose
    from mnv2_tasks.evaluation.evaluate import evaluate
    from mnv2_tasks.training.train import train

    run = train(compose("train", ["task=multitask", *tiny]))
    evaluate(compose("eval", [f"run={run}"]))
    for folder in (run, Path(run) / "eval"):
        outcomes = load_outcomes(folder / "per_image.npz")
        assert list(outcomes) == ["classification", "ssdlite", "mobile_deeplabv3"]
        assert all(of.image_ids.tolist() == list(range(8)) for of in outcomes.values())
