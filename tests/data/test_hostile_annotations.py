"""Annotations and lists that are made to harm: refused by name, fast, within memory, and never outside of the root."""

import json
import os
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.data.coco import coco
from mnv2_tasks.data.download.safe_names import name_fault, path_within
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.reading.outlines import compressed_outline
from mnv2_tasks.errors import ConfigError, DataError

ROOM = 1 << 30  # bytes that reading may take beyond what the process has


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


@contextmanager
def refused(message, seconds=5.0):
    """What stands inside ends with an error of ours, in time and within memory."""
    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    start = time.process_time()  # others use this machine too
    try:
        with pytest.raises((ConfigError, DataError), match=message):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - start < seconds


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def opened(root, kind):
    source = folder(root=str(root), kind=kind, on_bad="refuse", train=None, val=None)
    source.prepare(["val"])
    return source


# ---------------------------------------------------------------- COCO json


def image(**changes):
    return {"id": 1, "file_name": "a.png", "height": 48, "width": 64} | changes


def annotation(**changes):
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20]} | changes


def coco_text(images=None, annotations=None, categories=None):
    return json.dumps(
        {
            "images": images or [image()],
            "annotations": annotations or [annotation()],
            "categories": categories or [{"id": 1, "name": "cat"}],
        }
    )


HUGE = 10**400
COCO = {
    "deep": (coco_text()[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "val.json: .*within each other"),
    "more digits than int reads": (coco_text().replace("20", "9" * 5000, 1), "val.json: is not valid JSON .*4300"),
    "huge box": (coco_text(annotations=[annotation(bbox=[1, 1, HUGE, 20])]), "val.json: annotation 1 needs numbers"),
    "infinite box": (coco_text(annotations=[annotation(bbox=[1, 1, float("inf"), 20])]), "box 1 is not a number"),
    "infinite area": (coco_text(annotations=[annotation(area=float("inf"))]), "box 1 has an area that is no number"),
    "huge id": (coco_text(annotations=[annotation(id=2**63)]), "val.json: annotation 9223372036854775808 needs"),
    "huge image id": (coco_text([image(id=HUGE)]), "val.json: image number 1 needs .*whole number as id"),
    "huge height": (coco_text([image(height=10**9)]), "val.json: image number 1 .*whole numbers up to 1,048,576"),
    "a list as height": (coco_text([image(height=[48])]), "val.json: image number 1 .*whole numbers up to 1,048,576"),
    "negative height": (coco_text([image(height=-48)]), "val.json: image number 1 .*whole numbers up to 1,048,576"),
    "many pixels": (coco_text([image(height=10**6, width=10**6)]), "val.json: image number 1 has 1,000,000 x"),
    "huge category": (coco_text(categories=[{"id": HUGE, "name": "cat"}]), "val.json: category .* has an id that 64"),
    "no text": (coco_text().encode().replace(b'"cat"', b'"c\xfft"'), "val.json: is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("text, message", COCO.values(), ids=COCO)
def test_coco_json_that_holds_what_no_data_set_holds_is_refused_by_name(tmp_path, text, message):
    picture(tmp_path / "val" / "a.png")
    write(tmp_path / "annotations" / "val.json", text)
    with refused(message):
        opened(tmp_path, "detection")


def test_a_million_categories_are_read_in_seconds(tmp_path):
    picture(tmp_path / "val" / "a.png")
    categories = [{"id": i, "name": f"c{i}"} for i in range(300_000)] + [{"id": 1, "name": "again"}]
    write(tmp_path / "annotations" / "val.json", coco_text(categories=categories))
    with refused("category 1 .* is listed twice"):
        opened(tmp_path, "detection")


OUTSIDE = {
    "upward": ("../../outside.png", "leads out of"),
    "absolute": ("/etc/passwd", "leads out of"),
    "roundabout": ("a/../../../outside.png", "leads out of"),
    "backslash": ("..\\..\\outside.png", "leads out of"),
    "drive": ("C:/outside.png", "names a drive"),
    "NUL": ("a.png\0", "control character"),
    "escape": ("\x1b[2J.png", "control character"),
    "half a pair": ("\ud800.png", "control character"),
    "endless": ("x" * 300 + ".png", "too long"),
    "empty": ("", "is empty"),
}


@pytest.mark.parametrize("name, message", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("others", [0, 1])
def test_a_file_name_of_coco_json_never_leaves_the_root(tmp_path, name, message, others):
    root = tmp_path / "data" / "deeper"
    picture(tmp_path / "outside.png")
    picture(tmp_path / "data" / "outside.png")
    images = [image(id=7, file_name=name), *(image(id=i, file_name="b.png") for i in range(others))]
    picture(root / "val" / "b.png")
    write(root / "annotations" / "val.json", coco_text(images, [annotation(image_id=7)]))
    with refused(f"val.json.* names the file .*{message}"):
        opened(root, "detection")


def test_a_file_name_that_stays_within_the_root_is_followed(tmp_path):
    picture(tmp_path / "pictures" / "a.png")
    picture(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "pictures" / "link.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    names = ["../pictures/a.png", str(tmp_path / "elsewhere" / "b.png")]
    images = [image(id=i, file_name=name) for i, name in enumerate(names)]
    write(tmp_path / "annotations" / "val.json", coco_text(images, [annotation(image_id=0)]))
    assert opened(tmp_path, "detection").length("val") == 2


def test_symbolic_links_are_followed_out_of_the_root(tmp_path):
    picture(tmp_path / "outside" / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "val").symlink_to(tmp_path / "outside")
    write(root / "annotations" / "val.json", coco_text())
    assert opened(root, "detection").length("val") == 1


def test_path_within_takes_names_as_they_are():
    root = Path("data")
    for name in ("a.jpg", "a/b-1/ü.jpg", "2007_000027.jpg", "a b (1).jpg", "..a.jpg", "a..jpg", "日本.png"):
        assert name_fault(name) is None
        assert path_within(root, root / "val", name, "") == f"data/val/{name}"


ZIGZAG = [float(side) for i in range(100_000) for side in (1000 * (i % 2), i % 1000)]
OUTLINES = {
    "a line of a hundred million pixels": ([ZIGZAG], "longer than 2,000,000 pixels"),
    "endless run": ({"counts": "o" * 1_000_000, "size": [1000, 1000]}, "run lengths that cannot be read"),
    "huge run": ({"counts": [10**30], "size": [1000, 1000]}, "run lengths that cannot be read"),
    "huge number": ([[10**400, 1, 2, 3, 4, 5]], "no list of x and y"),
    "infinite number": ([[float("inf"), 1, 2, 3, 4, 5]], "no list of x and y"),
}


@pytest.mark.parametrize("segmentation, message", OUTLINES.values(), ids=OUTLINES)
def test_outlines_that_would_be_drawn_for_hours_are_refused(segmentation, message):
    with refused(message):
        compressed_outline(segmentation, (1000, 1000))


def test_published_coco_takes_no_picture_from_elsewhere(tmp_path):
    picture(tmp_path / "data" / "val2017" / "a.png")
    picture(tmp_path / "outside.png")
    text = coco_text([image(file_name="../../outside.png")])
    write(tmp_path / "data" / "annotations" / "instances_val2017.json", text)
    with refused("image number 1 names the file .* leads out of"):
        coco(root=str(tmp_path / "data"), kind="detection", on_bad="refuse").prepare(["val"])


# ---------------------------------------------------------------- VOC XML


def voc_xml(size="<size><width>64</width><height>48</height></size>", name="cat", corners=(1, 1, 20, 20), before=""):
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    return f"{before}<annotation>{size}<object><name>{name}</name><bndbox>{sides}</bndbox></object></annotation>"


LAUGHS = '<!DOCTYPE a [<!ENTITY a "xxxxxxxxxx">' + "".join(
    f'<!ENTITY {n} "{f"&{m};" * 10}">' for m, n in zip("abcdefgh", "bcdefghi")
) + "]>"  # fmt: skip
VOC = {
    "billion laughs": (voc_xml(name="&i;", before=LAUGHS), "a.xml: has a <!DOCTYPE>"),
    "in another encoding": (voc_xml(name="&i;", before=LAUGHS).encode("utf-16"), "a.xml: has a <!DOCTYPE>"),
    "deep": ("<annotation>" + "<a>" * 250_000, "a.xml: is not valid XML"),
    "many tags": ("<annotation>" + "<a/>" * 400_000, "a.xml: has more than 300,000 tags"),
    "large": (" " * 9_000_000, "a.xml: is larger than"),
    "huge height": (voc_xml(size="<size><width>64</width><height>1e300</height></size>"), "a.xml: <size> has a height"),
    "many pixels": (voc_xml(size="<size><width>1e6</width><height>1e6</height></size>"), "a.xml: <size> has 1,000,000"),
    "infinite": (voc_xml(size="<size><width>inf</width><height>1</height></size>"), "a.xml: <size> has a width of inf"),
    "huge corner": (voc_xml(corners=(1, 1, "1" + "0" * 400, 20)), "box 1 is not a number"),
    "no number": (voc_xml(corners=(1, 1, "\x85\x9b2J", 20)), r"object 1 \(cat\) has <xmax>\\x85\\x9b2J"),
    "encoding": ("<?xml version='1.0' encoding='none'?>" + voc_xml(), "a.xml: is not valid XML"),
}  # fmt: skip


@pytest.mark.parametrize("text, message", VOC.values(), ids=VOC)
def test_voc_xml_that_would_unpack_or_overflow_is_refused_by_name(tmp_path, text, message):
    picture(tmp_path / "JPEGImages" / "a.png")
    picture(tmp_path / "JPEGImages" / "b.png", (65, 48))
    write(tmp_path / "Annotations" / "a.xml", text)
    write(tmp_path / "Annotations" / "b.xml", voc_xml(size=""))
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "a\nb\n")
    with refused(message):
        opened(tmp_path, "detection")


@pytest.mark.parametrize("name, message", list(OUTSIDE.values())[:6], ids=list(OUTSIDE)[:6])
def test_a_name_in_an_image_list_never_leaves_its_folder(tmp_path, name, message):
    picture(tmp_path / "data" / "JPEGImages" / "b.png")
    write(tmp_path / "data" / "Annotations" / "b.xml", voc_xml())
    write(tmp_path / "data" / "ImageSets" / "Main" / "val.txt", f"b\n{name}\n")
    leads = "absolute path|leads out of|backslash|drive|control character"
    with refused(f"val.txt: line 2 names .*, which .*({leads})"):
        opened(tmp_path / "data", "detection")


def test_the_picture_that_voc_xml_names_lies_in_its_folder(tmp_path):
    picture(tmp_path / "outside.png")
    text = voc_xml().replace("<size>", "<filename>../../outside.png</filename><size>")
    picture(tmp_path / "data" / "JPEGImages" / "b.png")
    write(tmp_path / "data" / "Annotations" / "a.xml", text)
    write(tmp_path / "data" / "Annotations" / "b.xml", voc_xml())
    with refused(r"JPEGImages/a\.\*: is annotated or listed"):
        folder(root=str(tmp_path / "data"), kind="detection", on_bad="refuse", train=None, val=None).prepare(
            ["train", "val"]
        )


# ---------------------------------------------------------------- YOLO, class lists, files


def yolo(root, labels, classes="cat\ndog\n", file="classes.txt"):
    picture(root / "images" / "val" / "a.png")
    write(root / "labels" / "val" / "a.txt", labels)
    write(root / file, classes)
    return root


LABELS = {
    "a million lines": ("0 .5 .5 .1 .1\n" * 1_000_000, "a.txt: has 1,000,000 lines, one image has 100,000"),
    "old line ends": ("0 .5 .5 .1 .1\r" * 200_000, "a.txt: has 200,000 lines"),
    "one long line": ("0 " * 20_000_000, "a.txt: is larger than"),
    "huge class": ("1" + "0" * 400 + " .5 .5 .1 .1", "a.txt: line 1 has class inf; there are 2"),
    "not a number": ("0 nan .5 .1 .1", r"a.txt: line 1 has numbers outside \[0, 1\]"),
    "escape": ("\x1b[2J .5 .5 .1 .1", r"a.txt: line 1 is not made of numbers: '\\\\x1b"),
    "bytes": (b"\xff", "a.txt, line 1: is not UTF-8"),
}


@pytest.mark.parametrize("text, message", LABELS.values(), ids=LABELS)
def test_yolo_labels_that_no_image_has_are_refused_by_name(tmp_path, text, message):
    with refused(message):
        opened(yolo(tmp_path, text), "detection")


CLASSES = {
    "aliases": ("data.yaml", "a: &a [x, x]\nnames: [*a, *a]\n", "data.yaml, line 2: refers to another place"),
    "deep YAML": ("data.yaml", "names: " + "[" * 100_000, "data.yaml.*(within each other|maximum nesting)"),
    "deep JSON": ("classes.json", "[" * 100_000, "classes.json: .*within each other"),
    "a tag": ("data.yaml", "names: !!python/object/apply:os.system [id]", "data.yaml, line 1: asks for a type"),
    "no names": ("classes.json", "[null, [1]]", "classes.json: expected a list of class names"),
    "a control character": ("classes.txt", "cat\nd\x1bog\n", r"classes.txt: class 1, 'd\\\\x1bog', holds a character"),
    "a long name": ("classes.txt", "x" * 1000, "classes.txt: class 0, .* has 1,000 characters"),
    "a long file": ("classes.txt", "x\n" * 3_000_000, "classes.txt: is larger than"),
    "half a million names": ("classes.txt", "\n".join(map(str, [*range(500_000), 7])), "classes.txt: names 7 twice"),
    "bytes": ("classes.txt", b"\xff", "classes.txt, line 1: is not UTF-8"),
    "number of classes": ("data.yaml", f"names: [cat]\nnc: {'9' * 100_000}", "data.yaml: nc is 999.*, but 1 names"),
}


@pytest.mark.parametrize("file, text, message", CLASSES.values(), ids=CLASSES)
def test_class_lists_that_expand_or_cannot_be_shown_are_refused_by_name(tmp_path, file, text, message):
    with refused(message):
        opened(yolo(tmp_path, "", text, file), "detection")


def test_a_named_pipe_among_the_pictures_is_not_waited_for(tmp_path):
    root = yolo(tmp_path, "")
    os.mkfifo(root / "images" / "val" / "b.png")
    with refused("b.png: cannot be opened .*not a file"):
        opened(root, "detection")


def test_a_file_whose_name_is_no_text_is_read(tmp_path):
    root = yolo(tmp_path, "0 .5 .5 .5 .5")
    picture(root / "images" / "val" / "b.png", (65, 48))
    os.rename(root / "images" / "val" / "b.png", os.fsencode(root / "images" / "val") + b"/b\xff.png")
    source = opened(root, "detection")
    assert source.length("val") == 2 and source.sample("val", 0, 1).image.shape == (48, 65, 3)
    assert len(source.fingerprint()) == 64


def test_links_that_lead_around_are_refused_by_name(tmp_path):
    root = yolo(tmp_path, "")
    for name in ("round", "again"):
        (root / "images" / "val" / name).symlink_to(root / "images")
    with refused("images.* is the same folder as .*images/val/(round|again).*, by a symbolic link"):
        opened(root, "detection")


def test_folders_within_folders_without_end_are_read(tmp_path):
    root = yolo(tmp_path, "0 .5 .5 .5 .5")
    deepest = f"{root}/images/val" + "/a" * 1200
    for depth in range(1200, 0, -1):
        os.mkdir(deepest[: len(deepest) - 2 * (depth - 1)])
    try:
        assert opened(root, "detection").length("val") == 1
    finally:
        os.removedirs(deepest)  # pytest would not manage
