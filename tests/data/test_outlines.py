"""Polygons and run lengths of COCO, and outlines of YOLO, as masks."""

import json
import zlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_length

from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.shards import shards
from mnv2_tasks.data_tool.examine import examine
from mnv2_tasks.data_tool.repaired_copy import write_repaired
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.training.train import train

OWN = ["weights=none", "width=0.1", "batch=2", "epochs=1", "workers=0", "logger=none", "trainer.precision=32-true"]
WIDTH, HEIGHT = 24, 16
CATEGORIES = {3: "car", 7: "window"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path)


def box(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def runs(mask):
    """COCO's uncompressed run lengths."""
    pixels = mask.T.ravel()  # column by column
    edges = np.flatnonzero(np.diff(pixels)) + 1
    ends = [0, *edges.tolist(), len(pixels)]
    counts = np.diff(ends).tolist()
    return {"size": [*mask.shape], "counts": counts if not pixels[0] else [0, *counts]}


def area(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def coco(root, annotations, *, categories=CATEGORIES, splits=("train", "val"), **size):
    """Each split with two pictures, each with these annotations: (category, segmentation[, iscrowd])."""
    for split in splits:
        rows = {"categories": [{"id": i, "name": n} for i, n in categories.items()], "images": [], "annotations": []}
        for image in (1, 2):
            picture(root / "images" / f"{split}{image}.jpg")
            size = size or {"width": WIDTH, "height": HEIGHT}
            rows["images"].append({"id": image, "file_name": f"{split}{image}.jpg", **size})
            for category, segmentation, *crowd in annotations:
                rows["annotations"].append(
                    {"id": len(rows["annotations"]) + 1, "image_id": image, "category_id": category,
                     "segmentation": segmentation, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": int(any(crowd))}
                )  # fmt: skip
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(rows))


def yolo(root, text, *, names="names: [car, window]", splits=("train", "val")):
    for split in splits:
        for i in range(2):
            picture(root / "images" / split / f"{split}{i}.jpg")
            label = root / "labels" / split / f"{split}{i}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    (root / "data.yaml").write_text(names)


def fractions(points):
    return " ".join(f"{value / side:.6f}" for value, side in zip(points, (WIDTH, HEIGHT) * (len(points) // 2)))


def opened(root, **said):
    settings = {"kind": "segmentation", "on_bad": "refuse", "train": None, "val": None, "ignore": None, **said}
    source = folder(root=str(root), **settings)
    source.prepare(("train", "val"))
    return source


def mask_of(source, split="train"):
    return source.sample(split, 0, 0).mask


EXPECTED = area(2, 2, 14, 12) + area(5, 4, 9, 8)  # a window of value 2 on a car of value 1


def test_later_annotations_lie_on_top_of_earlier_ones(tmp_path):
    coco(tmp_path, [(3, [box(2, 2, 14, 12)]), (7, [box(5, 4, 9, 8)])])
    source = opened(tmp_path)
    assert source.class_names == ["background", "car", "window"]
    assert source.describe() == "COCO json with outlines, 3 classes, 2 / 2 images"
    assert np.array_equal(mask_of(source), EXPECTED) and np.array_equal(mask_of(source, "val"), EXPECTED)
    coco(tmp_path, [(7, [box(5, 4, 9, 8)]), (3, [box(2, 2, 14, 12)])])
    assert np.array_equal(mask_of(opened(tmp_path)), area(2, 2, 14, 12))


def test_crowds_are_no_class_unless_they_are_trained_on(tmp_path):
    crowd = runs(area(16, 0, 24, 16))
    coco(tmp_path, [(3, [box(2, 2, 14, 12)]), (7, crowd, True)])
    assert np.array_equal(mask_of(opened(tmp_path)), area(2, 2, 14, 12) + IGNORE * area(16, 0, 24, 16))
    assert np.array_equal(mask_of(opened(tmp_path, crowd="train")), area(2, 2, 14, 12) + 2 * area(16, 0, 24, 16))
    coco(tmp_path, [(7, crowd, True)])
    with pytest.raises(DataError, match="nothing to learn"):
        opened(tmp_path)


def test_all_crowds_are_refused_with_the_way_out(tmp_path):
    coco(tmp_path, [(7, runs(area(16, 0, 24, 16)), True)])
    with pytest.raises(DataError, match="are crowds .*data.crowd=train takes them as objects"):
        opened(tmp_path)


@pytest.mark.parametrize("points", [[2, 2, 2, 2, 2, 2], [2, 2, 8, 8, 5, 5]])
def test_outline_without_area_is_bad_as_its_box_is(tmp_path, points):
    yolo(tmp_path, f"0 {fractions(points)}\n1 {fractions(box(2, 2, 14, 12))}\n")
    with pytest.raises(DataError, match="train0.txt: line 1 has an outline without area"):
        opened(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_holes_of_run_lengths_stay_holes(tmp_path, compressed):
    ring = area(2, 2, 14, 12) - area(5, 4, 9, 8)
    coded = runs(ring)
    if compressed:
        coded = run_length.encode(np.asfortranarray(ring))
        coded["counts"] = coded["counts"].decode()
    coco(tmp_path, [(3, coded)])
    assert np.array_equal(mask_of(opened(tmp_path)), ring)


KEYHOLE = [2, 2, 14, 2, 14, 12, 2, 12, 2, 6, 5, 6, 5, 8, 9, 8, 9, 4, 5, 4, 5, 6, 2, 6]  # around, in, back


@pytest.mark.parametrize("make", ["coco", "yolo"])
def test_hole_that_an_outline_goes_around_stays_a_hole(tmp_path, make):
    if make == "coco":
        coco(tmp_path, [(3, [KEYHOLE])])
    else:
        yolo(tmp_path, f"0 {fractions(KEYHOLE)}\n")
    mask = mask_of(opened(tmp_path))
    assert not mask[5:7, 6:8].any() and mask[3, 3:13].all() and mask[9:11, 3:13].all()
    assert abs(int(mask.sum()) - (12 * 10 - 4 * 4)) <= 4  # the cut itself is a hair


def test_parts_of_one_object_are_one_class(tmp_path):
    coco(tmp_path, [(3, [box(2, 2, 6, 6), box(10, 2, 14, 6)])])
    assert np.array_equal(mask_of(opened(tmp_path)), area(2, 2, 6, 6) + area(10, 2, 14, 6))


def test_category_called_background_cuts_holes_and_void_is_none(tmp_path):
    categories = {0: "background", 3: "car", 7: "void"}
    coco(tmp_path, [(3, [box(2, 2, 14, 12)]), (0, [box(5, 4, 9, 8)]), (7, [box(18, 0, 24, 16)])], categories=categories)
    source = opened(tmp_path)
    assert source.class_names == ["background", "car"]
    expected = area(2, 2, 14, 12) - area(5, 4, 9, 8) + IGNORE * area(18, 0, 24, 16)
    assert np.array_equal(mask_of(source), expected)


def test_sizes_that_are_not_stated_come_from_the_pictures(tmp_path):
    coco(tmp_path, [(3, [box(2, 2, 14, 12)])], license=1)
    assert np.array_equal(mask_of(opened(tmp_path)), area(2, 2, 14, 12))


def test_annotation_without_an_outline_is_refused_by_its_number(tmp_path):
    coco(tmp_path, [(3, [box(2, 2, 14, 12)]), (7, [])])
    with pytest.raises(DataError, match=r"instances_train\.json: annotation 2 has no outline"):
        opened(tmp_path)


@pytest.mark.parametrize("said", [{"binary": True}, {"colours": "colours.txt"}])
def test_what_is_said_of_masks_in_files_is_refused(tmp_path, said):
    coco(tmp_path, [(3, [box(1, 1, 9, 9)])])
    with pytest.raises(ConfigError, match=f"data.{next(iter(said))}: is for masks in files, and .* COCO json"):
        opened(tmp_path, **said)


def test_boxes_alone_are_data_for_detection(tmp_path):
    coco(tmp_path / "coco", [(3, []), (7, [])])
    yolo(tmp_path / "yolo", "0 .5 .5 .5 .5\n")
    yolo(tmp_path / "pose", "0 .5 .5 .5 .5 .1 .1 .2 .2\n", names="names: [car]\nkpt_shape: [2, 2]\n")
    for name, title in (("coco", "COCO json"), ("yolo", "YOLO txt"), ("pose", "YOLO txt")):
        with pytest.raises(ConfigError, match=f"holds {title} .*is data for detection.*use task=ssdlite"):
            opened(tmp_path / name)


def test_outlines_of_yolo_become_masks(tmp_path):
    yolo(tmp_path, f"0 {fractions(box(2, 2, 14, 12))}\n1 {fractions(box(5, 4, 9, 8))}\n")
    source = opened(tmp_path)
    assert source.class_names == ["background", "car", "window"]
    assert source.describe().startswith("YOLO txt with outlines, 3 classes")
    assert np.array_equal(mask_of(source), EXPECTED)
    (tmp_path / "data.yaml").write_text("names: [car, window]\ntrain: images/val\nval: images/train\n")
    said = opened(tmp_path / "data.yaml")
    assert np.array_equal(mask_of(said), EXPECTED) and "train is images/val" in said.describe()
    assert opened(tmp_path, kind="detection").class_names == ["car", "window"]  # the same data, as boxes


def test_picture_without_labels_is_background(tmp_path):
    yolo(tmp_path, f"0 {fractions(box(2, 2, 14, 12))}\n")
    (tmp_path / "labels" / "train" / "train0.txt").unlink()
    assert not mask_of(opened(tmp_path)).any()


def test_box_among_outlines_is_refused_by_its_line(tmp_path):
    yolo(tmp_path, f"0 {fractions(box(2, 2, 14, 12))}\n1 .5 .5 .2 .2\n")
    with pytest.raises(DataError, match=r"train0\.txt: line 2 is a box: a mask needs the outline of its object"):
        opened(tmp_path)


def test_outlines_are_drawn_on_the_upright_picture(tmp_path):
    yolo(tmp_path, "0 0 0 1 0 1 .25 0 .25\n")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(
        tmp_path / "images" / "train" / "train0.jpg", exif=turned
    )
    sample = opened(tmp_path).sample("train", 0, 0)
    assert sample.image.shape[:2] == sample.mask.shape == (WIDTH, HEIGHT)
    assert sample.mask[:6].all() and not sample.mask[6:].any()


@pytest.mark.parametrize("make", ["coco", "yolo"])
def test_shards_and_repaired_copies_hold_the_same_masks(tmp_path, make):
    if make == "coco":
        coco(tmp_path / "data", [(3, [box(2, 2, 14, 12)]), (7, [box(5, 4, 9, 8)])])
    else:
        yolo(tmp_path / "data", f"0 {fractions(box(2, 2, 14, 12))}\n1 {fractions(box(5, 4, 9, 8))}\n")
    source = opened(tmp_path / "data")
    pack(source, ["train", "val"], tmp_path / "shards")
    write_repaired(examine(source, ["train", "val"], 64), tmp_path / "copy")
    for other in (shards(root=str(tmp_path / "shards"), kind="segmentation"), opened(tmp_path / "copy")):
        assert np.array_equal(mask_of(other, "val"), EXPECTED)


def test_outlines_without_a_split_are_split_by_their_classes(tmp_path):
    coco(tmp_path, [(3, [box(2, 2, 14, 12)])], splits=("train",))
    source = opened(tmp_path, split_seed=0)
    assert (source.length("train"), source.length("val")) == (1, 1)


@pytest.mark.parametrize("make", ["coco", "yolo"])
def test_outlines_are_trained_on(tmp_path, make):
    if make == "coco":
        coco(tmp_path / "data", [(3, [box(2, 2, 14, 12)]), (7, runs(area(5, 4, 9, 8)))])
    else:
        yolo(tmp_path / "data", f"0 {fractions(box(2, 2, 14, 12))}\n1 {fractions(box(5, 4, 9, 8))}\n")
    config = ["task=deeplabv3", "data=folder", f"data.root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}"]
    train(compose("train", [*config, "imgsz=33", *OWN]))
    (run,) = (tmp_path / "runs" / "deeplabv3").iterdir()
    assert set(json.loads((run / "metrics.json").read_text())["IoU"]) == {"background", "car", "window"}
