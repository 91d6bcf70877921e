import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.config.words import CONF
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.layouts.yolo import read_labels
from mnv2_tasks.errors import ConfigError, DataError

BCCD = CONF.parent.parent / "shared" / "assets" / "BCCD"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(path, size=(20, 10), exif=None):
    """A picture of its own, of (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path, **({"exif": exif} if exif else {}))


def mask(path, values, size=(20, 10)):
    """Bands of these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.array(values, np.uint8)[np.arange(size[0]) * len(values) // size[0]]
    Image.fromarray(np.tile(bands, (size[1], 1))).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def opened(root, kind, on_bad="refuse", train=None, val=None, prepare=("train", "val")):
    source = folder(root=str(root), kind=kind, on_bad=on_bad, train=train, val=val)
    source.prepare(prepare)
    return source


def files(source, split):
    return [Path(file).name for file in source.problems(split)[0].files]


# ---------------------------------------------------------------- ImageFolder


def image_folder(root, tree):
    """{split/class: number of pictures}"""
    for place, number in tree.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            picture(root / place / f"{i}.jpg")


def test_image_folder_has_the_sorted_folder_names_as_classes(tmp_path):
    image_folder(tmp_path, {"train/dog": 3, "train/cat": 2, "val/cat": 1, "val/dog": 1})
    source = opened(tmp_path, "classification")
    assert source.class_names == ["cat", "dog"]
    assert [source.sample("train", 0, i).label for i in range(5)] == [0, 0, 1, 1, 1]
    assert source.describe() == "ImageFolder, 2 classes, 5 / 2 images"


def test_class_folder_only_in_val_is_named(tmp_path):
    image_folder(tmp_path, {"train/cat": 1, "train/dog": 1, "val/cat": 1, "val/dogs": 1})
    with pytest.raises(ConfigError, match=r"val: has 1 class that .*train does not have: dogs; .*lacks dog\."):
        opened(tmp_path, "classification")


def test_hidden_files_are_passed_over_nested_ones_are_read_and_others_are_counted(tmp_path):
    image_folder(tmp_path, {"train/cat/deep/deeper": 1, "train/cat": 1, "train/dog": 1, "val/cat": 1, "val/.x": 1})
    write(tmp_path / "train" / "cat" / "._0.jpg", "macOS")
    write(tmp_path / "train" / "dog" / "Thumbs.db", "Windows")
    write(tmp_path / "train" / ".DS_Store", "macOS")
    picture(tmp_path / "train" / "loose.jpg")
    write(tmp_path / "train" / "dog" / "notes.md", "")
    source = opened(tmp_path, "classification")
    told = "1 file left out as no images (.md), 1 image outside of class folders left out"
    assert source.describe() == f"ImageFolder, 2 classes, {told}, 3 / 1 images"


def test_what_systems_and_tools_leave_behind_is_no_class_and_no_picture(tmp_path):
    image_folder(tmp_path, {"cat": 5, "dog": 5})
    for junk in ("__MACOSX", ".ipynb_checkpoints", "cat/.ipynb_checkpoints", "dog/@eaDir", "$RECYCLE.BIN"):
        picture(tmp_path / junk / "0-checkpoint.jpg")
    for junk in ("Thumbs.db", "cat/Thumbs.db", "dog/desktop.ini", "cat/.DS_Store"):
        write(tmp_path / junk, "")
    source = opened(tmp_path, "classification")
    assert source.class_names == ["cat", "dog"] and "left out" not in source.describe()
    assert source.length("train") + source.length("val") == 10


def test_jpeg_pictures_as_browsers_save_them_on_windows_are_read(tmp_path):
    image_folder(tmp_path, {"train/cat": 1, "train/dog": 1, "val/cat": 1})
    (tmp_path / "train" / "cat" / "0.jpg").rename(tmp_path / "train" / "cat" / "0.JFIF")
    source = opened(tmp_path, "classification")
    assert files(source, "train") == ["0.JFIF", "0.jpg"] and source.sample("train", 0, 0).image.shape == (10, 20, 3)


def test_class_folder_without_images_is_a_class_and_is_named(tmp_path):
    image_folder(tmp_path, {"train/cat": 1, "train/dog": 0, "train/owl": 1, "val/cat": 1})
    source = opened(tmp_path, "classification")
    assert source.class_names == ["cat", "dog", "owl"] and "1 class without images: dog" in source.describe()


def test_data_without_splits_are_split_by_the_names_of_their_files(tmp_path):
    image_folder(tmp_path, {"cat": 20, "dog": 20})
    source = opened(tmp_path, "classification")
    assert "no val split: every fifth image, by a hash of its name, validates" in source.describe()
    before = {split: set(source.problems(split)[0].files) for split in ("train", "val")}
    assert len(before["train"] | before["val"]) == 40 and not before["train"] & before["val"]
    assert 3 <= len(before["val"]) <= 15
    for i in range(20, 30):
        picture(tmp_path / "cat" / f"{i}.jpg")
    after = opened(tmp_path, "classification")
    assert before["val"] <= set(after.problems("val")[0].files)
    assert before["train"] <= set(after.problems("train")[0].files)


def test_split_by_names_does_not_depend_on_where_the_folder_lies(tmp_path):
    image_folder(tmp_path / "here", {"cat": 9, "dog": 9})
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = (opened(tmp_path / name, "classification") for name in ("here", "there"))
    assert files(here, "val") == files(there, "val")


def test_two_images_still_give_one_to_validate_on(tmp_path):
    image_folder(tmp_path, {"train/cat": 1, "train/dog": 1})
    source = opened(tmp_path, "classification", prepare=())
    assert [len(files(source, split)) for split in ("train", "val")] == [1, 1]


@pytest.mark.parametrize("tree", [{"train/cat": 4, "val/cat": 4}, {"train/cat": 4, "train/dog": 0, "val/cat": 2}])
def test_training_images_of_one_class_alone_are_refused_by_check_too(tmp_path, tree):
    image_folder(tmp_path, tree)
    source = opened(tmp_path, "classification", prepare=())
    with pytest.raises(DataError, match="in train: its 4 images are of one class alone, cat. Add images of another"):
        source.prepare(["train", "val"])
    assert "one class alone, cat" in str(source.problems("train")[1][0]) and not source.problems("val")[1]


def test_a_picture_of_each_class_is_not_enough_for_two_splits(tmp_path):
    image_folder(tmp_path, {"cat": 1, "dog": 1})
    source = folder(root=str(tmp_path), kind="classification", on_bad="refuse", train=None, val=None, split_seed=0)
    with pytest.raises(DataError, match="in train: its 1 image is of one class alone"):
        source.prepare(["train", "val"])


def test_split_of_loose_pictures_and_folders_within_class_folders_are_told(tmp_path):
    image_folder(tmp_path, {"train/animals/cat": 5, "train/animals/dog": 5, "train/things": 5, "val": 3})
    told = opened(tmp_path, "classification").describe()
    assert "val left out: its images lie in no class folders" in told
    assert "folders within animals are no classes of their own" in told and "things" not in told


def test_class_that_only_val_has_images_of_is_told(tmp_path):
    image_folder(tmp_path, {"train/cat": 2, "train/dog": 2, "train/owl": 0, "val/cat": 1, "val/owl": 1})
    told = opened(tmp_path, "classification").describe()
    assert "val has images of 1 class that train has none of: owl" in told


def test_folder_to_validate_on_that_holds_nothing_of_use_is_told(tmp_path):
    image_folder(tmp_path / "a", {"train/cat": 2, "train/dog": 2, "val/cat": 0})
    assert "val left out: empty, no val split: " in opened(tmp_path / "a", "classification").describe()
    yolo(tmp_path / "b", {"train": {"a": "0 .5 .5 1 1", "b": "0 .5 .5 1 1"}})
    picture(tmp_path / "b" / "images" / "val" / "c.jpg")
    said = opened(tmp_path / "b", "detection").describe()
    assert "images/val left out: its images have no annotations where they are looked for, no val split" in said


@pytest.mark.parametrize("listed, told", [("dog\ncat", True), ("cat", True), ("bird\ncat\ncow\ndog", False)])
def test_class_list_beside_data_that_name_their_classes_is_told_where_it_contradicts(tmp_path, listed, told):
    image_folder(tmp_path, {"train/cat": 1, "train/dog": 1, "val/cat": 1})
    write(tmp_path / "classes.txt", listed)
    said = opened(tmp_path, "classification").describe()
    names = listed.replace("\n", ", ")
    assert (f"the class list beside is not followed: it has {names}, the data cat, dog" in said) == told


def test_folders_that_archives_double_are_one(tmp_path):
    image_folder(
        tmp_path, {f"{split}/{split}/{name}": 2 for split in ("training_set", "test_set") for name in ("a", "b")}
    )
    (tmp_path / "training_set" / ".DS_Store").touch()
    described = opened(tmp_path, "classification").describe()
    assert described == "ImageFolder, 2 classes, training_set trains, test_set validates, 4 / 4 images"


def test_doubled_folders_of_detection_are_one(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / split / "images" / f"{split}.jpg")
        write(tmp_path / split / split / "labels" / f"{split}.txt", "0 .5 .5 1 1")
    write(tmp_path / "classes.txt", "cat")
    assert opened(tmp_path, "detection").describe() == "YOLO txt, 1 class, 1 / 1 images"


def test_folder_around_class_folders_is_pointed_out(tmp_path):
    image_folder(tmp_path, {"pets/a": 2, "pets/b": 2})
    with pytest.raises(ConfigError, match="pets holds ImageFolder: data.root=.*pets"):
        opened(tmp_path, "classification")


def test_class_names_that_people_cannot_tell_apart_are_one(tmp_path):
    image_folder(tmp_path, {"train/caf\u00e9": 2, "train/dog": 2, "val/cafe\u0301": 1, "val/dog": 1})
    assert opened(tmp_path, "classification").describe() == "ImageFolder, 2 classes, 4 / 2 images"
    image_folder(tmp_path, {"train/cafe\u0301": 1})
    with pytest.raises(ConfigError, match="another folder beside it has this name too"):
        opened(tmp_path, "classification")


def test_classes_that_differ_in_case_or_spaces_alone_are_told(tmp_path):
    image_folder(tmp_path, {"train/hard hat": 1, "train/Hard  Hat": 1, "train/dog": 1, "val/dog": 1})
    said = opened(tmp_path, "classification").describe()
    assert "classes that differ in case or spaces alone: Hard  Hat, hard hat" in said and "dog" not in said


def test_xml_names_of_one_class_in_two_encodings_are_one(tmp_path):
    for name, written in (("a", "caf\u00e9"), ("b", "cafe\u0301")):
        write(tmp_path / "Annotations" / f"{name}.xml", xml([(written, 2, 2, 8, 8)]))
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    assert opened(tmp_path, "detection").class_names == ["caf\u00e9"]


def test_folders_named_after_splits_are_never_classes(tmp_path):
    image_folder(tmp_path, {"masks": 6, "test": 6, "control": 6})
    source = opened(tmp_path, "classification")
    assert source.class_names == ["control", "masks"]
    assert "test left out: named after a split, without class folders" in source.describe()
    image_folder(tmp_path / "railway", {"bus": 6, "train": 6, "car": 6})
    with pytest.raises(ConfigError, match="train has the name of a split, but no class folders, and lies beside some"):
        opened(tmp_path / "railway", "classification")
    image_folder(tmp_path / "sorted", {"train/bus": 1, "train/train": 1, "val/bus": 1, "val/train": 1})
    assert opened(tmp_path / "sorted", "classification").class_names == ["bus", "train"]


@pytest.mark.parametrize(
    "there, train, val, told",
    [
        (["train", "val", "test"], None, None, ""),
        (["train", "test", "valid"], None, None, ", valid validates"),
        (["Training", "Testing"], None, None, ", Training trains, Testing validates"),
        (["training_set", "test_set"], None, None, ", training_set trains, test_set validates"),
        (["trainset", "dataset_val"], None, None, ""),
        (["train", "val", "test"], None, "test", ", test validates"),
        (["fold0", "fold1"], "fold1", "fold0", ", fold1 trains, fold0 validates"),
    ],
)
def test_splits_are_chosen_by_usual_names_or_by_the_user(tmp_path, there, train, val, told):
    for number, split in enumerate(there, start=1):
        image_folder(tmp_path, {f"{split}/cat": number, f"{split}/dog": 1})
    source = folder(root=str(tmp_path), kind="classification", on_bad="refuse", train=train, val=val)
    assert source.found == "ImageFolder, 2 classes" + told
    if train:
        assert (source.length("train"), source.length("val")) == (3, 2)


def test_unknown_split_is_refused_with_those_that_are_there(tmp_path):
    image_folder(tmp_path, {"train/cat": 1, "train/dog": 1, "test/cat": 1})
    with pytest.raises(
        ConfigError, match=r"data.val=tset: there is no such split. Did you mean test\? There are test, train"
    ):
        opened(tmp_path, "classification", val="tset")


def test_data_to_evaluate_on_need_no_training_split(tmp_path):
    image_folder(tmp_path, {"val/cat": 1, "val/dog": 1})
    source = opened(tmp_path, "classification", prepare=("val",))
    assert source.length("val") == 2
    with pytest.raises(ConfigError, match=r"has no split to train on, only val; data.train=<name>"):
        source.prepare(["train"])


# ---------------------------------------------------------------- YOLO


def yolo(root, labels, names="names: [cat, dog]"):
    """{split: {image: text of its label file, None for no file}}"""
    for split, images in labels.items():
        for name, text in images.items():
            picture(root / "images" / split / f"{name}.jpg")
            if text is not None:
                write(root / "labels" / split / f"{name}.txt", text)
    write(root / "data.yaml", names)


def test_yolo_fractions_become_pixels_and_images_without_labels_stay(tmp_path):
    yolo(
        tmp_path,
        {"train": {"a": "0 0.5 0.5 0.5 0.4\n1 .25 .5 .5 1\n", "b": None, "c": ""}, "val": {"d": "1 .5 .5 1 1"}},
    )
    source = opened(tmp_path, "detection")
    assert source.class_names == ["cat", "dog"]
    assert source.describe() == "YOLO txt, 2 classes, 3 / 1 images (2 without objects)"
    sample = source.sample("train", 0, 0)
    np.testing.assert_allclose(sample.boxes, [[5, 3, 15, 7], [0, 0, 10, 10]], atol=1e-5)
    assert sample.box_labels.tolist() == [0, 1]
    assert source.sample("train", 0, 1).boxes.shape == (0, 4)


def test_yolo_boxes_are_fractions_of_the_upright_picture(tmp_path):
    yolo(tmp_path, {"train": {"a": "0 0.5 0.5 1 1"}, "val": {"b": "0 .5 .5 1 1"}})
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(tmp_path / "images" / "train" / "a.jpg", exif=turned)
    sample = opened(tmp_path, "detection").sample("train", 0, 0)
    assert sample.image.shape == (20, 10, 3)
    np.testing.assert_allclose(sample.boxes, [[0, 0, 10, 20]])


def test_yolo_outline_becomes_its_box(tmp_path):
    write(tmp_path / "a.txt", "1 0.1 0.5 0.3 0.2 0.4 0.9\n")
    objects, faults = read_labels(tmp_path / "a.txt", 2)
    assert objects == [(1, 1, (0.1, 0.2, 0.4, 0.9))] and not faults


@pytest.mark.parametrize(
    "line, what",
    [
        ("0 0.5 0.5 0.5", "has 3 numbers after the class"),
        ("0 0.5 0.5 0.5 0.5 0.9", "has 5 numbers after the class"),
        ("cat 0.5 0.5 0.5 0.5", "is not made of numbers"),
        ("0,0.5,0.5,0.5,0.5", "has commas; numbers are apart by spaces, and fractions have a point"),
        ("0 0,5 0,5 0,5 0,5", "has commas; numbers are apart by spaces, and fractions have a point"),
        ("2 0.5 0.5 0.5 0.5", "has class 2; there are 2 classes, 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", "has class -1"),
        ("0 12 8 10 4", r"has numbers outside \[0, 1\]; fractions"),
        ("0 nan 0.5 0.5 0.5", r"has numbers outside \[0, 1\]"),
    ],
)
def test_bad_yolo_line_is_named_with_its_file(tmp_path, line, what):
    yolo(tmp_path, {"train": {"a": f"0 .5 .5 .1 .1\n{line}\n", "b": "1 .5 .5 .1 .1"}, "val": {"c": "1 .5 .5 1 1"}})
    with pytest.raises(DataError, match=rf"1 bad records in train:\n  .*a\.txt: line 2 {what}"):
        opened(tmp_path, "detection")
    source = opened(tmp_path, "detection", on_bad="skip")
    assert source.length("train") == 1 and source.skipped == ["skipped in train: 1 of 2 images, 1 of 2 boxes"]


@pytest.mark.parametrize("line", ["0 0.5 0.5 0 0.5", "0 0.95 0.5 0.5 0.5"])
def test_yolo_box_without_area_or_out_of_its_image_is_refused_by_its_line(tmp_path, line):
    yolo(tmp_path, {"train": {"a": f"\n{line}\n"}, "val": {"c": "1 .5 .5 1 1"}})
    with pytest.raises(DataError, match=r"a\.jpg: box 2 (has no area|reaches out of its image)"):
        opened(tmp_path, "detection")


def test_rounded_yolo_fractions_may_leave_the_image_by_a_hair(tmp_path):
    yolo(tmp_path, {"train": {"a": "0 0.500001 0.5 1.000001 1"}, "val": {"c": "1 .5 .5 1 1"}})
    boxes = opened(tmp_path, "detection").sample("train", 0, 0).boxes
    np.testing.assert_allclose(boxes, [[0, 0, 20, 10]], atol=1e-4)


def test_label_file_without_its_picture_is_refused(tmp_path):
    yolo(tmp_path, {"train": {"a": "0 .5 .5 1 1", "b": "0 .5 .5 1 1"}, "val": {"c": "1 .5 .5 1 1"}})
    (tmp_path / "images" / "train" / "b.jpg").unlink()
    with pytest.raises(
        DataError,
        match=r"1 bad records in train:\n  .*images/train/b\.\*: is annotated or listed, and there is no image",
    ):
        opened(tmp_path, "detection")


def test_roboflow_yolo_with_labels_beside_images_is_recognised(tmp_path):
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        picture(tmp_path / split / "images" / f"{name}.jpg")
        write(tmp_path / split / "labels" / f"{name}.txt", "0 .5 .5 1 1")
    write(tmp_path / "data.yaml", "train: ../train/images\nnc: 1\nnames: ['no']\n")
    source = opened(tmp_path, "detection")
    assert source.class_names == ["no"] and files(source, "val") == ["b.jpg"]
    assert source.describe() == "YOLO txt, 1 class, data.yaml: train is train/images, valid validates, 1 / 1 images"


def test_unsplit_yolo_finds_the_class_list_that_labelimg_writes_among_the_labels(tmp_path):
    for i in range(12):
        picture(tmp_path / "images" / f"{i}.png")
        write(tmp_path / "labels" / f"{i}.txt", "1 .5 .5 1 1")
    write(tmp_path / "labels" / "classes.txt", "cat\nsmall dog\n")
    source = opened(tmp_path, "detection")
    assert source.class_names == ["cat", "small dog"] and source.length("train") + source.length("val") == 12


@pytest.mark.parametrize(
    "file, text, names",
    [
        ("data.yaml", "names: {0: cat, 1: yes}", ["cat", "yes"]),
        ("data.yaml", "nc: 2\nnames:\n- cat\n- dog", ["cat", "dog"]),
        ("classes.txt", "\ufeffcat\r\nblue dog\r\n\r\n", ["cat", "blue dog"]),
        ("classes.json", '["cat", "dog"]', ["cat", "dog"]),
        ("classes.json", '{"dog": 1, "cat": 0}', ["cat", "dog"]),
    ],
)
def test_class_list_may_be_yaml_text_or_json(tmp_path, file, text, names):
    yolo(tmp_path, {"train": {"a": "1 .5 .5 1 1"}, "val": {"b": "0 .5 .5 1 1"}}, names="")
    write(tmp_path / file, text)
    assert opened(tmp_path, "detection").class_names == names


@pytest.mark.parametrize(
    "file, text, what",
    [
        ("data.yaml", "path: x", r"no class list\. Write .*classes\.txt with one class name a line"),
        ("data.yaml", "nc: 3\nnames: [cat, dog]", "nc is 3, but 2 names are given"),
        ("data.yaml", "names: {1: cat, 2: dog}", "by number from 0 without gaps; there is no 0. Count from 0"),
        ("data.yaml", "names: {0: cat, 2: dog}", "by number from 0 without gaps; there is no 1. Name it too"),
        ("classes.json", '{"cat": 1, "dog": 2}', "by number from 0 without gaps; there is no 0. Count from 0"),
        ("data.yaml", "names: ['', dog]", "data.yaml: class 0, '', is empty. Give the class a name"),
        ("data.yaml", "names: [cat, ' ']", "data.yaml: class 1, ' ', is empty. Give the class a name"),
        ("data.yaml", "names: [cat", "data.yaml, line 2, column 1: is not valid YAML"),
        ("classes.txt", "cat\n\ndog\n", "line 2 is empty"),
        ("classes.txt", "cat\ncat\n", "names cat twice"),
        ("classes.txt", "", "names no classes"),
    ],
)
def test_class_list_that_is_missing_or_wrong_says_how_to_write_it(tmp_path, file, text, what):
    yolo(tmp_path, {"train": {"a": "1 .5 .5 1 1"}, "val": {"b": ""}}, names="")
    write(tmp_path / file, text)
    with pytest.raises(ConfigError, match=what):
        opened(tmp_path, "detection")


# ---------------------------------------------------------------- masks


def masks(root, values, classes="background\ncat\n", images="images", folder_name="masks"):
    """{split/image: values in its mask, None for no mask}"""
    for place, found in values.items():
        picture(root / images / f"{place}.jpg")
        if found is not None:
            mask(root / folder_name / f"{place}.png", found)
    if classes is not None:
        write(root / "classes.txt", classes)


def test_masks_are_paired_by_name_and_255_is_ignored(tmp_path):
    masks(tmp_path, {"train/a": [0, 1, 255], "train/b": [1], "val/c": [0, 1]})
    source = opened(tmp_path, "segmentation")
    assert source.class_names == ["background", "cat"]
    assert source.describe() == "masks, 2 classes, 2 / 1 images"
    assert set(np.unique(source.sample("train", 0, 0).mask)) == {0, 1, 255}


@pytest.mark.parametrize("images, labels", [("imgs", "masks"), ("images", "labels"), ("images", "annotations")])
def test_mask_folders_have_several_names(tmp_path, images, labels):
    masks(tmp_path, {"training/a": [0, 1], "validation/c": [0, 1]}, images=images, folder_name=labels)
    assert opened(tmp_path, "segmentation").length("val") == 1


def test_unsplit_masks_and_splits_around_masks_are_recognised(tmp_path):
    masks(tmp_path / "unsplit", {name: [0, 1] for name in "abcdefghij"})
    assert "no val split" in opened(tmp_path / "unsplit", "segmentation").describe()
    for split in ("train", "val"):
        masks(tmp_path / "around" / split, {split: [0, 1]}, classes=None)
    write(tmp_path / "around" / "classes.txt", "background\ncat")
    assert opened(tmp_path / "around", "segmentation").describe() == "masks, 2 classes, 1 / 1 images"


def test_voc_like_masks_are_split_by_lists(tmp_path):
    masks(tmp_path, dict.fromkeys("abc", [0, 1]), images="JPEGImages", folder_name="SegmentationClass")
    write(tmp_path / "ImageSets" / "Segmentation" / "train.txt", "c\na\nc\n")
    write(tmp_path / "ImageSets" / "Segmentation" / "val.txt", "b\n")
    source = opened(tmp_path, "segmentation")
    assert "listed again in train.txt and taken once: c 2 times" in source.describe()
    assert files(source, "train") == ["c.jpg", "a.jpg"] and files(source, "val") == ["b.jpg"]


def test_missing_class_list_says_which_values_the_masks_hold(tmp_path):
    masks(tmp_path, {"train/a": [0, 3], "train/b": [5, 255], "val/c": [0]}, classes=None)
    with pytest.raises(
        ConfigError, match=r"hold the values \[0, 3, 5, 255\] .*Write .*classes\.txt .* first names value 0"
    ):
        opened(tmp_path, "segmentation")


@pytest.mark.parametrize("classes", [None, "background\ncat\n"])
def test_binary_masks_stored_as_0_and_255_are_recognised(tmp_path, classes):
    masks(tmp_path, {"train/a": [0], "train/b": [0, 255], "val/c": [0, 255]}, classes=classes)
    with pytest.raises(ConfigError, match=r"looks like binary masks stored as 0/255 \(such as .*b\.png\)"):
        opened(tmp_path, "segmentation")


def test_coloured_masks_are_refused_with_the_remedy(tmp_path):
    masks(tmp_path, {"train/a": [0, 1], "val/c": [0, 1]})
    picture(tmp_path / "masks" / "train" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: has colours \(mode RGB\).*save it as a palette or greyscale image"):
        opened(tmp_path, "segmentation")
    (tmp_path / "classes.txt").unlink()
    shutil.rmtree(tmp_path / "masks" / "val")
    with pytest.raises(ConfigError, match=r"a\.png: has colours"):
        opened(tmp_path, "segmentation")


def test_value_beyond_the_class_list_is_named(tmp_path):
    masks(tmp_path, {"train/a": [0, 2], "val/c": [0, 1]})
    with pytest.raises(DataError, match=r"a\.png: the mask holds the values \[2\]; there are 2 classes"):
        opened(tmp_path, "segmentation")


def test_image_without_mask_and_mask_without_image_are_named(tmp_path):
    masks(tmp_path, {"train/a": [0, 1], "train/b": None, "train/d": [0, 1], "val/c": [0, 1]})
    (tmp_path / "images" / "train" / "d.jpg").unlink()
    with pytest.raises(
        DataError, match=r"(?s)2 bad records.*masks/train/b\.png: .*images/train/d\.\*: is annotated or listed"
    ):
        opened(tmp_path, "segmentation")
    assert opened(tmp_path, "segmentation", on_bad="skip").length("train") == 1


# ---------------------------------------------------------------- VOC XML


def xml(objects, file_name="", size=(20, 10)):
    """(name, xmin, ymin, xmax, ymax[, difficult])"""
    body = "".join(
        f"<object><name>{name}</name><difficult>{int(bool(difficult))}</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d, *difficult in objects
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{file_name}</filename>{sides}{body}</annotation>"


def voc(root, objects, lists=None):
    for name, found in objects.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        write(root / "Annotations" / f"{name}.xml", xml(found))
    for split, names in (lists or {}).items():
        write(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))


def test_voc_lists_split_the_data_and_all_annotations_give_the_classes(tmp_path):
    objects = {"a": [("dog", 1, 1, 20, 10)], "b": [("cat", 2, 3, 2, 3)], "c": [("ant", 5, 5, 6, 6)], "d": []}
    voc(tmp_path, objects, {"train": "ad", "val": "b", "test": "c", "cat_train": ["a  1"]})
    source = opened(tmp_path, "detection")
    assert source.class_names == ["ant", "cat", "dog"]
    assert source.describe() == (
        "VOC XML, 3 classes, corners counted from 1, 2 / 1 images (1 without objects); "
        "val has images of 1 class that train has none of: cat"
    )
    assert source.sample("train", 0, 0).boxes.tolist() == [[0, 0, 20, 10]]
    assert source.sample("val", 0, 0).boxes.tolist() == [[1, 2, 2, 3]]  # one pixel large, inclusive corners
    assert files(opened(tmp_path, "detection", val="test"), "val") == ["c.jpg"]


def test_one_corner_at_0_says_that_all_are_counted_from_0(tmp_path):
    voc(tmp_path, {"a": [("cat", 0, 0, 20, 10)], "b": [("cat", 2, 3, 5, 6)]}, {"train": "a", "val": "b"})
    source = opened(tmp_path, "detection")
    assert "corners counted from 0" in source.describe()
    assert source.sample("val", 0, 0).boxes.tolist() == [[2, 3, 5, 6]]


def test_xml_beside_pictures_is_recognised_and_pictures_without_xml_are_counted(tmp_path):
    for split, name in (("train", "a"), ("valid", "b")):
        picture(tmp_path / split / f"{name}.jpg")
        write(tmp_path / split / f"{name}.xml", xml([("cat", 1, 1, 5, 5)]))
    picture(tmp_path / "train" / "later.jpg")
    source = opened(tmp_path, "detection")
    assert source.found == "VOC XML, 1 class, corners counted from 1, 1 image without XML left out, valid validates"


def test_lower_case_voc_folders_without_lists_are_split_by_name(tmp_path):
    for i in range(10):
        picture(tmp_path / "images" / f"{i}.png")
        write(tmp_path / "annotations" / f"{i}.xml", xml([("cat", 1, 1, 5, 5)]))
    assert "no val split" in opened(tmp_path, "detection").describe()


def test_picture_goes_by_the_name_of_its_xml_and_else_by_what_the_xml_says(tmp_path):
    voc(tmp_path, {"a": [("cat", 1, 1, 5, 5)], "b": [("cat", 1, 1, 5, 5)]}, {"train": "ac", "val": "b"})
    write(tmp_path / "Annotations" / "a.xml", xml([("cat", 1, 1, 5, 5)], file_name="someone_elses.png"))
    picture(tmp_path / "JPEGImages" / "other.jpg")
    write(tmp_path / "Annotations" / "c.xml", xml([("cat", 1, 1, 5, 5)], file_name=r"C:\photos\other.jpg"))
    assert files(opened(tmp_path, "detection"), "train") == ["a.jpg", "other.jpg"]


CAT = [("cat", 1, 1, 5, 5)]


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    "image, label",
    [
        ("a.jpg", "a.jpg.xml"),
        ("a.jpg", "A.xml"),
        ("e\u0301.jpg", "\u00e9.xml"),
        ("a.jpg", "0123abcd-a.xml"),
    ],
)
def test_xml_that_another_system_or_tool_names_is_its_pictures_and_that_is_told(tmp_path, image, label, listed):
    for name, file in ((image, label), ("b.jpg", "b.xml")):
        picture(tmp_path / "JPEGImages" / name)
        write(tmp_path / "Annotations" / file, xml([("cat", 2, 2, 8, 8)]))
    if listed:
        for split, name in (("train", label.removesuffix(".xml")), ("val", "B")):
            write(tmp_path / "ImageSets" / "Main" / f"{split}.txt", name)
    source = opened(tmp_path, "detection")
    assert sorted(files(source, "train") + files(source, "val")) == sorted([image, "b.jpg"])
    assert f"labels of 1 picture found by name: {image}" in source.describe()


def test_of_pictures_that_differ_in_their_ending_the_xml_says_which_is_meant(tmp_path):
    voc(tmp_path, {"a": CAT, "b": CAT}, {"train": "a", "val": "b"})
    picture(tmp_path / "JPEGImages" / "a.PNG")
    write(tmp_path / "Annotations" / "a.xml", xml(CAT, file_name=r"C:\photos\a.jpg"))
    assert files(opened(tmp_path, "detection"), "train") == ["a.jpg"]
    write(tmp_path / "Annotations" / "a.xml", xml(CAT, file_name="a.png"))
    assert files(opened(tmp_path, "detection"), "train") == ["a.PNG"]
    write(tmp_path / "Annotations" / "a.xml", xml(CAT, file_name="a.bmp"))
    with pytest.raises(DataError, match=r"a\.xml: belongs to .*a\.PNG, .*a\.jpg: which one\? <filename> has 'a\.bmp'"):
        opened(tmp_path, "detection")


def test_xml_that_contradicts_its_own_name_is_refused_and_a_stale_copy_is_told(tmp_path):
    voc(tmp_path, {"a": CAT, "b": CAT}, {"train": "a", "val": "b"})
    write(tmp_path / "Annotations" / "a.xml", xml(CAT, file_name="b.jpg"))  # as tools that augment copy it
    source = opened(tmp_path, "detection")
    assert files(source, "train") == ["a.jpg"]
    assert "1 XML name another picture than their own name does, which counts" in source.describe()
    picture(tmp_path / "JPEGImages" / "c.jpg")
    write(tmp_path / "Annotations" / "a.xml", xml(CAT, file_name="c.jpg"))
    with pytest.raises(DataError, match=r"a\.xml: belongs to .*a\.jpg by its name, and to .*c\.jpg by its <filename>"):
        opened(tmp_path, "detection")


def test_two_xml_for_one_picture_are_refused_by_name(tmp_path):
    voc(tmp_path, {"a": CAT, "b": CAT, "d": CAT}, {"train": "ad", "val": "b"})
    write(tmp_path / "Annotations" / "a.XML", xml(CAT))
    with pytest.raises(DataError, match=r"a\.XML: has the same name as .*a\.xml"):
        opened(tmp_path, "detection")
    (tmp_path / "Annotations" / "a.XML").unlink()
    (tmp_path / "JPEGImages" / "d.jpg").unlink()
    write(tmp_path / "Annotations" / "d.xml", xml(CAT, file_name="a.jpg"))
    with pytest.raises(DataError, match=r"d\.xml: and .*a\.xml both annotate .*a\.jpg"):
        opened(tmp_path, "detection")


def test_names_that_a_list_repeats_count_once_and_that_is_said(tmp_path):
    voc(tmp_path, {"a": CAT, "b": CAT, "c": CAT}, {"train": ["a", "a", "c.jpg", "c", "a", ""], "val": ["b", "b"]})
    source = opened(tmp_path, "detection")
    assert files(source, "train") == ["a.jpg", "c.jpg"] and files(source, "val") == ["b.jpg"]
    assert "listed again in train.txt and taken once: a 3 times" in source.describe()
    assert "listed again in val.txt and taken once: b 2 times" in source.describe()
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "a\n" * 9 + "b\n")
    with pytest.raises(DataError, match=r"1 bad records in train:\n.*a\.jpg: this training image is also in val"):
        opened(tmp_path, "detection")


