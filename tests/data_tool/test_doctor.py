import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from torchvision.ops import box_iou

from mnv2_tasks.boxes.anchors import anchor_shapes, ssd_anchors
from mnv2_tasks.contracts import Sample
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data_tool.anchor_recall import best_overlaps, fit_by_class, fit_by_size, ssd_grids
from mnv2_tasks.data_tool.examine import examine, kind_of
from mnv2_tasks.data_tool.pages import plot_classes, write_samples
from mnv2_tasks.data_tool.repaired_copy import write_repaired
from mnv2_tasks.data_tool.tables import print_examination, verdict, write_bad_files, write_classes
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.kinds.detection import draw_annotations

WIDTH, HEIGHT = 64, 48


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path)


def coco_json(path, pictures, boxes):
    """boxes: (image, category, x, y, width, height)"""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(pictures)]
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
        for i, (image, category, *box) in enumerate(boxes, start=1)
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 6, "name": "emu"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


BROKEN = [
    (0, 3, 5, 5, 20, 20),
    (0, 3, 5, 5, 20, 20),  # 2: the same again
    (0, 5, 5, 5, 0, 20),  # 3: no area
    (0, 5, 100, 5, 20, 20),  # 4: outside
    (0, 5, 10, 10, -4, 8),  # 5: reversed
    (0, 5, float("nan"), 10, 4, 8),  # 6: not a number
    (0, 9, 5, 5, 20, 20),  # 7: unknown category
    (0, 5, 44, 10, 30, 20),  # 8: a third reaches out
    (1, 3, 5, 5, 20, 20),  # in the picture that is cut short
    (2, 5, 5, 5, 20, 20),  # in the picture that val has too
    (3, 5, 1, 1, 0.3, 20),  # 11: tiny
    (3, 3, 10, 10, 54.5, 20),  # 12: reaches out by rounding
]


@pytest.fixture
def broken(tmp_path):
    """A detection set with one of everything."""
    root = tmp_path / "set"
    for split, number in (("train", 5), ("val", 2)):
        for i in range(number):
            picture(root / "images" / split / f"{split}{i}.png", seed=10 * number + i)
    coco_json(root / "annotations" / "train.json", [f"train{i}.png" for i in range(5)], BROKEN)
    coco_json(root / "annotations" / "val.json", ["val0.png", "val1.png"], [(0, 3, 5, 5, 30, 30), (1, 5, 2, 2, 40, 40)])
    cut = root / "images" / "train" / "train1.png"
    cut.write_bytes(cut.read_bytes()[:2000])
    shutil.copy(root / "images" / "train" / "train2.png", root / "images" / "val" / "val1.png")
    return root


def opened(root, kind="detection", on_bad="skip"):
    return folder(root=str(root), kind=kind, on_bad=on_bad, train=None, val=None)


@pytest.fixture
def found(broken):
    return examine(opened(broken), ["train", "val"], 320)


