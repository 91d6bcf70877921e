"""Every reader of strangers' files, given 2,000 files with faults by chance, the same in every run.

What a reader returns is what an independent parser makes of the same bytes, written here in the plainest way; or it
raises an error of ours that names the file. It never raises another, and never takes more than five seconds.
"""

import csv
import io
import json
import re
import shutil
import tarfile
import unicodedata
import warnings
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from faults import bounded, spoilt, spoilt_inside
from PIL import Image
from rich.console import Console
from scipy.io import loadmat, savemat

from mnv2_tasks.data import imagenet
from mnv2_tasks.data.class_lists import imagenet_wnids
from mnv2_tasks.data.download.unpack import extract
from mnv2_tasks.data.images.decode import check_image, read_image, read_mask
from mnv2_tasks.data.layouts.class_file import class_list
from mnv2_tasks.data.layouts.yolo import read_labels
from mnv2_tasks.data.reading.coco_json import read_coco_json
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.data.reading.text_files import listed_names
from mnv2_tasks.data.reading.voc_xml import read_voc_xml
from mnv2_tasks.data.shards import FORMAT, shards, to_arrays
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import read_json, read_yaml

# ---------------------------------------------------------------- readers: a good file, ours, the plain one


def coco_good(folder):
    images = [{"id": i, "file_name": f"{i}.png", "height": 40 + i, "width": 60} for i in range(4)]
    annotations = [
        {"id": i, "image_id": i % 4, "category_id": i % 2 + 1, "bbox": [i, 2.5, 20, 10], "area": 200.0, "iscrowd": 0,
         "segmentation": [[1, 1, 20, 1, 20, 20, 1, 20.5]]}
        for i in range(6)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    for i in range(4):
        (folder / f"{i}.png").touch()
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}, indent=1).encode()


def coco_ours(path):
    records = read_coco_json(path, path.parent, root=path.parent, outlines=False).records
    owner = records.image_of_box()
    rows = zip(records.ids[owner].tolist(), records.box_labels.tolist(), records.boxes.tolist())
    return list(zip(records.ids.tolist(), records.sizes.tolist())), [(i, label, box) for i, label, box in rows]


def coco_plain(path):
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    labels = {number: label for label, number in enumerate(sorted(c["id"] for c in content["categories"]))}
    images = [(image["id"], [image.get("height") or 0, image.get("width") or 0]) for image in content["images"]]
    images = [(number, size if all(size) else [0, 0]) for number, size in images]  # one side says nothing
    order = {number: place for place, (number, _) in enumerate(images)}
    boxes = []
    for annotation in content["annotations"]:
        try:
            x, y, width, height = map(float, annotation["bbox"])
            image, label = annotation["image_id"], labels[annotation["category_id"]]
            float(annotation.get("area") or 0), int(annotation.get("iscrowd") or 0)
            np.int64(int(annotation.get("id", 1)))
            boxes.append((order[image], (images[order[image]][0], label, [x, y, x + width, y + height])))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue  # a problem, which is refused or counted
    return images, [box for _, box in sorted(boxes, key=lambda pair: pair[0])]


def voc_good(folder):
    objects = "".join(
        f"<object><name>cat</name><difficult>{i % 2}</difficult><bndbox><xmin>{i}</xmin><ymin>2</ymin><xmax>30.5</xmax>"
        f"<ymax>40</ymax></bndbox></object>\n" for i in range(4)
    )  # fmt: skip
    size = "<size><width>60</width><height>48</height><depth>3</depth></size>"
    return f"<annotation><filename>a.jpg</filename>\n{size}{objects}</annotation>".encode()


def voc_ours(path):
    found = read_voc_xml(path)
    return found.file_name, found.size, [tuple(one) for one in found.objects]


def voc_plain(path):
    root = ElementTree.fromstring(path.read_bytes())
    size = root.find("size")
    objects = []
    for one in root.findall("object"):
        box, hard = one.find("bndbox"), one.find("difficult")
        corners = tuple(float(box.find(side).text) for side in ("xmin", "ymin", "xmax", "ymax"))
        objects.append((one.findtext("name").strip(), corners, hard is not None and float(hard.text) != 0))
    sides = (0, 0) if size is None else tuple(int(float(size.find(side).text)) for side in ("height", "width"))
    return (root.findtext("filename") or "").strip(), sides, objects


def yolo_good(folder):
    return b"0 0.5 0.5 0.25 0.25\n1 .3 .3 .1 .1\n\n2 0.1 0.1 0.9 0.1 0.9 0.9\n" * 3


def yolo_ours(path):
    objects, faults = read_labels(path, 3)
    if faults:
        raise DataError(f"{path}: {faults[0]}")
    return objects


def yolo_plain(path):
    objects = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.split():
            label, *rest = map(float, line.split())
            if len(rest) == 4:
                x, y, w, h = rest
                box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            else:
                box = (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2]))
            objects.append((number, int(label), box))
    return objects