@pytest.mark.parametrize(
    "text, difficult",
    [("Unspecified", False), ("", False), ("false", False), ("0", False), ("True", True), ("1", True)],
)
def test_difficult_is_read_as_tools_write_it(tmp_path, text, difficult):
    voc(tmp_path, {"a": [*CAT, *CAT], "b": CAT}, {"train": "a", "val": "b"})
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<difficult>0</difficult>", f"<difficult>{text}</difficult>", 1))
    assert opened(tmp_path, "detection").problems("train")[0].crowd.tolist() == [difficult, False]


def test_objects_that_cannot_be_read_say_file_and_reason(tmp_path):
    voc(tmp_path, {"a": CAT, "b": CAT}, {"train": "a", "val": "b"})
    for name in "ab":
        path = tmp_path / "Annotations" / f"{name}.xml"
        path.write_text(path.read_text().replace("<difficult>0</difficult>", "<difficult>maybe</difficult>"))
    with pytest.raises(ConfigError, match=r"2 of them cannot be read: .*a\.xml: object 1 \(cat\) has <difficult>maybe"):
        opened(tmp_path, "detection")


@pytest.mark.parametrize("ending", ["XML", "Xml"])
def test_endings_of_xml_and_pictures_are_read_in_any_case(tmp_path, ending):
    for split, name in (("train", "a"), ("val", "b")):
        picture(tmp_path / split / f"{name}.JPG")
        write(tmp_path / split / f"{name}.{ending}", xml(CAT))
    assert opened(tmp_path, "detection").describe() == "VOC XML, 1 class, corners counted from 1, 1 / 1 images"


