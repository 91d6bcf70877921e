"""YOLO data: what they say of themselves is believed, or contradicted aloud; labels are paired by name, or refused."""

import re
import shutil

import pytest
from test_data_folder import files, opened, picture, write, xml, yolo

from mnv2_tasks.errors import ConfigError, DataError

WHOLE = "0 .5 .5 1 1"
TWO = "names: [cat, dog]\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


def heap(root, places, labels="labels", images="images", text=WHOLE):
    """{folder: number of pictures}, each with its label file."""
    for place, number in places.items():
        for i in range(number):
            name = f"{place.replace('/', '_')}{i}"
            picture(root / images / place / f"{name}.jpg")
            write(root / labels / place / f"{name}.txt", text)


@pytest.mark.parametrize("image, label", [("a.jpg", "a.TXT"), ("a.JPG", "a.txt"), ("a.Png", "a.Txt")])
def test_endings_are_read_in_any_case(tmp_path, image, label):
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / image)
        write(tmp_path / "labels" / split / label, WHOLE)
    write(tmp_path / "Classes.TXT", "cat\n")
    assert opened(tmp_path, "detection").describe() == "YOLO txt, 1 class, 1 / 1 images"


def test_two_pictures_of_one_label_file_and_two_label_files_are_refused(tmp_path):
    yolo(tmp_path, {"train": {"a": WHOLE}, "val": {"b": WHOLE}})
    picture(tmp_path / "images" / "train" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: .*a\.txt belongs to .*a\.jpg and to .*a\.png: which one\?"):
        opened(tmp_path, "detection")
    (tmp_path / "images" / "train" / "a.png").unlink()
    write(tmp_path / "labels" / "train" / "a.TXT", WHOLE)
    with pytest.raises(DataError, match=r"a\.jpg: .*a\.TXT, .*a\.txt are both its labels: which one\?"):
        opened(tmp_path, "detection")


@pytest.mark.parametrize("described", ["", "train: images/train\nval: images/val\n"])
@pytest.mark.parametrize(
    "image, label",
    [
        ("a.jpg", "a.jpg.txt"),
        ("a.jpg", "A.txt"),
        ("A.JPG", "a.JPG.TXT"),
        ("e\u0301.jpg", "\u00e9.txt"),
        ("\u00c9.jpg", "e\u0301.jpg.txt"),
    ],
)
def test_label_file_that_another_system_or_tool_names_is_its_pictures_and_that_is_told(
    tmp_path, image, label, described
):
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / image)
        write(tmp_path / "labels" / split / label, WHOLE)
    write(tmp_path / "data.yaml", TWO + described)
    source = opened(tmp_path, "detection", "skip")
    assert [len(source.sample(split, 0, 0).boxes) for split in ("train", "val")] == [1, 1]
    assert "labels of 1 picture found by name: " in source.describe() and "without objects" not in source.describe()


def test_label_file_that_may_be_of_two_pictures_costs_both_and_two_label_files_their_picture(tmp_path):
    yolo(tmp_path, {"train": {"a": WHOLE, "b": WHOLE}, "val": {"c": WHOLE}})
    for name in ("d.jpg", "D.jpg"):
        picture(tmp_path / "images" / "train" / name)
    write(tmp_path / "labels" / "train" / "d.png.txt", WHOLE)
    write(tmp_path / "labels" / "train" / "b.jpg.txt", WHOLE)
    with pytest.raises(DataError) as error:
        opened(tmp_path, "detection")
    assert "b.jpg: " in str(error.value) and "are both its labels: which one?" in str(error.value)
    assert str(error.value).count("d.png.txt belongs to ") == 2
    source = opened(tmp_path, "detection", "skip")
    assert source.length("train") == 1 and "without objects" not in source.describe()


def test_each_picture_has_the_label_file_with_its_whole_name(tmp_path):
    yolo(tmp_path, {"train": {}, "val": {"c": WHOLE}})
    for name in ("a.jpg", "a.png", "A.jpg"):
        picture(tmp_path / "images" / "train" / name)
        write(tmp_path / "labels" / "train" / f"{name}.txt", WHOLE)
    source = opened(tmp_path, "detection")
    assert [len(source.sample("train", 0, i).boxes) for i in range(source.length("train"))] == [1, 1, 1]


