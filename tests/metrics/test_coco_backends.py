"""COCO's numbers and matches are pycocotools' to the last bit, whoever computes them."""

import contextlib
import io
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.metrics.coco_map import KEYS, CocoMAP

CLASSES = (3, 8, 40, 41)


def boxes(rng, number):
    """(number, 4) xywh: half of them on a grid, so that overlaps are equal, and reach thresholds exactly."""
    free = np.concatenate([rng.uniform(0, 300, (number, 2)), np.exp(rng.normal(4, 1.2, (number, 2)))], axis=1)
    return np.where(rng.random((number, 1)) < 0.5, free, np.round(free / 40) * 40 + [0, 0, 40, 40])


def scenes(seed, *, images=14, most_objects=9, most_found=25, crowds=0.2):
    """A ground truth and (M, 6) detections of its images, as `CocoMAP.results` keeps them.

    There are images without objects, without detections and without either, crowds, sizes that COCO does not count,
    and scores that are equal within an image and class.
    """
    rng = np.random.default_rng(seed)
    ids = rng.permutation(1000)[:images].tolist()
    annotations, results = [], {}
    for image_id in ids:
        objects, labels = boxes(rng, rng.integers(most_objects + 1)), rng.integers(4, size=most_objects)
        areas = objects[:, 2:].prod(axis=1) * rng.choice([0.5, 1.0, 1e9], len(objects), p=[0.3, 0.65, 0.05])
        annotations += [
            {"id": len(annotations) + 1 + i, "image_id": image_id, "category_id": CLASSES[label], "area": area,
             "bbox": box, "iscrowd": int(rng.random() < crowds)}
            for i, (box, label, area) in enumerate(zip(objects.tolist(), labels.tolist(), areas.tolist()))
        ]  # fmt: skip
        number = rng.integers(most_found + 1)
        found, of = boxes(rng, number), rng.integers(4, size=number)
        near = rng.random(number) < 0.8 if len(objects) else np.zeros(number, bool)
        which = rng.integers(max(1, len(objects)), size=number)[near]
        off = rng.choice([0, 0, 1, 5], (len(which), 4)) * rng.normal(size=(len(which), 4))
        found[near], of[near] = objects[which] + off, labels[which]
        found[:, 2:] = np.where(rng.random((number, 1)) < 0.02, 2e5, np.abs(found[:, 2:]))
        results[image_id] = np.column_stack([found, rng.integers(8, size=number) / 8, of])
    categories = [{"id": c, "name": f"thing{c}"} for c in rng.permutation(CLASSES).tolist()]
    images = [{"id": i, "width": 400, "height": 400} for i in ids]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def crowded(seed):
    """More than 100 detections of one class in an image, which COCO cuts off."""
    truth, results = scenes(seed, images=4, most_objects=40, most_found=900)
    assert any((np.bincount(rows[:, 5].astype(int)) > 100).any() for rows in results.values())
    return truth, results


def without_detections(seed):
    truth, results = scenes(seed)
    return truth, {image_id: rows[:0] for image_id, rows in results.items()}


def without_objects(seed):
    truth, results = scenes(seed)
    return {**truth, "annotations": []}, results


def with_images_not_seen(seed):
    truth, results = scenes(seed)
    return truth, dict(list(results.items())[::2])


def with_nothing_seen(seed):
    return scenes(seed)[0], {}


CASES = [(scenes, seed) for seed in range(25)] + [(crowded, seed) for seed in range(3)]
CASES += [(case, 0) for case in (without_detections, without_objects, with_images_not_seen, with_nothing_seen)]
each_case = pytest.mark.parametrize("case, seed", CASES)


def metric_of(truth, results, backend="hotcoco"):
    metric = CocoMAP(truth, backend=backend)
    metric.results = results
    return metric