def test_broken_and_missing_xml_are_named(tmp_path):
    voc(tmp_path, {"a": [("cat", 1, 1, 5, 5)], "b": [("cat", 1, 1, 5, 5)]}, {"train": "axy", "val": "b"})
    for name in "xy":
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    write(tmp_path / "Annotations" / "x.xml", "<annotation><object>")
    with pytest.raises(
        DataError, match=r"(?s)2 bad records in train.*x\.xml: is not valid XML.*y\.xml: cannot be opened"
    ):
        opened(tmp_path, "detection")
    assert opened(tmp_path, "detection", on_bad="skip").length("train") == 1


@pytest.mark.parametrize(
    "content, what",
    [
        (b'<?xml version="1.0" encoding="GBK"?><annotation/>', r"is not valid XML .*\. Save it as UTF-8"),
        ("<annotation><name>\u72d7</name></annotation>".encode("gbk"), r"is not valid XML .*\. Save it as UTF-8"),
        (b"<!DOCTYPE annotation><annotation/>", r"has a <!DOCTYPE>.* Delete it"),
    ],
)
def test_xml_of_another_encoding_or_with_a_doctype_says_what_to_do(tmp_path, content, what):
    voc(tmp_path, {"a": [("cat", 1, 1, 5, 5)], "b": [("cat", 1, 1, 5, 5)]}, {"train": "a", "val": "b"})
    (tmp_path / "Annotations" / "a.xml").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.xml: {what}"):
        opened(tmp_path, "detection")