def test_text_that_holds_no_labels_is_left_out_and_told(tmp_path):
    yolo(tmp_path, {"train": {"a": WHOLE}, "val": {"b": WHOLE}})
    write(tmp_path / "labels" / "train" / "README.txt", "made by\n")
    assert "1 text file without labels left out: README.txt" in opened(tmp_path, "detection").describe()


def test_box_that_is_given_again_counts_once_and_that_is_told(tmp_path):
    text = "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n0 .5 .5 .2 .3"
    yolo(tmp_path, {"train": {"a": text}, "val": {"b": WHOLE}}, names=TWO)
    source = opened(tmp_path, "detection")
    assert source.sample("train", 0, 0).box_labels.tolist() == [0, 1, 0]
    assert "(1 box given again with the same class and corners, and taken once)" in source.describe()


# ---------------------------------------------------------------- keypoints


@pytest.mark.parametrize(
    "shape, points", [("[4, 2]", ".45 .45 .55 .45 .55 .55 .45 .55"), ("[2, 3]", ".4 .4 2 .6 .6 0")]
)
def test_boxes_with_keypoints_are_boxes_and_the_keypoints_are_told(tmp_path, shape, points):
    text = f"1 0.5 0.5 0.2 0.2 {points}\n0 .5 .5 1 1"
    yolo(tmp_path, {"train": {"a": text}, "val": {"b": text}}, names=f"{TWO}kpt_shape: {shape}")
    source = opened(tmp_path, "detection")
    assert source.sample("train", 0, 0).boxes.round(4).tolist() == [[8, 4, 12, 6], [0, 0, 20, 10]]
    assert "numbers of keypoints for each box left out" in source.describe()


def test_line_that_kpt_shape_does_not_explain_is_refused(tmp_path):
    yolo(tmp_path, {"train": {"a": "0 .1 .1 .9 .1 .9 .9"}, "val": {"b": WHOLE}}, names=f"{TWO}kpt_shape: [4, 2]")
    with pytest.raises(DataError, match=r"line 1 has 6 numbers after the class: .* with the keypoints of kpt_shape 12"):
        opened(tmp_path, "detection")


@pytest.mark.parametrize(
    "line, shape",
    [
        ("0 .5 .5 .2 .2 .45 .45 1 .55 .55 1", "[2, 3]"),
        ("0 .5 .5 .2 .2 .45 .45 2 .55 .55 1 0 0 0", "[3, 3]"),  # an even number in all
        ("0 .5 .5 .2 .2 0.0 0.0 0.0 .5 .5 2.0", "[2, 3]"),
        ("0 .5 .5 .2 .2 " + ".45 .5 2 " * 17, "[17, 3]"),
    ],
)
@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_keypoints_that_data_yaml_does_not_tell_of_are_refused_by_line_with_the_remedy(tmp_path, line, shape, kind):
    text = f"{WHOLE}\n1 .1 .1 .4 .1 .2 .4\n{line}"
    yolo(tmp_path, {"train": {"a": text}, "val": {"b": WHOLE}}, names=TWO)
    with pytest.raises(
        DataError, match=rf"a\.txt: line 3 looks like a box with .*`kpt_shape: {re.escape(shape)}` into"
    ):
        opened(tmp_path, kind)


@pytest.mark.parametrize(
    "line", ["0 0 0 1 0 1 1 0 1 0 0", "0 .2 .2 .8 .2 .8 .8 .2 .8", "0 .5 0 1 0 1 1 0 1 0 .5", "0 0 0 1 0 1 1 0 1"]
)
def test_outline_along_the_edges_of_its_image_is_no_box_with_keypoints(tmp_path, line):
    yolo(tmp_path, {"train": {"a": line}, "val": {"b": WHOLE}}, names=TWO)
    assert len(opened(tmp_path, "detection").sample("train", 0, 0).boxes) == 1


@pytest.mark.parametrize(
    "lines",
    [
        ["0 .5 .5 .4 .4 .35 .4 .65 .6", "1 .5 .5 .4 .4 .4 .4 .6 .4"],
        ["0 .5 .5 .3 .4 .5 .35 .5 .65"],
        ["0 .3 .6 .2 .4 .25 .5 .35 .5 0 0 .3 .7 .28 .45"],
    ],
)
@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_keypoints_of_x_and_y_alone_that_data_yaml_does_not_tell_of_are_refused_with_the_remedy(tmp_path, lines, kind):
    text = "\n".join([WHOLE, *lines])
    number = len(lines[0].split()[5:]) // 2
    yolo(tmp_path, {"train": {"a": text}, "val": {"b": text}}, names=TWO)
    with pytest.raises(
        ConfigError, match=rf"a\.txt: line 2, and all others, look .* `kpt_shape: \[{number}, 2\]` into"
    ):
        opened(tmp_path, kind)


