"""What save=yolo, coco, labelstudio, cvat and csv write is what was found, to those who read these formats."""

import csv
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import hotcoco
import numpy as np
import pytest
import torch
from PIL import Image

from mnv2_tasks.contracts import Detections
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.formats.save_formats import SAVE_FORMATS, check_format
from mnv2_tasks.prediction.result_files import ResultFiles
from mnv2_tasks.prediction.results import Result

NAMES = ["cat", "a dog", "<b>\"&'\x1b,"]
KINDS = {"found": "detection", "drawn": "segmentation", "named": "classification"}
TASKS = {
    task: SimpleNamespace(kind=kind, class_names=["background"] * (task == "drawn") + NAMES)
    for task, kind in KINDS.items()
}
PLAIN = {task: SimpleNamespace(kind=of.kind, class_names=[*of.class_names[:-1], "owl"]) for task, of in TASKS.items()}


def picture(path, size, orientation=1):
    """A file of noise, each of another size; how it is looked at is upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.effect_noise(size, 99).convert("RGB").save(path, exif=exif)
    return str(path), read_image(path)


@pytest.fixture
def pictures(tmp_path):
    """Files of one name, one lying on its side, one that must not be read as a path, a page and a URL."""
    here = tmp_path / "in"
    return [
        picture(here / "a" / "cat.jpg", (60, 40)),
        picture(here / "b" / "Cat.png", (61, 41)),
        picture(here / "b" / "cat-2.jpg", (62, 42), orientation=6),
        picture(here / 'c, "d"\n<e> ü.png', (63, 43)),
        (str(here / "scan.tif, page 2"), picture(here / "page.png", (64, 44))[1]),
        ("https://example.org/cat.jpg?x=../../y", picture(here / "url.png", (65, 45))[1]),
    ]


def results(pictures, tasks, seed=0):
    rng = np.random.default_rng(seed)
    least = {task: np.full(3, 0.25, np.float32) for task in tasks}
    for number, (name, image) in enumerate(pictures):
        height, width = image.shape[:2]
        count = 5 if number else 0  # the first has no object
        corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4) * np.array([width, height] * 2)
        corners = np.concatenate([corners, [[3, 4, 3, 9]]])  # one without area
        scores = np.sort(rng.uniform(0.3, 1, count + 1))[::-1].copy()
        mask = rng.integers(0, 4 if number else 1, (height // 4 + 1, width // 4 + 1), np.uint8)
        found = {
            "found": Detections(
                torch.from_numpy(corners).float(),
                torch.from_numpy(scores),
                torch.from_numpy(rng.integers(0, 3, count + 1)),
            ),
            "drawn": np.kron(mask, np.ones((4, 4), np.uint8))[:height, :width],
            "named": torch.from_numpy(rng.dirichlet(np.ones(3))),
        }
        yield Result(name, image, tasks, {task: found[task] for task in tasks}, least)


@pytest.fixture
def written(pictures, tmp_path):
    """word, tasks -> (the folder, the results that were written)"""

    def write(word, tasks=TASKS, seed=0):
        out = tmp_path / "out"
        out.mkdir()
        given = list(results(pictures, tasks, seed))
        files = ResultFiles(out, [word], waiting=2)
        for result in given:
            files.write(result)
        files.finish()
        assert not list(out.rglob("*.part")) and not (tmp_path / "y").exists()
        return out, given

    return write


def read_back(root, kind):
    """{(height, width): sample} of all there is, by the names of classes"""
    source = folder(root=str(root), kind=kind, on_bad="refuse", train=None, val=None)
    splits = ("train", "val")
    for split in splits:
        source.verified(split)
    samples = [source.sample(split, 0, index) for split in splits for index in range(source.length(split))]
    return {sample.image.shape[:2]: sample for sample in samples}, source.class_names


def boxes_of(result):
    """(class, x0, y0, x1, y1) of each, without the box that has no area"""
    found = result["found"]
    return sorted((result["found"].names[k], *b) for k, b in zip(found.labels, found.boxes.tolist()) if b[0] < b[2])


def assert_same(ours, theirs, tolerance):
    ours, theirs = sorted(ours), sorted(theirs)
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    np.testing.assert_allclose([row[1:] for row in ours], [row[1:] for row in theirs], atol=tolerance)


@pytest.mark.parametrize("word", ["yolo", "coco"])
def test_boxes_come_back_through_data_folder(word, written):
    out, given = written(word, {"found": PLAIN["found"]})
    samples, names = read_back(out / f"{word}_found", "detection")
    assert names == PLAIN["found"].class_names and len(samples) == len(given)
    for result in given:
        sample = samples[result.image.shape[:2]]
        assert_same(boxes_of(result), [(names[k], *b) for k, b in zip(sample.box_labels, sample.boxes.tolist())], 0.02)
        assert np.abs(sample.image.astype(int) - result.image).max() == 0


@pytest.mark.parametrize("word", ["yolo", "coco"])
def test_masks_come_back_through_data_folder(word, written):
    out, given = written(word, {"drawn": PLAIN["drawn"]})
    samples, names = read_back(out / f"{word}_drawn", "segmentation")
    assert names == PLAIN["drawn"].class_names and len(samples) == len(given)
    for result in given:
        assert (samples[result.image.shape[:2]].mask == result.mask).all()


def test_coco_has_scores_and_the_area_of_each_mask(written):
    out, given = written("coco")
    content = json.loads((out / "coco_found" / "annotations.json").read_text())
    scores = [score for r in given for score, box in zip(r.scores.tolist(), r.boxes) if box[0] < box[2]]
    assert [found["score"] for found in content["annotations"]] == pytest.approx(scores, abs=1e-4)
    assert [found["id"] for found in content["annotations"]] == list(range(1, len(scores) + 1))
    drawn = json.loads((out / "coco_drawn" / "annotations.json").read_text())
    for found in drawn["annotations"]:
        inside = hotcoco.mask.decode(found["segmentation"])
        mask = given[found["image_id"] - 1].mask == found["category_id"] - 1
        assert (inside == mask).all() and found["area"] == mask.sum() and found["iscrowd"] == 0


def test_label_studio_has_percentages_and_the_names_of_its_interface(written):
    out, given = written("labelstudio")
    place = out / "labelstudio_found"
    view = ElementTree.parse(place / "labels.xml").getroot()
    boxes = view.find("RectangleLabels")
    tasks = json.loads((place / "tasks.json").read_text())
    for task, result in zip(tasks, given, strict=True):
        path = parse_qs(urlsplit(task["data"]["image"]).query)["d"][0]
        height, width = read_image(place / path).shape[:2]
        assert (height, width) == result.image.shape[:2]
        found = []
        for entry in task["predictions"][0]["result"]:
            assert (entry["original_height"], entry["original_width"]) == (height, width)
            assert entry["from_name"] == boxes.get("name") and entry["to_name"] == view.find("Image").get("name")
            value = entry["value"]
            x, y, w, h = (value[side] / 100 for side in ("x", "y", "width", "height"))
            found.append((value["rectanglelabels"][0], x * width, y * height, (x + w) * width, (y + h) * height))
        assert_same(boxes_of(result), found, 0.02)
    tasks = json.loads((out / "labelstudio_named" / "tasks.json").read_text())
    for task, result in zip(tasks, given, strict=True):
        (entry,) = task["predictions"][0]["result"]
        assert entry["value"]["choices"] == [result.top(1)[0][0]]


def test_cvat_has_boxes_masks_and_tags(written):
    out, given = written("cvat")
    shown = [*NAMES[:2], NAMES[2].replace("\x1b", r"\x1b")]  # which XML cannot hold
    roots = {task: ElementTree.parse(out / f"cvat_{task}" / "annotations.xml").getroot() for task in TASKS}
    assert [label.findtext("name") for label in roots["found"].iter("label")] == shown
    assert roots["found"].findtext("version") == "1.1"
    for number, result in enumerate(given):
        images = {task: root.findall("image")[number] for task, root in roots.items()}
        for task, image in images.items():
            size = read_image(out / f"cvat_{task}" / "images" / image.get("name")).shape[:2]
            assert (int(image.get("height")), int(image.get("width"))) == size == result.image.shape[:2]
            assert image.get("id") == str(number)
        sides = ("xtl", "ytl", "xbr", "ybr")
        boxes = [(NAMES[shown.index(b.get("label"))], *(float(b.get(s)) for s in sides)) for b in images["found"]]
        assert_same(boxes_of(result), boxes, 0.02)
        (tag,) = images["named"]
        assert NAMES[shown.index(tag.get("label"))] == result.top(1)[0][0]
        mask = np.zeros_like(result.mask)
        for part in images["drawn"]:
            left, top, width, height = (int(part.get(key)) for key in ("left", "top", "width", "height"))
            ends = np.cumsum([0, *map(int, part.get("rle").split(","))])
            inside = np.zeros(width * height, bool)
            for start, end in list(pairwise(ends))[1::2]:
                inside[start:end] = True
            mask[top : top + height, left : left + width][inside.reshape(height, width)] = (
                shown.index(part.get("label")) + 1
            )
        assert (mask == result.mask).all()


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_box_and_for_each_of_the_best_classes(written):
    out, given = written("csv")
    assert not list(out.rglob("images"))
    rows = rows_of(out / "csv_found" / "annotations.csv")
    for result in given:
        ours = [row for row in rows if row["file"] == result.name]
        assert_same(
            boxes_of(result), [(r["class"], *(float(r[s]) for s in ("x0", "y0", "x1", "y1"))) for r in ours], 0.02
        )
    rows = rows_of(out / "csv_named" / "annotations.csv")
    for result in given:
        told = [(row["class"], float(row["score"])) for row in rows if row["file"] == result.name]
        assert told == [(name, pytest.approx(score, abs=1e-4)) for name, score in result.top(5)]


def test_a_cell_of_csv_is_no_formula(tmp_path):
    files = ResultFiles(tmp_path, ["csv"], waiting=1)
    for result in results([("=1+1.png", np.zeros((8, 9, 3), np.uint8))], TASKS):
        files.write(result)
    files.finish()
    for path in tmp_path.rglob("annotations.csv"):
        assert all(row["file"] == "'=1+1.png" for row in rows_of(path))


def test_copies_have_names_of_their_own_that_every_system_takes(written):
    out, given = written("cvat")
    names = sorted(path.name for path in (out / "cvat_found" / "images").iterdir())
    assert names == ["Cat-2.png", "c_d_e_ü.png", "cat-2-2.jpg", "cat-3.png", "cat.jpg", "scan-2.png"]
    assert (out / "cvat_found" / "images" / "cat.jpg").read_bytes() == Path(given[0].name).read_bytes()


def test_a_name_of_bytes_that_are_no_text_is_written_by_all(tmp_path):
    name = "in/\udcff.png"
    image = np.zeros((8, 9, 3), np.uint8)
    files = ResultFiles(tmp_path, list(SAVE_FORMATS), waiting=1)
    for result in results([(name, image), (name, image)], TASKS):
        files.write(result)
    files.finish()
    for path in tmp_path.rglob("*"):
        path.name.encode()
        if path.suffix in (".json", ".csv", ".xml", ".yaml", ".txt"):
            path.read_text("utf-8")


@pytest.mark.parametrize("word", SAVE_FORMATS)
def test_a_format_that_holds_nothing_of_it_says_which_do(word):
    for kind in KINDS.values():
        if kind in SAVE_FORMATS[word].KINDS:
            check_format(word, [kind])
        else:
            serving = " or ".join(f"save={name}" for name, fmt in SAVE_FORMATS.items() if kind in fmt.KINDS)
            with pytest.raises(ConfigError, match=f"^save={word}: is for .* tasks are {kind}. Say {serving}$"):
                check_format(word, [kind])