def test_class_list_in_latin_letters_of_one_byte_says_what_to_do(tmp_path):
    yolo(tmp_path, {"train": {"a": "0 .5 .5 1 1"}, "val": {"b": ""}}, names="")
    for file, text in (("classes.txt", "caf\u00e9\n"), ("data.yaml", "names: [caf\u00e9]\n")):
        (tmp_path / file).write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError, match=rf"{file}.*is not UTF-8 text .* Save it as UTF-8"):
            opened(tmp_path, "detection")


def test_difficult_objects_are_neither_trained_on_nor_scored(tmp_path):
    voc(
        tmp_path,
        {"a": [("cat", 1, 1, 5, 5), ("cat", 2, 2, 9, 9, True)], "b": [("cat", 1, 1, 5, 5)]},
        {"train": "b", "val": "a"},
    )
    source = opened(tmp_path, "detection")
    assert "(1 of 2 boxes in val crowds or difficult, neither trained on nor scored)" in source.describe()
    assert len(source.sample("val", 0, 0).boxes) == 1
    assert [row["iscrowd"] for row in source.coco_ground_truth()["annotations"]] == [0, 1]


def test_boxes_of_crowds_alone_are_nothing_to_learn_from_until_they_are_taken_as_objects(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            picture(tmp_path / split / f"{split}{name}.jpg")
        coco(
            tmp_path / "annotations" / f"{split}.json", [f"{split}a.jpg", f"{split}b.jpg"], CATS, crowd=split == "train"
        )
    refused = opened(tmp_path, "detection", prepare=())
    with pytest.raises(
        DataError,
        match=r"nothing to learn from or to score in train: all 4 boxes of its 2 images are crowds .*data.crowd=train",
    ):
        refused.prepare(["train", "val"])
    (problem,) = refused.problems("train")[1]  # what `check` reports
    assert "data.crowd=train" in str(problem) and not refused.problems("val")[1]
    taken = folder(root=str(tmp_path), kind="detection", on_bad="refuse", train=None, val=None, crowd="train")
    taken.prepare(["train", "val"])
    assert len(taken.sample("train", 0, 0).boxes) == 2
    with pytest.raises(ConfigError, match=r"data\.crowd=yes: expected ignore or train"):
        folder(root=str(tmp_path), kind="detection", on_bad="refuse", train=None, val=None, crowd="yes")


@pytest.mark.parametrize("on_bad", ["refuse", "skip"])
def test_split_without_a_single_object_is_refused(tmp_path, on_bad):
    yolo(tmp_path, {"train": {"a": "0 .5 .5 1 1"}, "val": {"b": "", "c": None}})
    with pytest.raises(DataError, match=r"in val: none of its 2 images has an object\. Are the labels where"):
        opened(tmp_path, "detection", on_bad=on_bad)


@pytest.mark.parametrize("values", [[255], [0], [0, 255]])
def test_masks_without_a_pixel_of_a_class_are_refused(tmp_path, values):
    masks(tmp_path, {"train/a": [0, 1, 255], "train/b": [0], "val/c": values, "val/d": values})
    with pytest.raises(DataError, match=r"in val: no mask of its 2 images has a pixel of a class"):
        opened(tmp_path, "segmentation")


@pytest.mark.parametrize("value, name", [(0, "road"), (2, "sky")])
def test_masks_of_one_class_alone_are_refused_by_check_too(tmp_path, value, name):
    masks(tmp_path, {"train/a": [value], "train/b": [value], "val/c": [0, 1]}, classes="road\ncar\nsky\n")
    source = opened(tmp_path, "segmentation", prepare=())
    with pytest.raises(DataError, match=f"in train: the masks of its 2 images hold one class alone, {name}"):
        source.prepare(["train", "val"])
    assert f"one class alone, {name}" in str(source.problems("train")[1][0])


def test_annotations_without_any_object_are_refused(tmp_path):
    voc(tmp_path, {"a": [], "b": []}, {"train": "a", "val": "b"})
    with pytest.raises(ConfigError, match="no XML in .*Annotations has an object"):
        opened(tmp_path, "detection")


@pytest.mark.skipif(not BCCD.is_dir(), reason="real data, not on every machine")
def test_blood_cells_of_a_stranger_are_read_as_they_are():
    source = opened(BCCD, "detection")
    assert source.class_names == ["Platelets", "RBC", "WBC"]
    assert source.describe() == "VOC XML, 3 classes, corners counted from 1, 205 / 87 images"
    assert opened(BCCD, "detection", val="test").length("val") == 72


# ---------------------------------------------------------------- COCO json


def coco(path, images, categories, annotations=None, crowd=False):
    """Each image with one box of each category, if none are given."""
    rows = [{"id": i, "file_name": name, "width": 20, "height": 10} for i, name in enumerate(images, start=1)]
    if annotations is None:
        annotations = [(row["id"], number) for row in rows for number in categories]
    boxes = [
        {"id": i, "image_id": image, "category_id": number, "bbox": [2, 3, 4, 5], "area": 20, "iscrowd": int(crowd)}
        for i, (image, number) in enumerate(annotations, start=1)
    ]
    names = [{"id": number, "name": name, "supercategory": "none"} for number, name in categories.items()]
    write(path, json.dumps({"images": rows, "annotations": boxes, "categories": names}))


CATS = {3: "cat", 7: "dog"}


@pytest.mark.parametrize(
    "train, val, pictures",
    [
        ("annotations/train.json", "annotations/val.json", "images"),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", "{}2017"),
        ("annotations/instances_train.json", "annotations/instances_val.json", "images/{}"),
        ("train/_annotations.coco.json", "val/_annotations.coco.json", "{}"),
        ("train.json", "val.json", "pics"),
    ],
)
def test_coco_json_and_its_pictures_are_found_in_the_usual_places(tmp_path, train, val, pictures):
    for split, place in (("train", train), ("val", val)):
        picture(tmp_path / pictures.format(split) / f"{split}.jpg")
        coco(tmp_path / place, [f"{split}.jpg"], CATS)
    source = opened(tmp_path, "detection")
    assert source.class_names == ["cat", "dog"] and source.category_ids == [3, 7]
    assert source.describe() == "COCO json, 2 classes, 1 / 1 images"
    assert source.sample("val", 0, 0).boxes.tolist() == [[2, 3, 6, 8]] * 2


@pytest.mark.parametrize(
    "train, val, pictures, others",
    [
        ("train.json", "valid.json", "images/train", "images/validation"),
        ("train.json", "test.json", "imgs_train", "imgs_test"),
        ("train_v2.json", "val_v2.json", "images/train", "images/val"),
        ("training.json", "dev.json", "train_images", "eval"),
    ],
)
def test_pictures_of_equal_names_are_those_in_the_folder_of_their_split(tmp_path, train, val, pictures, others):
    for place, file in ((pictures, train), (others, val)):
        for i in range(4):
            picture(tmp_path / place / f"{i}.jpg")
        coco(tmp_path / "annotations" / file, [f"{i}.jpg" for i in range(4)], CATS)
    names = (Path(train).stem, Path(val).stem) if "_v2" in train else (None, None)
    source = opened(tmp_path, "detection", train=names[0], val=names[1])
    for split, place in (("train", pictures), ("val", others)):
        assert {Path(file).parent for file in source.problems(split)[0].files} == {tmp_path / place}
    (tmp_path / "annotations" / val).unlink()  # what is left is split by itself
    source = opened(tmp_path, "detection", train=names[0])
    assert {Path(file).parent for file in source.problems("val")[0].files} == {tmp_path / pictures}


def test_pictures_of_equal_names_in_folders_that_tell_no_split_are_refused_by_name(tmp_path):
    for i in range(4):
        for place in ("one", "two"):
            picture(tmp_path / place / f"{i}.jpg")
    coco(tmp_path / "annotations" / "train.json", [f"{i}.jpg" for i in range(4)], CATS)
    with pytest.raises(ConfigError, match=r"train\.json: pictures of its names lie in .*one, .*two: which is meant\?"):
        opened(tmp_path, "detection")


def test_pictures_in_the_folder_of_another_split_are_told_or_refused_where_their_own_folder_is_there(tmp_path):
    coco_pair(tmp_path, pictures="train")  # one heap that two files divide
    assert "pictures of val.json taken from train" in opened(tmp_path, "detection").describe()
    (tmp_path / "val").mkdir()
    with pytest.raises(ConfigError, match=r"val\.json: its pictures are not in .*val, but in .*train, another split's"):
        opened(tmp_path, "detection")


def test_file_names_may_name_folders_and_one_json_is_split_by_name(tmp_path):
    names = [f"a/{i}.jpg" for i in range(10)]
    for name in names:
        picture(tmp_path / "data" / name)
    coco(tmp_path / "result.json", names, CATS)
    source = opened(tmp_path, "detection")
    assert source.length("train") + source.length("val") == 10 and "no val split" in source.describe()
    assert source.problems("val")[0].ids.tolist() != list(range(source.length("val")))  # the data's own


def test_classes_without_annotations_stay_and_are_named(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / f"{split}.jpg")
        categories = {0: "pets", 1: "cat"}
        coco(tmp_path / split / "_annotations.coco.json", [f"{split}.jpg"], categories, [(1, 1)])
    source = opened(tmp_path, "detection")
    assert source.class_names == ["pets", "cat"] and "1 class without annotations: pets" in source.describe()


def test_splits_with_other_categories_are_refused_by_name(tmp_path):
    for split, categories in (("train", CATS), ("val", {3: "cat", 7: "dogs", 8: "cow"})):
        picture(tmp_path / split / f"{split}.jpg")
        coco(tmp_path / "annotations" / f"{split}.json", [f"{split}.jpg"], categories)
    with pytest.raises(ConfigError, match=r"only .*train\.json has 7 dog; only .*val\.json has 7 dogs, 8 cow"):
        opened(tmp_path, "detection")


def test_pictures_that_lie_nowhere_are_refused_with_the_places(tmp_path):
    (tmp_path / "images").mkdir()
    coco(tmp_path / "annotations" / "train.json", ["a.jpg"], CATS)
    with pytest.raises(ConfigError, match=r"its pictures, such as a\.jpg, are in none of .*annotations, .*images, "):
        opened(tmp_path, "detection")


def coco_pair(root, change=lambda split, content: None, pictures="images"):
    """train and val of two pictures each; their json is changed before it is written."""
    for split in ("train", "val"):
        path, names = root / "annotations" / f"{split}.json", [f"{split}{i}.jpg" for i in range(2)]
        for name in names:
            picture(root / pictures / name)
        coco(path, names, CATS)
        content = json.loads(path.read_text())
        text = change(split, content)
        write(path, json.dumps(content) if text is None else text)


def test_backslashes_in_coco_json_are_folders(tmp_path):
    def change(split, content):
        for row in content["images"]:
            row["file_name"] = f"images\\{split}\\{row['file_name']}" if split == "val" else row["file_name"]

    coco_pair(tmp_path, change)
    (tmp_path / "images" / "val").mkdir()
    for i in range(2):
        (tmp_path / "images" / f"val{i}.jpg").rename(tmp_path / "images" / "val" / f"val{i}.jpg")
    assert files(opened(tmp_path, "detection"), "val") == ["val0.jpg", "val1.jpg"]


@pytest.mark.parametrize(
    "place",
    [
        "../../data/upload/1/{}",
        "C:\\Users\\me\\{}",
        "/home/me/{}",
        "data/upload/{}",
        "x/1f2e3d4c-{}",
        "/data/local-files/?d={}",
        "/data/local-files/?d=a%20b%2F{}",
    ],
)
def test_pictures_named_by_a_place_of_another_machine_are_found_by_name_below_the_root(tmp_path, place):
    def change(split, content):
        for row in content["images"]:
            row["file_name"] = place.format(row["file_name"])

    coco_pair(tmp_path, change, pictures="anywhere/deep")
    source = opened(tmp_path, "detection")
    assert files(source, "train") == ["train0.jpg", "train1.jpg"]
    assert "4 pictures found by name: " in source.describe() and " is anywhere/deep/train0.jpg" in source.describe()
    picture(tmp_path / "other" / "val1.jpg")
    with pytest.raises(DataError, match=r"val1\.jpg' may be .*anywhere/deep/val1\.jpg, .*other/val1\.jpg\. Name it by"):
        opened(tmp_path, "detection")


def test_pictures_whose_accents_are_two_characters_on_disk_are_found(tmp_path):
    def change(split, content):
        for row in content["images"]:
            row["file_name"] = row["file_name"].replace("a", "\u00e4")

    coco_pair(tmp_path, change)
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_name(path.name.replace("a", "a\u0308")))
    assert files(opened(tmp_path, "detection"), "train") == ["tra\u0308in0.jpg", "tra\u0308in1.jpg"]