def pycocotools_alone(truth, results):
    """Its evaluation, and what it prints."""
    kept = {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in results],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in results],
    }
    found = CocoMAP(truth)
    found.results = results
    with contextlib.redirect_stdout(io.StringIO()):
        objects, detections = COCO(), COCO()
        objects.dataset = kept
        objects.createIndex()
        if rows := found.coco_results():
            detections = objects.loadRes(rows)
        else:
            detections.dataset = {**kept, "annotations": []}
            detections.createIndex()
        evaluation = COCOeval(objects, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    return evaluation, printed.getvalue().rstrip()


def matches_of(evaluation):
    """{field of `Matches`: array} from pycocotools' `evalImgs`: images change fastest, then areas, then classes."""
    params = evaluation.params
    num_images, num_classes = len(params.imgIds), len(params.catIds)
    bits = 1 << np.arange(len(params.iouThrs))[:, None]
    objects, detections = np.zeros((num_images, num_classes), int), np.zeros(num_classes, int)
    columns = {"image": [], "matched": [], "ignored": []}
    for k in range(num_classes):
        start = k * len(params.areaRng) * num_images
        pairs = [(i, e) for i, e in enumerate(evaluation.evalImgs[start : start + num_images]) if e is not None]
        for i, e in pairs:
            objects[i, k] = np.count_nonzero(np.logical_not(e["gtIgnore"]))
        if not pairs:
            continue
        order = np.argsort(-np.concatenate([e["dtScores"] for _, e in pairs]), kind="mergesort")
        detections[k] = len(order)
        columns["image"].append(np.repeat([i for i, _ in pairs], [len(e["dtScores"]) for _, e in pairs])[order])
        for name, key in (("matched", "dtMatches"), ("ignored", "dtIgnore")):
            flags = np.concatenate([e[key] for _, e in pairs], axis=1)[:, order] != 0  # (T, D)
            columns[name].append((flags * bits).sum(axis=0))
    columns = {name: np.concatenate([np.zeros(0), *parts]) for name, parts in columns.items()}
    return {"image_ids": np.array(params.imgIds), "objects": objects, "detections": detections, **columns}


@each_case
def test_both_backends_give_pycocotools_numbers_to_the_last_bit(case, seed):
    truth, results = case(seed)
    evaluation, printed = pycocotools_alone(truth, results)
    fast, slow = metric_of(truth, results), metric_of(truth, results, "pycocotools")
    numbers = fast.compute()
    assert numbers == slow.compute()
    assert [numbers[key] for key in KEYS] == [None if value < 0 else value for value in evaluation.stats.tolist()]
    assert fast.table == slow.table == printed


@each_case
def test_what_each_image_came_to_is_what_pycocotools_matched(case, seed):
    truth, results = case(seed)
    outcomes = metric_of(truth, results).outcomes()
    for name, expected in matches_of(pycocotools_alone(truth, results)[0]).items():
        np.testing.assert_array_equal(getattr(outcomes, name), expected, err_msg=name)


def test_cases_hold_what_could_go_wrong():
    outcomes = [metric_of(*scenes(seed)).outcomes() for seed in range(25)]
    assert any((of.ignored > of.matched).any() for of in outcomes)  # too large to count
    assert any(((of.ignored & of.matched) > 0).any() for of in outcomes)  # found a crowd
    assert any((of.objects.sum(axis=1) == 0).any() for of in outcomes)  # an image without objects
    assert len(np.unique(np.concatenate([of.matched for of in outcomes]))) > 8  # every threshold decides


def test_command_line_chooses_the_backend():
    for given, backend in ([], "hotcoco"), (["eval.backend=pycocotools"], "pycocotools"):
        config = compose("train", ["task=ssdlite", "imgsz=64", "width=0.35", *given])
        network = build_network(config, {"ssdlite": ["a", "b"]})
        assert network.tasks["ssdlite"].metric.backend == backend


def test_unknown_backend_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match="eval.backend=coco: expected hotcoco or pycocotools"):
        CocoMAP(scenes(0)[0], backend="coco")


def test_missing_hotcoco_says_how_to_go_on_before_anything_is_evaluated(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    truth, _ = scenes(0)
    with pytest.raises(ConfigError, match=r"pip install hotcoco, or say eval.backend=pycocotools"):
        CocoMAP(truth)
    CocoMAP(truth, backend="pycocotools")
    CocoMAP({"images": [], "annotations": [], "categories": []})  # of a network that only predicts