def test_every_kind_of_problem_is_named_with_its_file(found, tmp_path):
    write_bad_files(found, tmp_path / "bad_files.txt")
    lines = (tmp_path / "bad_files.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert all(len(row) == 3 for row in rows)
    for file, what in [
        ("train0.png", "box 3 has no area"),
        ("train0.png", "box 4 lies outside its image"),
        ("train0.png", "box 5 has its corners reversed"),
        ("train0.png", "box 6 is not a number"),
        ("train.json", "annotation 7 has category 9, absent from 'categories'"),
        ("train0.png", "box 8 reaches out of its image"),
        ("train0.png", "box 2 is the same as box 1 (cat)"),
        ("train1.png", "is damaged or cut short"),
        ("train2.png", "this training image is also in val"),
    ]:
        assert [row for row in rows if row[0].endswith(file) and what in row[1]], what
    assert len(rows) == 9 and "# train: 8 problems" in lines and "# train: 1 hints" in lines


def test_counts_are_those_of_the_annotations(found):
    train, val = found.splits
    assert len(train.records) == 5 and len(train.problems) == 8 and len(train.duplicates) == 1
    assert train.tiny == 1 and val.tiny == 0 and val.problems == []
    assert found.twins == [(2, 1)]
    assert val.counts.amount.tolist() == [1, 1, 0] and val.counts.images.tolist() == [1, 1, 0]
    assert not found.healthy and verdict(found) == "detection: 8 problems; 1 hint"


def test_report_says_what_is_missing_and_counts_problems_by_kind(found):
    console = Console(record=True, width=200, file=io.StringIO())
    with console.file:
        print_examination(found, 320, console)
        text = console.export_text()
    assert "train: no boxes of 1 class: emu" in text and "val: no boxes of 1 class: emu" in text
    assert "category ids go from 3 to 6 with gaps: 4" in text
    assert "1 x box N has no area" in text and "recall" in text
    assert "images of val among those of train, by content: 1" in text


def test_repaired_copy_is_accepted_without_complaint(found, tmp_path):
    lines = write_repaired(found, tmp_path / "repaired")
    source = opened(tmp_path / "repaired", on_bad="refuse")
    source.prepare(["train", "val"])
    assert source.class_names == ["cat", "dog", "emu"] and source.category_ids == [3, 5, 6]
    assert (source.length("train"), source.length("val")) == (3, 2)
    assert lines[0] == "train: 3 images copied, 2 images and 7 boxes left out"
    boxes = source.sample("train", 0, 0).boxes
    assert boxes.tolist() == [[5, 5, 25, 25], [44, 10, 64, 30]]  # the second one cut at the image's edge
    again = examine(source, ["train", "val"], 320)
    assert again.healthy and verdict(again) == "detection: no problems"


def test_original_stays_as_it_is(broken, found, tmp_path):
    before = {file: file.read_bytes() for file in broken.rglob("*") if file.is_file()}
    write_repaired(found, tmp_path / "repaired")
    assert {file: file.read_bytes() for file in broken.rglob("*") if file.is_file()} == before


def test_split_that_cannot_be_read_is_reported_and_the_other_one_examined(broken):
    (broken / "annotations" / "train.json").unlink()
    found = examine(opened(broken), ["train", "val"], 320)
    assert [split.name for split in found.splits] == ["val"] and "no split to train on" in found.unread["train"]
    assert not found.healthy and verdict(found) == "detection: train cannot be read"
    with pytest.raises(ConfigError, match="no split to train on"):
        examine(opened(broken), ["train"], 320)


# ---------------------------------------------------------------- anchors


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [96, 320])
def test_anchor_recall_equals_one_computed_box_by_box(seed, size):
    generator = np.random.default_rng(seed)
    corners = generator.random((1500, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    anchors = ssd_anchors(ssd_grids(size)).numpy().astype(float)

    def best(box):
        sides = np.minimum(box[2:], anchors[:, 2:]) - np.maximum(box[:2], anchors[:, :2])
        shared = sides.clip(0).prod(axis=1)
        areas = (anchors[:, 2:] - anchors[:, :2]).prod(axis=1)
        return (shared / ((box[2:] - box[:2]).prod() + areas - shared)).max()

    expected = np.array([best(box) for box in boxes])
    np.testing.assert_allclose(best_overlaps(boxes, size), expected, atol=1e-5)
    rows = {row.name: row for row in fit_by_size(boxes, best_overlaps(boxes, size), size)}
    pixels = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * size**2
    for name, group in {"small": pixels < 32**2, "large": pixels >= 96**2, "all": pixels > 0}.items():
        assert rows[name].boxes == group.sum()
        if group.any():
            assert rows[name].recall == pytest.approx((expected[group] >= 0.5).mean(), abs=0.002)
            assert rows[name].mean_iou == pytest.approx(expected[group].mean(), abs=1e-5)


def test_grids_are_those_of_the_real_network():
    assert [height for height, _ in ssd_grids(320)] == [20, 10, 5, 3, 2, 1]
    assert [height for height, _ in ssd_grids(300)] == [19, 10, 5, 3, 2, 1]


def test_an_anchor_is_found_for_a_box_that_is_one():
    anchor = ssd_anchors(ssd_grids(320))[[1000]]
    assert best_overlaps(anchor.numpy(), 320)[0] == pytest.approx(1.0) and box_iou(anchor, anchor).item() == 1


def test_recall_follows_the_anchors_that_a_detector_is_given():
    shapes = anchor_shapes([[0.05, 1.0]], [0.1], [1.0])
    anchor = ssd_anchors(ssd_grids(320, maps=2), shapes)[[7]]
    assert best_overlaps(anchor.numpy(), 320, shapes)[0] == pytest.approx(1.0)
    assert best_overlaps(anchor.numpy(), 320)[0] < 0.5  # TF's are larger


def test_a_class_of_thin_boxes_is_the_one_that_anchors_miss():
    squares, slivers = [[0.2, 0.2, 0.5, 0.5]] * 3, [[0.3, 0.1, 0.34, 0.9]] * 2
    best = best_overlaps(np.array(squares + slivers), 320)
    rows = fit_by_class(np.array([0, 0, 0, 2, 2]), best, ["square", "none", "sliver"])
    assert [(row.name, row.boxes) for row in rows] == [("square", 3), ("none", 0), ("sliver", 2)]
    assert rows[0].recall == 1 and rows[2].recall == 0 and np.isnan(rows[1].recall)


def test_no_boxes_have_no_recall():
    rows = fit_by_size(np.zeros((0, 4)), best_overlaps(np.zeros((0, 4)), 320), 320)
    assert [row.boxes for row in rows] == [0, 0, 0, 0] and all(np.isnan(row.recall) for row in rows)


# ---------------------------------------------------------------- masks and classes


@pytest.fixture
def masks(tmp_path):
    root = tmp_path / "masks_set"
    for split, values in {"train": [[0, 1, 1, 255], [0, 0, 0, 0]], "val": [[0, 1, 7, 0]]}.items():
        (root / "masks" / split).mkdir(parents=True)
        for i, columns in enumerate(values):
            picture(root / "images" / split / f"{split}{i}.png", seed=i + len(values))
            mask = np.repeat(np.repeat([columns], HEIGHT, axis=0), WIDTH // 4, axis=1).astype(np.uint8)
            Image.fromarray(mask).save(root / "masks" / split / f"{split}{i}.png")
    (root / "classes.txt").write_text("background\nroad\nsky\n")
    return root


def test_mask_histogram_counts_pixels_images_ignored_and_stray(masks):
    found = examine(opened(masks, "segmentation"), ["train", "val"], 320)
    train, val = found.splits
    quarter = HEIGHT * WIDTH // 4
    assert train.counts.amount.tolist() == [5 * quarter, 2 * quarter, 0]
    assert train.counts.images.tolist() == [2, 1, 0] and train.counts.ignored == quarter
    assert val.counts.stray == quarter and val.counts.ignored == 0
    assert len(val.problems) == 1 and kind_of(val.problems[0]) == "the mask holds the values"


def test_repaired_masks_are_those_that_were_good(masks, tmp_path):
    picture(masks / "images" / "val" / "good.png", seed=99)
    shutil.copy(masks / "masks" / "train" / "train0.png", masks / "masks" / "val" / "good.png")
    write_repaired(examine(opened(masks, "segmentation"), ["train", "val"], 320), tmp_path / "repaired")
    source = opened(tmp_path / "repaired", "segmentation", on_bad="refuse")
    source.prepare(["train", "val"])
    assert (source.length("train"), source.length("val")) == (2, 1)
    assert (source.sample("val", 0, 0).mask == np.array(Image.open(masks / "masks" / "val" / "good.png"))).all()


def test_nothing_is_repaired_where_all_is_bad(masks, tmp_path):
    with pytest.raises(DataError, match="val: no image is without problems"):
        write_repaired(examine(opened(masks, "segmentation"), ["val"], 320), tmp_path / "repaired")


@pytest.fixture
def classes(tmp_path):
    root = tmp_path / "classes_set"
    for i in range(3):
        picture(root / "train" / "cat" / f"{i}.png", seed=i)
    picture(root / "train" / "dog" / "0.png", seed=7)
    picture(root / "val" / "dog" / "0.png", seed=8)
    (root / "val" / "dog" / "1.png").write_bytes(b"no image")
    return root


def test_class_folders_of_a_repaired_copy_have_names_that_every_disk_can_hold(classes, tmp_path):
    for seed, name in enumerate(("Dog", 'a:"b"')):  # on some disks dog and Dog are one folder
        picture(classes / "train" / name / "0.png", seed=20 + seed)
    write_repaired(examine(opened(classes, "classification"), ["train"], 320), tmp_path / "repaired")
    names = sorted(folder.name for folder in (tmp_path / "repaired" / "train").iterdir())
    assert names == ["0000_Dog", "0001_a--b-", "0002_cat", "0003_dog"]


def test_classification_is_counted_and_repaired(classes, tmp_path):
    found = examine(opened(classes, "classification"), ["train", "val"], 320)
    assert [split.counts.amount.tolist() for split in found.splits] == [[3, 1], [0, 2]]
    write_repaired(found, tmp_path / "repaired")
    source = opened(tmp_path / "repaired", "classification", on_bad="refuse")
    source.prepare(["train", "val"])
    assert source.class_names == ["cat", "dog"] and (source.length("train"), source.length("val")) == (4, 1)


def test_equal_pictures_of_two_classes_are_named(classes):
    for name in ("cat", "dog"):  # twice in one class is no contradiction
        shutil.copy(classes / "train" / "cat" / "0.png", classes / "train" / name / "again.jpg")
    found = examine(opened(classes, "classification"), ["train", "val"], 320)
    (hint,) = found.splits[0].duplicates
    assert hint.file.endswith("dog/again.jpg")
    assert hint.what.startswith("this picture of dog is also one of cat, as ") and hint.what.endswith("cat/0.png")
    assert "1 hint" in verdict(found)


def test_table_of_classes_holds_every_number(found, tmp_path):
    write_classes(found, tmp_path / "classes.csv")
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["cat", "dog", "emu"]
    assert [row["val_boxes"] for row in rows] == ["1", "1", "0"] and rows[0]["train_images_with_it"] == "3"


# ---------------------------------------------------------------- pictures


def test_page_passes_over_what_cannot_be_read(broken, tmp_path):
    assert write_samples(opened(broken), "train", 16, tmp_path / "samples.jpg") == 4
    with Image.open(tmp_path / "samples.jpg") as page:
        assert page.width > 4 * 480 and np.array(page).std() > 10


def test_page_of_nothing_readable_is_an_error(classes, tmp_path):
    (classes / "val" / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="is not an image"):
        write_samples(opened(classes, "classification"), "val", 4, tmp_path / "samples.jpg")


def test_boxes_are_drawn_in_the_colour_of_their_class():
    image = np.zeros((480, 640, 3), np.uint8)
    boxes = np.array([[100, 100, 300, 300], [np.nan, 0, 5, 5], [9, 9, 9, 30]])
    drawn = draw_annotations(Sample(image, 0, boxes=boxes, box_labels=np.array([1, 0, 0])), ["cat", "dog"])
    bare = draw_annotations(Sample(image, 0, boxes=boxes[:0], box_labels=np.zeros(0, int)), ["cat", "dog"])
    assert (drawn[100:300, 100] != 0).any() and not bare[:480].any()


@pytest.mark.parametrize("num_classes", [2, 150])
def test_chart_of_classes_is_drawn_with_and_without_names(found, tmp_path, num_classes):
    split = found.splits[1]
    amount = np.arange(num_classes) * 40
    split = split.__class__(**{**split.__dict__, "counts": split.counts._replace(amount=amount, images=amount)})
    plot_classes([split, split], [f"class {i}" for i in range(num_classes)], "boxes", tmp_path / "classes.png")
    assert np.array(Image.open(tmp_path / "classes.png").convert("L")).std() > 5


@pytest.mark.parametrize(
    "what, kind",
    [
        ("box 17 has no area: corners (3, 4, 3, 9), the image has 64 x 48 pixels", "box N has no area"),
        ("is damaged or cut short (image file is truncated (12 bytes not processed))", "is damaged or cut short"),
        ("object 3 (RBC) has no <bndbox>", "object N has no <bndbox>"),
        ("the mask has 10 x 12 pixels, the image 20 x 24", "the mask has N x N pixels, the image N x N"),
        ("images 3 and 12 are the same file, street_1.jpg", "images N and N are the same file, …"),
        ("this training image is also in val: /data/val/7.jpg", "this training image is also in val"),
        ("object 2 is a 'catt', none of VOC's 20 classes", "object N is a …, none of VOC's N classes"),
    ],
)
def test_problems_of_one_kind_have_one_name(what, kind):
    assert kind_of(Problem("file", what, "", None)) == kind