def test_category_with_an_empty_name_is_refused_by_name(tmp_path):
    coco_pair(tmp_path, lambda split, content: content["categories"][0].update(name=" "))
    with pytest.raises(DataError, match=r"train\.json: category 3 has an empty name\. Give it one"):
        opened(tmp_path, "detection")


def test_categories_of_one_name_or_id_matter_only_if_annotations_use_them(tmp_path):
    def roboflow(split, content):
        content["categories"] = [{"id": 0, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
        content["categories"] += [{"id": 9, "name": "unused"}] if split == "train" else [{"id": 9, "name": "other"}]

    coco_pair(tmp_path, roboflow)
    source = opened(tmp_path, "detection")
    assert source.class_names == ["cat", "dog", "unused"] and source.category_ids == [3, 7, 9]
    assert [source.sample(split, 0, 0).box_labels.tolist() for split in ("train", "val")] == [[0, 1]] * 2

    def unused_first(split, content):
        content["categories"] = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
        content["categories"] += [{"id": 1, "name": "root"}] if split == "val" else []

    coco_pair(tmp_path, unused_first)
    assert opened(tmp_path, "detection").sample("val", 0, 0).box_labels.tolist() == [0, 1]

    def both(split, content):
        roboflow(split, content)
        content["annotations"][0]["category_id"] = 0

    coco_pair(tmp_path, both)
    with pytest.raises(
        DataError, match=r"category 3 \(cat\) is listed twice, also as 0, .*Rename one of the two, or give"
    ):
        opened(tmp_path, "detection")


def test_category_that_is_listed_in_two_encodings_is_listed_twice(tmp_path):
    picture(tmp_path / "a.jpg")
    coco(tmp_path / "a.json", ["a.jpg"], {1: "caf\u00e9", 2: "cafe\u0301"})
    with pytest.raises(DataError, match=r"category 2 \(caf.*\) is listed twice, also as 1"):
        opened(tmp_path, "detection")


@pytest.mark.parametrize(
    "spoilt, text, what",
    [
        ("train", "{not json", r"train\.json: is not valid JSON"),
        ("val", "<html>", r"val\.json: is not valid JSON"),
        ("val", "", r"val\.json: is not valid JSON"),
        ("val", '{"images": [], "annotations": []}', r"val\.json: is not in COCO's format, it lacks .*categories"),
    ],
)
def test_coco_file_that_is_no_json_says_so(tmp_path, spoilt, text, what):
    coco_pair(tmp_path, lambda split, content: text if split == spoilt else None)
    with pytest.raises((ConfigError, DataError), match=what):
        opened(tmp_path, "detection")
    coco_pair(tmp_path, lambda split, content: text)
    with pytest.raises(ConfigError, match=rf"(?s)in none of the layouts.*{what}"):
        opened(tmp_path, "detection")


def test_two_files_for_one_split_must_be_told_apart(tmp_path):
    for place in ("annotations/train.json", "train/_annotations.coco.json"):
        picture(tmp_path / "train" / "a.jpg")
        coco(tmp_path / place, ["a.jpg"], CATS)
    with pytest.raises(
        ConfigError, match=r"which split is to train on\? There are annotations/train\.json, train/_anno"
    ):
        opened(tmp_path, "detection")
    opened(tmp_path, "detection", train="annotations/train.json", prepare=())


# ---------------------------------------------------------------- recognition


def test_data_of_another_kind_say_which_task_takes_them(tmp_path):
    image_folder(tmp_path, {"train/cat": 1, "train/dog": 1, "val/cat": 1})
    with pytest.raises(
        ConfigError, match=r"(?s)holds ImageFolder \(splits train, val\).*use task=classification.*YOLO txt"
    ):
        opened(tmp_path, "detection")


@pytest.mark.parametrize("make", [yolo, masks])
def test_detection_and_segmentation_data_are_no_image_folders(tmp_path, make):
    if make is yolo:
        yolo(tmp_path, {"train": {"a": "0 .5 .5 1 1"}, "val": {"b": ""}})
    else:
        masks(tmp_path, {"train/a": [0, 1], "val/b": [0, 1]})
    with pytest.raises(ConfigError, match="use task=(ssdlite|mobile_deeplabv3)"):
        opened(tmp_path, "classification")


def test_two_layouts_for_one_kind_are_refused(tmp_path):
    yolo(tmp_path, {"train": {"a": "0 .5 .5 1 1"}, "val": {"b": ""}})
    coco(tmp_path / "annotations" / "train.json", ["a.jpg"], CATS)
    with pytest.raises(ConfigError, match=r"(?s)holds COCO json and YOLO txt; which is meant\?.*found: annotations/ "):
        opened(tmp_path, "detection")


def test_unknown_layout_lists_those_that_are_known_and_what_lies_there(tmp_path):
    write(tmp_path / "notes.md", "")
    with pytest.raises(ConfigError, match=r"(?s)COCO json\n.*VOC XML\n.*YOLO txt\n.*found there: notes\.md"):
        opened(tmp_path, "detection")


def test_folder_around_the_data_is_pointed_out(tmp_path):
    yolo(tmp_path / "archive", {"train": {"a": "0 .5 .5 1 1"}, "val": {"b": ""}})
    with pytest.raises(ConfigError, match=r"archive holds YOLO txt: data\.root=.*archive"):
        opened(tmp_path, "detection")
    image_folder(tmp_path / "other" / "deep", {"train/cat": 1, "train/dog": 1})
    with pytest.raises(ConfigError, match=r"deep holds ImageFolder: data\.root=.*deep"):
        opened(tmp_path / "other", "classification")


def test_missing_root_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        opened(tmp_path / "nowhere", "detection")
    with pytest.raises(ConfigError, match="needs data.root"):
        folder(root=None, kind="detection", on_bad="refuse", train=None, val=None)
