import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from scipy.io import savemat

from mnv2_tasks.data.class_lists import VOC_OBJECTS, VOC_SEGMENTATION
from mnv2_tasks.data.reading.voc_xml import corners_are_one_based, pixel_box, read_voc_xml
from mnv2_tasks.data.voc import voc
from mnv2_tasks.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
ASSETS = ROOT.parent / "shared" / "assets"
SIZE = (24, 32)
OWN_TRAIN, OWN_VAL = ["2007_000032", "2007_000039"], ["2007_000033", "2007_000042"]
SBD_TRAIN, SBD_VAL = ["2008_000002", "2007_000033"], ["2008_000001", "2007_000032"]  # as in SBD, they overlap VOC's
ADDED = ["2008_000001", "2008_000002"]
TRAINAUG = sorted([*OWN_TRAIN, *ADDED])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path / "cache"))


def source(root, kind="segmentation", on_bad="refuse", train=None, val="val"):
    return voc(root=str(root), kind=kind, on_bad=on_bad, train=train, val=val)


def mask_of(name):
    """An object, its border without a class, and background; a different one for each name."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:20, 4:20] = 255
    mask[5:19, 5:19] = int(name[-2:]) % 20 + 1
    return mask


def save_mask(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask_of(name))
    image.putpalette([value * 7 % 256 for value in range(768)])
    image.save(folder / f"{name}.png")


def write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def write_pictures(year, names):
    (year / "JPEGImages").mkdir(parents=True, exist_ok=True)
    for name in names:
        pixels = np.random.default_rng(int(name.replace("_", ""))).integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(year / "JPEGImages" / f"{name}.jpg")


@pytest.fixture
def year(tmp_path):
    """VOC2012 as its archive unpacks: two images to train on, two to validate on."""
    year = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    write_pictures(year, [*OWN_TRAIN, *OWN_VAL, *ADDED])
    for name in (*OWN_TRAIN, *OWN_VAL):
        save_mask(year / "SegmentationClass", name)
    write_list(year / "ImageSets" / "Segmentation" / "train.txt", OWN_TRAIN)
    write_list(year / "ImageSets" / "Segmentation" / "val.txt", OWN_VAL)
    return year


def add_sbd(folder):
    (folder / "cls").mkdir(parents=True)
    write_list(folder / "train.txt", SBD_TRAIN)
    write_list(folder / "val.txt", SBD_VAL)
    for name in (*SBD_TRAIN, *SBD_VAL):
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": mask_of(name)}})


def masks(data, split):
    return [data.sample(split, 0, index).mask for index in range(data.length(split))]


# ---------------------------------------------------------------- segmentation


@pytest.mark.parametrize("below", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_any_level_of_the_archive(year, below):
    data = source(year.parents[1] / below, train="train")
    assert data.class_names == VOC_SEGMENTATION and data.class_names[0] == "background"
    assert data.length("train") == data.length("val") == 2
    for split, names in (("train", OWN_TRAIN), ("val", OWN_VAL)):
        np.testing.assert_array_equal(masks(data, split), [mask_of(name) for name in names])


@pytest.mark.parametrize("place", ["benchmark_RELEASE/dataset", "VOCdevkit/benchmark_RELEASE/dataset", "SBD", "."])
def test_trainaug_is_collected_from_sbd_without_what_voc_validates_on(year, place):
    root = year.parents[1]
    add_sbd(root / place)
    data = source(root)
    data.prepare(["train", "val"])
    assert "trainaug listed anew from SBD" in data.describe()
    records = data.problems("train")[0]
    assert [Path(file).stem for file in records.files] == TRAINAUG
    assert [Path(file).suffix for file in records.masks] == [".png", ".png", ".mat", ".mat"]  # VOC's own come first
    from_sbd = masks(data, "train")
    for name in ADDED:
        save_mask(year / "SegmentationClassAug", name)
    shutil.rmtree(root / place / "cls")
    np.testing.assert_array_equal(from_sbd, masks(source(root), "train"))
    np.testing.assert_array_equal(from_sbd, [mask_of(name) for name in TRAINAUG])


def test_trainaug_is_collected_from_its_masks_where_it_has_no_list(year):
    for name in (*ADDED, *OWN_VAL, *OWN_TRAIN):
        save_mask(year / "SegmentationClassAug", name)  # the archive in circulation has val's masks too
    data = source(year)
    assert "trainaug listed anew" in data.found and "SBD" not in data.found
    assert [Path(file).stem for file in data.problems("train")[0].files] == TRAINAUG


def test_a_list_of_trainaug_is_taken_as_it_is(year):
    save_mask(year / "SegmentationClassAug", ADDED[0])
    write_list(year / "ImageSets" / "Segmentation" / "trainaug.txt", [ADDED[0], OWN_TRAIN[0]])
    data = source(year)
    assert "anew" not in data.found
    records = data.problems("train")[0]
    folders = [Path(file).parent.name for file in records.masks]
    assert folders == ["SegmentationClassAug", "SegmentationClass"]
    np.testing.assert_array_equal(masks(data, "train"), [mask_of(ADDED[0]), mask_of(OWN_TRAIN[0])])


def test_train_reads_vocs_own_masks(year):
    for name in OWN_TRAIN:
        save_mask(year / "SegmentationClassAug", name)
    records = source(year, train="train").problems("train")[0]
    assert {Path(file).parent.name for file in records.masks} == {"SegmentationClass"}


def test_without_added_masks_the_error_shows_where_they_go(year):
    with pytest.raises(ConfigError, match=r"(?s)SegmentationClassAug does not exist.*benchmark_RELEASE.*VOCdevkit/"):
        source(year.parents[1]).prepare(["train"])
    assert source(year.parents[1]).length("val") == 2  # which evaluation needs nothing more for


def test_validation_images_on_the_training_list_are_refused(year):
    write_list(year / "ImageSets" / "Segmentation" / "mine.txt", [OWN_TRAIN[0], OWN_VAL[0]])
    with pytest.raises(DataError, match=rf"{OWN_VAL[0]}\.jpg: this training image is also in val"):
        source(year, train="mine").prepare(["train", "val"])


def test_a_missing_mask_and_a_missing_picture_are_named(year):
    (year / "SegmentationClass" / f"{OWN_TRAIN[0]}.png").unlink()
    (year / "JPEGImages" / f"{OWN_TRAIN[1]}.jpg").unlink()
    with pytest.raises(DataError) as error:
        source(year, train="train").prepare(["train"])
    assert f"{OWN_TRAIN[0]}.png: cannot be opened (No such file" in str(error.value)
    assert f"{OWN_TRAIN[1]}.jpg: cannot be opened" in str(error.value)


@pytest.mark.parametrize(
    "rows, error, message",
    [
        (["", " "], DataError, r"mine\.txt: lists no image\. Write the name of one a line"),
        (["2008_000001  1", "2008_000002 -1"], DataError, r"entry 1 is '2008_000001 1', expected the name"),
        (None, ConfigError, r"mine\.txt does not exist; lists there: train, val$"),
    ],
)
def test_an_image_list_that_is_none_says_why(year, rows, error, message):
    if rows:
        write_list(year / "ImageSets" / "Segmentation" / "mine.txt", rows)
    with pytest.raises(error, match=message):
        source(year, train="mine").prepare(["train"])


def test_an_image_that_a_list_repeats_counts_once_and_that_is_told(year):
    write_list(year / "ImageSets" / "Segmentation" / "mine.txt", [OWN_TRAIN[0], OWN_TRAIN[1], OWN_TRAIN[0]])
    data = source(year, train="mine")
    data.prepare(["train"])
    assert f"listed again in mine.txt and taken once: {OWN_TRAIN[0]} 2 times, 2 images" in data.describe()


@pytest.mark.parametrize("missing", ["JPEGImages", "ImageSets/Segmentation", "SegmentationClass"])
def test_what_is_missing_is_named_with_the_expected_tree(year, missing):
    (year / missing).rename(year / "elsewhere")
    with pytest.raises(ConfigError, match=rf"(?s)VOC2012/{missing} does not exist.*expected in .*VOCdevkit/"):
        source(year.parents[1])


def test_classification_is_not_served(year):
    with pytest.raises(ConfigError, match="data=voc serves segmentation and detection; classification"):
        source(year, "classification")


# ---------------------------------------------------------------- detection


def thing(name="dog", corners=(5, 6, 20, 10), difficult=0):
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name>{name}</name>{part}<difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def xml(*things, size="<size><width>32</width><height>24</height><depth>3</depth></size>", file="a.jpg"):
    return f"<annotation><filename>{file}</filename>{size}{''.join(things)}</annotation>"


@pytest.fixture
def boxes(year):
    """Adds what detection needs; the test fills in one annotation."""

    def write(text):
        write_list(year / "ImageSets" / "Main" / "train.txt", OWN_TRAIN)
        write_list(year / "ImageSets" / "Main" / "val.txt", OWN_VAL)
        (year / "Annotations").mkdir(exist_ok=True)
        for name in (*OWN_TRAIN, *OWN_VAL):
            (year / "Annotations" / f"{name}.xml").write_text(xml(thing()))
        (year / "Annotations" / f"{OWN_VAL[0]}.xml").write_text(text)
        return year

    return write


def test_boxes_are_pixel_edges_counted_from_zero(boxes):
    data = source(boxes(xml(thing("person", (1, 1, 32, 24)), thing("tvmonitor", (45.5 - 40, 6, 20, 10)))), "detection")
    data.prepare(["train", "val"])
    assert data.class_names == VOC_OBJECTS and len(VOC_OBJECTS) == 20
    assert data.describe() == (
        "PASCAL VOC2012 boxes, train / val, 2 / 2 images; "
        "val has images of 2 classes that train has none of: person, tvmonitor"
    )
    sample = data.sample("val", 0, 0)
    np.testing.assert_array_equal(sample.boxes, [[0, 0, 32, 24], [4.5, 5, 20, 10]])
    assert [VOC_OBJECTS[i] for i in sample.box_labels] == ["person", "tvmonitor"]


def test_difficult_objects_are_neither_trained_on_nor_counted(boxes):
    data = source(boxes(xml(thing(difficult=1), thing("cat"))), "detection")
    sample = data.sample("val", 0, 0)
    assert [VOC_OBJECTS[i] for i in sample.box_labels] == ["cat"]
    assert [annotation["iscrowd"] for annotation in data.coco_ground_truth()["annotations"]] == [1, 0, 0]


def test_an_unknown_class_is_refused_with_the_nearest_one_or_counted(boxes):
    year = boxes(xml(thing(), thing("aeroplan")))
    with pytest.raises(DataError, match=rf"{OWN_VAL[0]}\.xml: object 2 is a 'aeroplan'.*Did you mean aeroplane\?"):
        source(year, "detection").prepare(["val"])
    data = source(year, "detection", "skip")
    assert len(data.sample("val", 0, 0).boxes) == 1
    assert data.skipped == ["skipped in val: 0 of 2 images, 0 of 2 boxes, 1 annotations without a place"]


def test_a_broken_annotation_costs_its_image_or_is_refused(boxes):
    year = boxes(xml(thing())[:-30])
    with pytest.raises(DataError, match=rf"{OWN_VAL[0]}\.xml: is not valid XML"):
        source(year, "detection").prepare(["val"])
    assert source(year, "detection", "skip").length("val") == 1


def test_an_image_without_objects_stays(boxes):
    sample = source(boxes(xml()), "detection").sample("val", 0, 0)
    assert sample.boxes.shape == (0, 4)


def test_a_box_outside_its_image_is_named(boxes):
    with pytest.raises(DataError, match=r"box 1 lies outside its image: dog, corners \(39, 5, 50, 10\)"):
        source(boxes(xml(thing(corners=(40, 6, 50, 10)))), "detection").prepare(["val"])


# ---------------------------------------------------------------- one XML


def test_an_annotation_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(xml(thing("dog", (1, 2, 3, 4.5), 1), file="picture.png"))
    found = read_voc_xml(path)
    assert found.file_name == "picture.png" and found.size == (24, 32)
    assert found.objects == [("dog", (1.0, 2.0, 3.0, 4.5), True)]


def test_what_an_annotation_may_leave_out_is_empty(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<annotation></annotation>")
    assert read_voc_xml(path) == ("", (0, 0), [])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is not valid XML"),
        ("<annotations/>", "begins with <annotations>"),
        (xml(thing(name="")), "object 1 has no <name>"),
        (xml("<object><name>dog</name></object>"), r"object 1 \(dog\) has no <bndbox>"),
        (xml("<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>"), r"object 1 \(dog\) has no <ymin>"),
        (
            xml(thing(), thing("cat", (1, 2, "wide", 4))),
            r"object 2 \(cat\) has <xmax>wide</xmax>, which is not a number",
        ),
        (xml(size="<size><width>32</width></size>"), "<size> has no <height>"),
        (xml(size="<size><width>nan</width><height>24</height></size>"), "<size> has a width of nan"),
    ],
)
def test_a_broken_annotation_names_its_object_and_field(tmp_path, text, message):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"a\.xml: {message}"):
        read_voc_xml(path)


def test_a_missing_annotation_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.xml: cannot be opened"):
        read_voc_xml(tmp_path / "a.xml")


def test_one_corner_at_zero_tells_that_a_data_set_counts_from_zero():
    assert corners_are_one_based([(1, 1, 5, 5), (2, 3, 4, 5)])
    assert not corners_are_one_based([(1, 1, 5, 5), (0, 3, 4, 5)])
    assert not corners_are_one_based([(1, 0, 5, 5)])
    assert corners_are_one_based([(float("nan"), 1, 5, 5)])  # a broken box tells nothing
    assert pixel_box((1, 1, 32, 24), one_based=True) == (0, 0, 32, 24)
    assert pixel_box((0, 0, 32, 24), one_based=False) == (0, 0, 32, 24)


# ---------------------------------------------------------------- config and real data


def test_the_config_names_what_the_function_takes():
    given = OmegaConf.load(ROOT / "conf" / "data" / "voc.yaml").source.keys() - {"_target_"}
    assert given == inspect.signature(voc).parameters.keys() - {"kind"}


@pytest.mark.skipif(not ASSETS.is_dir(), reason="the real images are not here")
def test_every_real_voc_image_and_mask_is_sound():
    data = source(ASSETS)
    data.prepare(["train", "val"])
    assert data.describe() == "PASCAL VOC2012 masks, trainaug / val, 500 / 223 images"
    sample = data.sample("val", 0, 0)
    assert sample.mask.shape == sample.image.shape[:2]