def classes_ours(path):
    return class_list([path.parent])


def classes_txt_plain(path):
    lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    return [unicodedata.normalize("NFC", line.strip()) for line in lines]


def in_order(names):
    return [unicodedata.normalize("NFC", name).strip(" ") for name in numbered(names)]


def numbered(names):
    if isinstance(names, list):
        return [str(name) for name in names]
    numbers = [str(i) for i in range(len(names))]
    if set(names) == set(numbers):
        return [str(names[number]) for number in numbers]
    return sorted(names, key=lambda name: int(names[name]))


def classes_json_plain(path):
    return in_order(json.loads(path.read_text(encoding="utf-8-sig")))


def classes_yaml_plain(path):
    content = yaml.load(path.read_text(encoding="utf-8-sig"), yaml.CBaseLoader)  # the other one knows no tabs
    return in_order(content["names"]) if isinstance(content, dict) and "names" in content else None


def list_good(folder):
    return "".join(f"2007_{i:06d}\n" for i in range(30)).encode()


def list_plain(path):
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [line.strip() for line in lines if line.strip()]


def picture_good(format, mode="RGB"):
    def good(folder):
        rng = np.random.default_rng(0)
        pixels = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((5, 5, 1))).astype(np.uint8)
        image = Image.fromarray(pixels) if mode == "RGB" else Image.fromarray(pixels[..., 0] % 21).convert(mode)
        file = io.BytesIO()
        image.save(file, format)
        return file.getvalue()

    return good


def picture_ours(path):
    check_image(path)
    return read_image(path)


def picture_plain(path):
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        return np.array(image.convert("RGB"))


def size_ours(path):
    """Of a JPEG, whose pixels two libraries decode with other rounding."""
    check_image(path)
    return read_image(path).shape


def size_plain(path):
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
        return (*((image.width, image.height) if turned else (image.height, image.width)), 3)


def mask_plain(path):
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        return np.array(image).astype(np.uint8)


def mat_good(folder):
    file = io.BytesIO()
    values = np.arange(600, dtype=np.uint8).reshape(20, 30) % 21
    savemat(file, {"GTcls": {"Boundaries": np.zeros((2, 1), object), "Segmentation": values}})
    return file.getvalue()


def mat_plain(path):
    return loadmat(path)["GTcls"][0]["Segmentation"][0]


def kaggle_good(folder):
    rows = [f"ILSVRC2012_val_{i:08d},{wnid} 1 2 3 4\n" for i, wnid in enumerate(imagenet_wnids()[:9])]
    return ("ImageId,PredictionString\n" + "".join(rows)).encode()