@pytest.mark.parametrize(
    "lines",
    [
        ["0 .4 .4 .6 .4 .6 .6 .4 .6"],
        ["0 .4 .4 .6 .4 .6 .6 .4 .6 .4 .4"],  # closed by its first point
        ["0 .5 .5 .4 .4 .35 .4 .65 .6", "0 .1 .1 .4 .1 .4 .2"],  # crosses itself, but is not alone
        ["0 .4 .4 .45 .4 .5 .4 .55 .4 .55 .5 .4 .5"],  # points along a line
    ],
)
def test_outlines_that_could_hold_keypoints_are_outlines(tmp_path, lines):
    yolo(tmp_path, {"train": {"a": "\n".join(lines)}, "val": {"b": WHOLE}}, names=TWO)
    assert len(opened(tmp_path, "detection").sample("train", 0, 0).boxes) == len(lines)


@pytest.mark.parametrize("shape", ["17", "[17]", "[a, b]"])
def test_kpt_shape_that_cannot_be_understood_is_refused(tmp_path, shape):
    yolo(tmp_path, {"train": {"a": WHOLE}, "val": {"b": WHOLE}}, names=f"{TWO}kpt_shape: {shape}")
    with pytest.raises(ConfigError, match=r"data\.yaml: kpt_shape needs two numbers"):
        opened(tmp_path, "detection")


# ---------------------------------------------------------------- data.yaml decides


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/fold3",
        "path: images\ntrain: train\nval: fold3/",
        "train: ../images/train\nval: ../images/fold3",
        "path: /nowhere/else\ntrain: [images/train]\nval: [images/fold3]",
        "train: /content/set/images/train\nval: 'C:\\set\\images\\fold3'",
        "train: images/train\nval: lists/val.txt",
        "train: images/train\nvalid: images/fold3",
    ],
)
@pytest.mark.parametrize("by_file", [False, True])
def test_data_yaml_says_what_trains_and_what_validates(tmp_path, text, by_file):
    root = tmp_path / "set"
    heap(root, {"train": 3, "val": 2, "fold3": 4})
    write(root / "data.yaml", f"{text}\n{TWO}")
    write(root / "lists" / "val.txt", "".join(f"./images/fold3/fold3{i}.jpg\n" for i in (0, 1, 2, 3, 3)))
    source = opened(root / "data.yaml" if by_file else root, "detection")
    assert files(source, "val") == [f"fold3{i}.jpg" for i in range(4)] and source.length("train") == 3
    assert "YOLO txt, 2 classes, data.yaml: train is images/train, val is " in source.describe()
    assert ("1 times a picture is listed again, and taken once" in source.describe()) == ("lists" in text)
    assert "without objects" not in source.describe()


@pytest.mark.parametrize(
    "train, val",
    [
        ("images/a/*.jpg", "images/b/*.jpg"),
        ("[images/a/*]", "images/b"),
        ("images/a*", "'images/b/**'"),
        ("/content/set/images/a/*.jpg", "../images/b/*.jpg"),
        ("lists/a*.txt", "lists/b*.txt"),
    ],
)
def test_pattern_in_data_yaml_stands_for_what_it_matches(tmp_path, train, val):
    heap(tmp_path, {"a": 3, "b": 2, "train": 1, "val": 1})
    for name in "ab":
        write(tmp_path / "images" / name / "notes.txt", "no list")
        write(
            tmp_path / "lists" / f"{name}.txt",
            "\n".join(f"images/{name}/{name}{i}.jpg" for i in range(3 - (name == "b"))),
        )
    write(tmp_path / "data.yaml", f"{TWO}train: {train}\nval: {val}\n")
    source = opened(tmp_path, "detection")
    assert files(source, "train") == ["a0.jpg", "a1.jpg", "a2.jpg"] and files(source, "val") == ["b0.jpg", "b1.jpg"]


