"""plots/ and samples/: what an evaluation leaves for people to look at."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Diagnosis
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.shapes import Shapes
from mnv2_tasks.evaluation import label_statistics as statistics
from mnv2_tasks.evaluation import pictures
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.evaluation.label_statistics import label_statistics
from mnv2_tasks.prediction import sample_sheet

pytestmark = pytest.mark.draws

PLOTS = {
    "classification": {"confusion", "calibration", "labels"},
    "ssdlite": {"confusion", "precision_recall", "f1", "errors", "calibration", "labels", "boxes"},
    "mobile_deeplabv3": {"confusion", "iou", "labels"},
}
SHIPPED = ["weights=multitask_shapes", "workers=0", "trainer.accelerator=cpu", "data.source.val_size=9"]


def evaluated(out, task, *words):
    return evaluate(compose("eval", [f"task={task}", *SHIPPED, f"out={out}", *words]))


def drawn(folder):
    """Names of the pictures in a folder, none of which is blank."""
    for path in folder.rglob("*.png"):
        assert cv2.imread(str(path)).std() > 5, path
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("task", PLOTS)
def test_an_evaluation_leaves_plots_and_samples(task, tmp_path):
    evaluated(tmp_path, task)
    assert drawn(tmp_path / "plots") == PLOTS[task]
    assert drawn(tmp_path / "samples") == {"validation", "worst"}


@pytest.mark.slow
def test_of_several_tasks_each_has_its_folder(tmp_path):
    evaluated(tmp_path, "multitask")
    assert drawn(tmp_path / "plots") == {f"{task}/{name}" for task, names in PLOTS.items() for name in names}
    assert drawn(tmp_path / "samples") == {f"{task}/{name}" for task in PLOTS for name in ("validation", "worst")}


def test_what_cannot_be_drawn_is_told_and_the_rest_is_there(tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise ValueError("no ink")

    monkeypatch.setattr("mnv2_tasks.drawing.confusion.plot_confusion", broken)
    monkeypatch.setattr(pictures, "save_samples", broken)
    with caplog.at_level(logging.WARNING):
        metrics = evaluated(tmp_path, "classification")
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert drawn(tmp_path / "plots") == {"calibration", "labels"} and drawn(tmp_path / "samples") == {"worst"}
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all("no ink" in line and "no " in line for line in told)
    assert "confusion.png" in told[0] and "validation.png" in told[1]


@pytest.fixture
def shown(monkeypatch):
    """The indices of the images of each sheet."""
    sheets = {}
    monkeypatch.setattr(sample_sheet, "_save", lambda *args: sheets.update({args[-1].name: list(args[-2])}))
    return sheets


def diagnosis(ids, scores):
    return Diagnosis({}, np.array(ids), np.array(scores, float), "score")


def source(ids):
    return SimpleNamespace(length=lambda split: len(ids), image_ids=lambda split: np.array(ids))


def test_the_images_of_the_lowest_scores_are_the_worst_and_those_without_a_score_are_none(shown):
    ids = [40, 7, 99, 3]  # in the order of the split
    found = diagnosis([3, 7, 40, 99], [0.9, 0.1, np.nan, 0.0])
    sample_sheet.save_worst(None, "", source(ids), None, found, Path("worst.png"))
    assert [ids[index] for index in shown["worst.png"]] == [99, 7, 3]


def test_samples_are_spread_over_the_split(shown):
    sample_sheet.save_samples(None, "", source(range(1000)), None, diagnosis([], []), Path("validation.png"))
    indices = shown["validation.png"]
    assert indices[0] == 0 and indices[-1] == 999 and len(indices) == 12 and np.diff(indices).min() > 80


def test_truth_and_prediction_stand_side_by_side_with_the_score_beneath(tmp_path, monkeypatch):
    written, titles, side_by_side = [], [], sample_sheet.side_by_side
    monkeypatch.setattr(sample_sheet, "side_by_side", lambda of: titles.append([*of]) or side_by_side(of))
    monkeypatch.setattr(sample_sheet.Canvas, "write", lambda self, x, y, text, *_, **__: written.append(text))
    evaluated(tmp_path, "mobile_deeplabv3")
    scores = [line for line in written if line.startswith("mIoU: ")]
    assert len(scores) == 2 * 9 and written.count("image 0") == 2
    worst = [float(line.removeprefix("mIoU: ")) for line in scores[9:]]
    assert worst == sorted(worst) and sorted(scores[:9]) == sorted(scores[9:])
    assert titles == 2 * 9 * [["truth", "prediction"]]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save(path) if isinstance(content, Image.Image) else path.write_text(content)


def picture(width=40, height=20):
    return Image.fromarray(np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8))


def coco(root, boxes):
    """(class, xywh, crowd) of the one picture of val; train has a box of each class."""
    categories = [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}]
    of_train = [(5, [0, 0, 4, 4], 0), (9, [0, 0, 4, 4], 0)]
    for split, found, width in (("train", of_train, 41), ("val", boxes, 40)):
        write(root / split / f"{split}.png", picture(width))
        annotations = [
            {"id": i, "image_id": 1, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd}
            for i, (c, b, crowd) in enumerate(found, start=1)
        ]
        images = [{"id": 1, "file_name": f"{split}.png", "width": width, "height": 20}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write(root / split / "_annotations.coco.json", json.dumps(content))
    return folder(kind="detection", root=str(root), on_bad="refuse", train=None, val=None)


def test_boxes_of_files_are_all_counted_but_crowds(tmp_path):
    boxes = [(5, [10, 5, 20, 10], 0), (5, [0, 0, 10, 10], 0), (9, [0, 0, 40, 20], 1), (9, [20, 0, 20, 20], 0)]
    data = coco(tmp_path, boxes)
    data.prepare(["train", "val"])
    found = label_statistics(data, "val")
    assert found.what == "boxes" and found.amounts.tolist() == [2, 1] and found.images == 1
    assert found.boxes.tolist() == [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.25, 0.5], [0.5, 0, 1, 1]]
    assert data.file_name("val", 1) == "val.png"


def test_images_of_files_are_all_counted(tmp_path):
    for split, numbers in (("train", {"cat": 2, "dog": 3}), ("val", {"cat": 1, "dog": 2})):
        for name, number in numbers.items():
            for i in range(number):
                write(tmp_path / split / name / f"{i}.png", picture(30 + i + 10 * len(split) + ord(name[0])))
    data = folder(kind="classification", root=str(tmp_path), on_bad="refuse", train=None, val=None)
    data.prepare(["train", "val"])
    assert [label_statistics(data, split).amounts.tolist() for split in ("train", "val")] == [[2, 3], [1, 2]]


@pytest.mark.parametrize("kind", ["classification", "detection", "segmentation"])
def test_of_what_is_drawn_the_labels_of_images_spread_over_the_split_are_counted(kind, monkeypatch):
    data = Shapes(kind=kind, train_size=8, val_size=20, image_size=48, seed=0)
    monkeypatch.setattr(statistics, "LOOKED_AT", 3)
    samples = [data.sample("val", 0, index) for index in (0, 9, 19)]
    found = label_statistics(data, "val")
    labels = {
        "classification": [sample.label for sample in samples],
        "detection": [label for sample in samples for label in sample.box_labels],
        "segmentation": [value for sample in samples for value in sample.mask.ravel()],
    }[kind]
    assert found.images == 3
    assert found.amounts.tolist() == [sum(label == k for label in labels) for k in range(len(data.class_names))]
    if kind == "detection":
        expected = np.concatenate([sample.boxes for sample in samples]) / 48
        np.testing.assert_allclose(found.boxes, expected)
