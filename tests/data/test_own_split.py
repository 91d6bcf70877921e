"""Data without a split to validate on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.data.folder import folder
from mnv2_tasks.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def classes(root, counts, *, start=0, suffix="bmp"):
    """{class: number of pictures}; bitmaps are all of one length."""
    for name, number in counts.items():
        for i in range(number):
            start += 1
            picture(root / name / f"{i}.{suffix}", start)


def opened(root, kind="classification", split_seed=0, **said):
    settings = {"on_bad": "refuse", "train": None, "val": None, **said}
    source = folder(root=str(root), kind=kind, split_seed=split_seed, **settings)
    source.prepare(("train", "val"))
    return source


def sides(source):
    """({path below the root} that trains, that validates)"""
    return [{"/".join(Path(f).parts[-2:]) for f in source.problems(split)[0].files} for split in ("train", "val")]


def counts(source, split):
    return np.bincount(source.problems(split)[0].labels, minlength=len(source.class_names)).tolist()


def test_a_fifth_of_each_class_validates_and_each_class_is_on_both_sides_where_it_can_be(tmp_path):
    classes(tmp_path, {"a": 40, "b": 10, "c": 5, "d": 2, "e": 1})
    source = opened(tmp_path)
    assert counts(source, "val") == [8, 2, 1, 1, 0] and counts(source, "train") == [32, 8, 4, 1, 1]
    assert "no val split: a fifth of each class validates, at random (data.split_seed=0)" in source.describe()


def test_the_choice_depends_on_the_seed_and_the_names_alone(tmp_path):
    classes(tmp_path / "here", {"a": 30, "b": 30})
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert sides(opened(tmp_path / "here")) == sides(opened(tmp_path / "there"))
    assert sides(opened(tmp_path / "here")) != sides(opened(tmp_path / "here", split_seed=1))
    assert counts(opened(tmp_path / "here", split_seed=1), "val") == [6, 6]


@pytest.mark.parametrize("seed", range(5))
def test_equal_pictures_are_on_one_side(tmp_path, seed):
    classes(tmp_path, {"a": 10, "b": 10})
    for i in range(10):
        shutil.copy(tmp_path / "a" / f"{i}.bmp", tmp_path / "a" / f"copy of {i}.bmp")
    shutil.copy(tmp_path / "a" / "0.bmp", tmp_path / "b" / "same as a.bmp")
    source = opened(tmp_path, split_seed=seed)  # refuses pictures that are on both sides
    train, val = sides(source)
    assert len(train) + len(val) == 31 and all(number for number in counts(source, "val"))


def test_two_equal_pictures_alone_train(tmp_path):
    classes(tmp_path, {"a": 10, "b": 1})
    shutil.copy(tmp_path / "b" / "0.bmp", tmp_path / "b" / "1.bmp")
    assert counts(opened(tmp_path), "train") == [8, 2]


def test_runs_without_the_key_keep_the_split_that_they_had(tmp_path):
    classes(tmp_path, {"a": 20, "b": 20})
    source = opened(tmp_path, split_seed=None)
    assert "every fifth image, by a hash of its name" in source.describe()
    assert sides(source)[1] == {"a/0.bmp", "a/10.bmp", "b/14.bmp", "b/15.bmp", "b/8.bmp"}  # as version 0.1 had them


def yolo(root, boxes):
    """Each image with one box of each of its classes."""
    for i, labels in enumerate(boxes):
        picture(root / "images" / f"{i}.png", i)
        (root / "labels").mkdir(parents=True, exist_ok=True)
        (root / "labels" / f"{i}.txt").write_text("".join(f"{label} .5 .5 .5 .5\n" for label in labels))
    (root / "classes.txt").write_text("a\nb\nc\n")


def test_boxes_are_split_by_the_classes_of_their_pictures(tmp_path):
    yolo(tmp_path, [[0]] * 40 + [[0, 1]] * 8 + [[2, 0]] * 2 + [[]] * 10)
    source = opened(tmp_path, "detection")
    held = {split: source.problems(split)[0] for split in ("train", "val")}
    number = {split: np.bincount(records.box_labels, minlength=3).tolist() for split, records in held.items()}
    assert number == {"train": [40, 6, 1], "val": [10, 2, 1]}
    assert [int((np.diff(records.starts) == 0).sum()) for records in held.values()] == [8, 2]


def test_masks_are_split_by_the_classes_they_hold_and_looked_at_once(tmp_path, monkeypatch):
    for i in range(22):
        picture(tmp_path / "images" / f"{i}.png", i)
        (tmp_path / "masks").mkdir(exist_ok=True)
        values = np.zeros((8, 12), np.uint8)
        values[2:4] = 1 if i < 20 else 2
        Image.fromarray(values).save(tmp_path / "masks" / f"{i}.png")
    (tmp_path / "classes.txt").write_text("background\na\nb\n")
    source = opened(tmp_path, "segmentation")
    rare = {"images/20.png", "images/21.png"}
    train, val = sides(source)
    assert len(train & rare) == len(val & rare) == 1 and len(val) == 5
    monkeypatch.setattr("mnv2_tasks.data.reading.mask_classes.ThreadPoolExecutor", None)
    assert sides(opened(tmp_path, "segmentation")) == [train, val]


def test_files_that_are_missing_or_broken_are_split_too_and_refused_by_name(tmp_path):
    classes(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "a" / "0.bmp").write_bytes((tmp_path / "a" / "1.bmp").read_bytes()[:-1] + b"x" * 40)
    (tmp_path / "a" / "2.bmp").write_bytes(b"")
    with pytest.raises(DataError, match=r"2\.bmp: is empty"):
        opened(tmp_path)