def test_place_that_is_no_text_is_told_where_the_usual_one_is_taken(tmp_path):
    heap(tmp_path, {"train": 2, "val": 1})
    write(tmp_path / "data.yaml", TWO + "train: {images: images/x}\nval: images/val\n")
    assert (
        "data.yaml says train is {'images': 'images/x'}, which is not there: train taken"
        in opened(tmp_path, "detection").describe()
    )


def test_folders_of_a_year_are_the_splits_that_data_yaml_says(tmp_path):
    heap(tmp_path, {"train2017": 3, "val2017": 2})
    write(tmp_path / "data.yaml", TWO + "path: ../coco\ntrain: images/train2017\nval: images/val2017\n")
    assert (
        opened(tmp_path, "detection")
        .describe()
        .endswith("train is images/train2017, val is images/val2017, 3 / 2 images")
    )


@pytest.mark.parametrize("on_bad", ["refuse", "skip"])
def test_images_that_train_and_validate_are_refused_in_one_sentence(tmp_path, on_bad):
    heap(tmp_path, {"train2017": 3})
    write(tmp_path / "data.yaml", TWO + "train: images/train2017\nval: images/train2017\n")
    with pytest.raises(ConfigError, match="train and val are the same 3 images: .* Name other images for val, or none"):
        opened(tmp_path, "detection", on_bad)


def test_lists_of_pictures_alone_say_what_trains_and_what_validates(tmp_path):
    heap(tmp_path, {"": 6})
    write(tmp_path / "classes.txt", "cat\n")
    write(tmp_path / "train.txt", "".join(f"images/{i}.jpg\n" for i in range(4)))
    write(tmp_path / "valid.txt", "/home/me/darknet/images/4.jpg\nimages/5.jpg\n")
    source = opened(tmp_path, "detection")
    assert files(source, "train") == [f"{i}.jpg" for i in range(4)] and files(source, "val") == ["4.jpg", "5.jpg"]
    assert "train.txt: train is train.txt, val is valid.txt" in source.describe()
    shutil.rmtree(tmp_path / "labels")
    with pytest.raises(ConfigError, match="is in none of the layouts for detection"):
        opened(tmp_path, "detection")


def test_lists_may_name_pictures_from_the_folder_of_pictures(tmp_path):
    heap(tmp_path, {"": 3})
    write(tmp_path / "classes.txt", "cat")
    write(tmp_path / "train.txt", "0.jpg\n1.jpg")
    write(tmp_path / "val.txt", "2.jpg")
    source = opened(tmp_path, "detection")
    assert files(source, "train") == ["0.jpg", "1.jpg"] and files(source, "val") == ["2.jpg"]


def test_class_list_that_roboflow_writes_for_darknet_is_read(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / f"{split}.jpg")
        write(tmp_path / split / f"{split}.txt", WHOLE)
        write(tmp_path / split / "_darknet.labels", "cat\ndog")
    assert opened(tmp_path, "detection").class_names == ["cat", "dog"]


def test_several_folders_of_a_split_are_taken_together(tmp_path):
    heap(tmp_path, {"a": 2, "b": 3, "c": 1})
    write(tmp_path / "data.yaml", f"train: [images/a, images/b]\nval: images/c\ntest: images/a\n{TWO}")
    assert (
        opened(tmp_path, "detection")
        .describe()
        .startswith("YOLO txt, 2 classes, data.yaml: train is images/a, images/b, val is images/c, 5 / 1 images")
    )
    assert opened(tmp_path, "detection", val="test", prepare=("val",)).length("val") == 2


def test_place_that_is_not_there_is_refused_rather_than_another_taken(tmp_path):
    heap(tmp_path, {"train": 2, "other": 2})
    write(tmp_path / "data.yaml", f"train: images/train\nval: images/fold9\n{TWO}")
    with pytest.raises(
        ConfigError, match=r"data\.yaml: val is images/fold9, which is not there\. Correct it: paths start"
    ):
        opened(tmp_path, "detection")
    heap(tmp_path, {"val": 1})
    assert (
        "data.yaml says val is images/fold9, which is not there: val taken" in opened(tmp_path, "detection").describe()
    )