def kaggle_plain(path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    return {row["ImageId"]: imagenet_wnids().index(row["PredictionString"].split()[0]) for row in rows}


def json_good(folder):
    return json.dumps({"a": [1, 2.5, True, None, "text"], "b": {"c": -7, "d": {"e": [[1], [2, 3]]}}}, indent=1).encode()


def yaml_good(folder):
    return b"a: [1, 2.5, true, null, text]\nb:\n  c: -7\n  d: {e: [[1], [2, 3]]}\n  f: 1.0e-05\n  g: 'x: y'\n"


def yaml_plain(path):
    """All that SafeLoader makes of it, but that 1e-3 is a number and a date is text, as in OmegaConf."""

    def with_numbers(value):
        if isinstance(value, dict):
            return {key: with_numbers(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [with_numbers(inner) for inner in value]
        is_number = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value)
        return float(value) if is_number else value

    return with_numbers(yaml.load(path.read_text(encoding="utf-8-sig"), yaml.CSafeLoader))


def index_of(files, classes=3):
    return {"format": FORMAT, "kind": "detection", "class_names": ["a", "b", "c"], "category_ids": [3, 5, 9],
            "found": "x", "splits": {"val": files}}  # fmt: skip


def packed_good(folder):
    """A split's arrays; its shard and index lie beside them."""
    recorder = Recorder()
    for i in range(5):
        recorder.image(f"{i}.png", size=(40, 60), image_id=i + 7)
        recorder.box((i, 2, 20, 30), i % 3)
    picture = io.BytesIO()
    Image.new("RGB", (60, 40)).save(picture, "PNG")
    places = {name: np.full(5, 10, np.int64) for name in ("start", "mask_start", "mask_size")}
    places["size"] = np.full(5, len(picture.getvalue()), np.int64)
    file = io.BytesIO()
    sizes = np.full((5, 2), (40, 60), np.int32)
    np.savez(file, **to_arrays(recorder.records()), **places, shard=np.zeros(5, np.int64), verified_sizes=sizes)
    shard = b"x" * 10 + picture.getvalue()
    (folder / "val-000000.tar").write_bytes(shard)
    (folder / "index.json").write_text(json.dumps(index_of({"val-000000.tar": len(shard)})))
    return file.getvalue()


def packed_ours(path):
    records, sizes = shards(root=str(path.parent), kind="detection").verified("val")
    return records.ids, records.boxes, records.box_labels, sizes


def packed_plain(path):
    with np.load(path) as file:
        return file["ids"], file["boxes"], file["box_labels"], file["verified_sizes"]


def index_good(folder):
    (folder / "val.npz").write_bytes(packed_good(folder))
    return (folder / "index.json").read_bytes()


def index_ours(path):
    source = shards(root=str(path.parent), kind="detection")
    return source.class_names, source.category_ids, len(source.verified("val")[0])


def index_plain(path):
    index = json.loads(path.read_text(encoding="utf-8-sig"))
    return index["class_names"], index["category_ids"] or list(range(1, len(index["class_names"]) + 1)), 5


def zip_good(folder):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("a.txt", "b/c.txt", "b/d.txt"):
            packed.writestr(name, name * 20)
    return file.getvalue()


def tar_good(folder):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name in ("a.txt", "b/c.txt", "b/d.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(name) * 20
            packed.addfile(info, io.BytesIO(name.encode() * 20))
    return file.getvalue()


def unpacked_ours(path):
    target = path.parent / "unpacked"
    extract(path, target, console=Console(file=io.StringIO(), markup=False))
    return {file.relative_to(target).as_posix(): file.read_bytes() for file in target.rglob("*") if file.is_file()}


def zip_plain(path):
    with zipfile.ZipFile(path) as packed:
        return {info.filename: packed.read(info) for info in packed.infolist() if not info.is_dir()}


def tar_plain(path):
    with tarfile.open(path) as packed:
        return {info.name: packed.extractfile(info).read() for info in packed if info.isfile()}


READERS = {  # file -> a good one, ours, the plain parser, how many faulty ones
    "annotations.json": (coco_good, coco_ours, coco_plain, 320),
    "annotation.xml": (voc_good, voc_ours, voc_plain, 160),
    "labels/a.txt": (yolo_good, yolo_ours, yolo_plain, 160),
    "classes.txt": (lambda _: b"cat\ndog\nemu\n", classes_ours, classes_txt_plain, 60),
    "classes.json": (lambda _: b'{"0": "cat", "1": "dog"}', classes_ours, classes_json_plain, 60),
    "data.yaml": (lambda _: b"path: x\nnc: 2\nnames:\n  0: cat\n  1: dog\n", classes_ours, classes_yaml_plain, 80),
    "train.txt": (list_good, listed_names, list_plain, 60),
    "a.png": (picture_good("PNG"), picture_ours, picture_plain, 160),
    "a.bmp": (picture_good("BMP"), picture_ours, picture_plain, 80),
    "a.jpg": (picture_good("JPEG"), size_ours, size_plain, 120),
    "a.tif": (picture_good("TIFF"), size_ours, size_plain, 80),
    "a.webp": (picture_good("WEBP"), size_ours, size_plain, 60),
    "mask.png": (picture_good("PNG", "P"), read_mask, mask_plain, 80),
    "a.mat": (mat_good, read_mask, mat_plain, 80),
    "LOC_val_solution.csv": (kaggle_good, imagenet._from_kaggle, kaggle_plain, 60),
    "val.npz": (packed_good, packed_ours, packed_plain, 80),
    "index.json": (index_good, index_ours, index_plain, 80),
    "a.json": (json_good, read_json, lambda path: json.loads(path.read_text(encoding="utf-8-sig")), 60),
    "a.yaml": (yaml_good, read_yaml, yaml_plain, 60),
    "a.zip": (zip_good, unpacked_ours, zip_plain, 40),
    "a.tar": (tar_good, unpacked_ours, tar_plain, 60),
}


def assert_equal(ours, plain):
    np.testing.assert_equal(ours, plain)


@pytest.mark.parametrize("file", READERS)
def test_a_file_with_faults_is_read_as_a_plain_parser_reads_it_or_refused_by_name(tmp_path, file):
    good, ours, plain, times = READERS[file]
    outer = tmp_path / "outer"
    for seed in range(-1, times):
        place = outer / "inner"
        (place / file).parent.mkdir(parents=True)
        content = good(place)
        if seed >= 0:
            spoil = spoilt_inside if content.startswith((b"PK", b"\x89PNG")) else spoilt
            content = spoil(content, np.random.default_rng([seed, *file.encode()]))
        (place / file).write_bytes(content)
        try:
            compare(place / file, ours, plain, refusable=seed >= 0)
        except Exception as error:
            raise AssertionError(f"{file}, seed {seed}: {type(error).__name__}: {error}") from error
        assert list(outer.iterdir()) == [place]  # nothing was written beside it
        shutil.rmtree(place)


def compare(path, ours, plain, *, refusable):
    try:
        with bounded():
            found = ours(path)
    except (ConfigError, DataError) as error:
        assert refusable and str(path.parent) in str(error), error
    else:
        np.testing.assert_equal(found, plain(path))


def test_there_are_two_thousand_of_them():
    assert sum(times for *_, times in READERS.values()) == 2000