def test_folders_outside_of_the_root_are_read_where_data_yaml_names_them_and_that_is_said(tmp_path):
    heap(tmp_path / "elsewhere", {"train": 2, "val": 1})
    root = tmp_path / "set"
    write(root / "data.yaml", f"path: {tmp_path / 'elsewhere'}\ntrain: images/train\nval: images/val\n{TWO}")
    source = opened(root, "detection")
    assert source.length("train") == 2 and "outside of data.root, as data.yaml has it: /" in source.describe()


def test_path_that_leads_out_is_taken_inside_where_it_is_there_too_and_that_is_said(tmp_path):
    for folder, number in ((tmp_path, 4), (tmp_path / "set", 2)):
        for split in ("train", "valid"):
            heap(folder / split, {"": number})
    heap(tmp_path / "pool", {"": 5})
    write(tmp_path / "set" / "data.yaml", f"train: ../train/images\nval: ../valid/images\n{TWO}")
    source = opened(tmp_path / "set", "detection")
    assert source.length("train") == source.length("val") == 2
    assert (
        "data.yaml says ../train/images, ../valid/images: of the two that are there, that inside" in source.describe()
    )
    write(tmp_path / "set" / "data.yaml", f"train: ../pool/images\nval: valid/images\n{TWO}")
    source = opened(tmp_path / "set", "detection")
    assert source.length("train") == 5 and "outside of data.root" in source.describe()
    assert "of the two" not in source.describe()


def test_a_list_names_no_picture_outside_of_what_data_yaml_names(tmp_path):
    heap(tmp_path / "set", {"train": 2})
    picture(tmp_path / "secret.jpg")
    write(tmp_path / "set" / "val.txt", f"{tmp_path}/secret.jpg\n")
    write(tmp_path / "set" / "data.yaml", f"train: images/train\nval: val.txt\n{TWO}")
    with pytest.raises(DataError, match=r"val\.txt: line 1 names .*secret\.jpg', which leads out of"):
        opened(tmp_path / "set", "detection")


def test_two_files_that_describe_data_must_be_told_apart(tmp_path):
    heap(tmp_path, {"train": 2, "val": 1, "other": 3})
    for name in ("a", "b"):
        write(tmp_path / f"{name}.yaml", f"train: images/{'train' if name == 'a' else 'other'}\nval: images/val\n{TWO}")
    with pytest.raises(ConfigError, match=r"a\.yaml, .*b\.yaml .*describe data: which is meant\? data\.root=.*a\.yaml"):
        opened(tmp_path, "detection")
    assert opened(tmp_path / "b.yaml", "detection").length("train") == 3


@pytest.mark.parametrize("text, what", [("names: [cat", "is not valid YAML"), (TWO, "names no split to train on")])
def test_yaml_that_describes_no_data_is_refused_as_a_root(tmp_path, text, what):
    write(tmp_path / "my.yaml", text)
    with pytest.raises(ConfigError, match=what):
        opened(tmp_path / "my.yaml", "detection")


# ---------------------------------------------------------------- class lists


def test_class_lists_that_contradict_are_refused_with_both_files(tmp_path):
    heap(tmp_path, {"train": 2, "val": 2})
    write(tmp_path / "labels" / "train" / "classes.txt", "cat\ndog\n")
    write(tmp_path / "labels" / "val" / "classes.txt", "dog\ncat\n")
    with pytest.raises(
        ConfigError, match=r"train/classes\.txt and .*val/classes\.txt contradict .*class 0 is cat in one and dog"
    ):
        opened(tmp_path, "detection")
    write(tmp_path / "labels" / "val" / "classes.txt", "cat\ndog\nemu\n")  # longer, not another
    assert opened(tmp_path, "detection").class_names == ["cat", "dog", "emu"]
    write(tmp_path / "images" / "classes.txt", "cat\nDog\n")
    with pytest.raises(ConfigError, match=r"class 1 is (D|d)og in one and (D|d)og in the other"):
        opened(tmp_path, "detection")
    (tmp_path / "images" / "classes.txt").unlink()
    write(tmp_path / "data.yaml", "names: [dog, cat, emu]")
    with pytest.raises(ConfigError, match=r"data\.yaml and .*classes\.txt contradict"):
        opened(tmp_path, "detection")


# ---------------------------------------------------------------- folders of any name


@pytest.mark.parametrize(
    "images, labels",
    [("photos/train", "txt/train"), ("train", "train"), ("train/pics", "train/anno"), ("x/train/a", "x/train/a")],
)
@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev", "eval"])
@pytest.mark.parametrize("ending", ["txt", "xml"])
def test_folders_may_be_called_anything(tmp_path, images, labels, val, ending):
    for split, number in (("train", 3), (val, 2)):
        for i in range(number):  # numbered alike in both
            picture(tmp_path / images.replace("train", split) / f"{i}.jpg")
            text = WHOLE if ending == "txt" else xml([("cat", 1, 1, 20, 10)])
            write(tmp_path / labels.replace("train", split) / f"{i}.{ending}", text)
    if ending == "txt":
        write(tmp_path / "classes.txt", "cat\n")
    source = opened(tmp_path, "detection")
    assert (source.length("train"), source.length("val")) == (3, 2)
    assert source.sample("train", 0, 0).boxes.round(3).tolist() == [[0, 0, 20, 10]]
    assert all(f"/{val}" in file for file in source.problems("val")[0].files)


@pytest.mark.parametrize("images, labels", [("images", "labels"), ("photos", "annots")])
@pytest.mark.parametrize("split", ["images", "labels"])
@pytest.mark.parametrize("ending", ["txt", "xml"])
def test_only_pictures_or_only_labels_may_lie_in_folders_of_splits(tmp_path, images, labels, split, ending):
    if ending == "xml":
        labels = {"labels": "annotations"}.get(labels, labels)
    for side, number in (("train", 4), ("val", 3)):
        for i in range(number):
            picture(tmp_path / images / (side if split == "images" else "") / f"{side}{i}.jpg")
            text = WHOLE if ending == "txt" else xml([("cat", 1, 1, 20, 10)])
            write(tmp_path / labels / (side if split == "labels" else "") / f"{side}{i}.{ending}", text)
    write(tmp_path / "classes.txt", "cat\n")
    source = opened(tmp_path, "detection")
    assert files(source, "train") == [f"train{i}.jpg" for i in range(4)]
    assert files(source, "val") == [f"val{i}.jpg" for i in range(3)]
    assert "without objects" not in source.describe()


@pytest.mark.parametrize("images, labels", [("", "xmls"), ("pics", ""), ("", "")])
def test_pictures_or_labels_may_lie_in_the_root_itself(tmp_path, images, labels):
    for i in range(8):
        picture(tmp_path / images / f"{i}.jpg")
        write(tmp_path / labels / f"{i}.xml", xml([("cat", 1, 1, 20, 10)]))
    source = opened(tmp_path, "detection")
    assert source.length("train") + source.length("val") == 8


def test_labelimg_in_one_folder_is_read_with_folders_within(tmp_path):
    for place in ("", "a", "b"):
        for i in range(4):
            picture(tmp_path / place / f"{place}{i}.jpg")
            write(tmp_path / place / f"{place}{i}.txt", "0 .5 .5 1 1\n")
        write(tmp_path / place / "classes.txt", "cat\n")
    source = opened(tmp_path, "detection")
    assert source.length("train") + source.length("val") == 12 and "without objects" not in source.describe()


def test_two_heaps_of_unlike_folders_must_be_told_apart(tmp_path):
    for place in ("red", "blue"):
        heap(tmp_path / place, {"": 2}, images=f"{place}_pictures", labels=f"{place}_notes")
    write(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(ConfigError, match=r"which split is to train on\? There are blue/blue_notes, red/red_notes"):
        opened(tmp_path, "detection")


def test_cvat_yolo_is_read_by_its_lists(tmp_path):
    for subset, number in (("train", 4), ("Validation", 2)):
        names = [f"obj_{subset}_data/frame_{i:06}.PNG" for i in range(number)]
        for name in names:
            picture(tmp_path / name)
            write((tmp_path / name).with_suffix(".txt"), "0 0.5 0.5 1.0 1.0\n")
        write(tmp_path / f"{subset}.txt", "".join(f"data/{name}\n" for name in names))
    shutil.copy(tmp_path / "Validation.txt", tmp_path / "valid.txt")
    write(tmp_path / "obj.names", "cat\ndog\n")
    text = "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    write(tmp_path / "obj.data", text)
    source = opened(tmp_path, "detection")
    assert source.describe() == "YOLO txt, 2 classes, obj.data: train is train.txt, val is valid.txt, 4 / 2 images"
