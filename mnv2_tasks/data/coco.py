"""COCO 2017: boxes of its 80 classes, or outlines of the 20 that VOC has too."""

import os
from pathlib import Path

import numpy as np

from mnv2_tasks.data.class_lists import COCO_NAME_OF_VOC, VOC_OBJECTS, VOC_SEGMENTATION, coco_categories
from mnv2_tasks.data.reading.coco_json import CocoJson, read_coco_json
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data.reading.root import data_root, not_found
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import did_you_mean, first_few

TREE = """
annotations/instances_train2017.json
annotations/instances_val2017.json
train2017/000000000009.jpg ...      118,287 pictures (or images/train2017)
val2017/000000000139.jpg ...          5,000 pictures (or images/val2017)
"""
TEST_DEV = "test-dev"  # published without annotations, which COCO's server alone has
TEST_DEV_TREE = """
annotations/image_info_test-dev2017.json
test2017/000000000001.jpg ...        40,670 pictures (or images/test2017), of which test-dev names 20,288
"""
GET_TEST_DEV = """To get it, unpack both in data.root:
  http://images.cocodataset.org/annotations/image_info_test2017.zip
  http://images.cocodataset.org/zips/test2017.zip (6.6 GB)"""


def coco(*, root: str | None, kind: str, on_bad: str, val: str = "val") -> FileSource:
    """The data set as its archives unpack.

    Detection: label i is the i-th of the 80 categories, crowds are neither trained on nor counted. Segmentation, for
    training before VOC: mask values are VOC's 21 classes, images without any of its objects are left out, and pixels
    of crowds or of two objects have no class.

    Args:
        root: the folder that holds `annotations`.
        kind: "detection" or "segmentation".
        val: the split to validate on, such as `test`, if you have its annotations/instances_test2017.json; `test-dev`
            to find boxes for COCO's server, which alone has its annotations.
        on_bad: "refuse" or "skip"; the official train2017 holds two boxes without height.

    Raises:
        ConfigError: COCO cannot serve this kind, or does not lie there; test-dev is to score a training.
    """
    if kind not in ("detection", "segmentation"):
        raise ConfigError(
            f"data=coco serves detection and segmentation; {kind} needs one class for each image: "
            f"data=imagenet, data=folder or data=shapes"
        )
    folder = data_root(root, "coco")
    if not (folder / "annotations").is_dir():
        raise not_found("coco", folder, "annotations", TREE)
    names = {"train": "train", "val": val}
    told = "" if val == "val" else f", {val} validates"
    if val == TEST_DEV and kind == "segmentation":
        raise ConfigError(f"split={val}: has no annotations, and COCO's server takes boxes: for detection alone")
    if kind == "detection":
        return FileSource(
            kind=kind,
            class_names=list(coco_categories().values()),
            read=lambda split: _read_boxes(folder, names[split], names["val"]),
            found=f"COCO 2017, 80 classes{told}",
            on_bad=on_bad,
            category_ids=list(coco_categories()),
            server_split=f"{val}2017" if val == TEST_DEV else None,
        )
    return FileSource(
        kind=kind,
        class_names=VOC_SEGMENTATION,
        read=lambda split: _read_outlines(folder, names[split]),
        found=f"COCO 2017, outlines of the 20 VOC classes{told}",
        on_bad=on_bad,
    )


def _read_boxes(folder: Path, split: str, val: str) -> tuple[Records, list[Problem]]:
    if split == "train" and val == TEST_DEV:
        raise ConfigError(
            f"data.val={val}: has no annotations to score a training with. Leave data.val=val, and find its boxes "
            f"afterwards: tools/eval.py run=<run> split={val}"
        )
    labels = {number: label for label, number in enumerate(coco_categories())}
    content = _read(folder, split, labels, outlines=False)
    return content.records, content.problems


def _read_outlines(folder: Path, split: str) -> tuple[Records, list[Problem]]:
    """Only the images that have an object of a VOC class (DeepLab pre-trains on such a part of COCO)."""
    number_of = {name: number for number, name in coco_categories().items()}
    labels = {number_of[COCO_NAME_OF_VOC.get(name, name)]: i for i, name in enumerate(VOC_OBJECTS, start=1)}
    content = _read(folder, split, labels, outlines=True)
    kept = np.diff(content.records.starts) > 0
    kept[[problem.image for problem in content.problems if problem.image is not None]] = True
    place = np.cumsum(kept) - 1  # of each image among those that stay
    problems = [
        problem if problem.image is None else problem._replace(image=int(place[problem.image]))
        for problem in content.problems
    ]
    return content.records.keep(kept, np.ones(len(content.records.boxes), bool)), problems


def _read(folder: Path, split: str, labels: dict[int, int], *, outlines: bool) -> CocoJson:
    annotated = split != TEST_DEV
    tree, how = (TREE, None) if annotated else (TEST_DEV_TREE, GET_TEST_DEV)
    path = folder / "annotations" / (f"instances_{split}2017.json" if annotated else f"image_info_{split}2017.json")
    if not path.is_file():
        _check_split(folder, split)
        raise not_found("coco", folder, f"annotations/{path.name}", tree, how)
    name = f"{split}2017" if annotated else "test2017"
    pictures = next((place for place in (folder / name, folder / "images" / name) if place.is_dir()), None)
    if pictures is None:
        raise not_found("coco", folder, name, tree, how)
    content = read_coco_json(path, pictures, root=folder, outlines=outlines, labels=labels, annotated=annotated)
    _check_categories(path, content.categories)
    if not annotated:
        _check_all_there(path, pictures, content.records)
    return content


def _check_split(folder: Path, split: str) -> None:
    """Raise a ConfigError for a name that is none of COCO's, which names those that are there."""
    if split in ("train", "val", TEST_DEV):
        return
    there = sorted(
        file.stem[len("instances_") : -len("2017")] for file in folder.glob("annotations/instances_*2017.json")
    )
    there = [*there, TEST_DEV]
    hint = did_you_mean(split, there)
    raise ConfigError(
        f"split={split}: there is no annotations/instances_{split}2017.json in {folder}. {hint}There are "
        f"{', '.join(there)}; {TEST_DEV} is without annotations, for COCO's server"
    )


def _check_all_there(path: Path, pictures: Path, records: Records) -> None:
    """Of a test set no picture may be skipped: to the server it would be one in which nothing was found."""
    missing = [Path(file).name for file in records.files if not os.path.isfile(file)]
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} of its {len(records):,} pictures are not in {pictures}: {first_few(missing)}. "
            f"The server takes them for pictures in which nothing was found. {GET_TEST_DEV}"
        )


def _check_categories(path: Path, found: dict[int, str]) -> None:
    expected = coco_categories()
    if found == expected:
        return
    new = [f"{name} (id {number})" for number, name in found.items() if expected.get(number) != name]
    missing = [f"{name} (id {number})" for number, name in expected.items() if found.get(number) != name]
    raise ConfigError(
        f"{path}: its {len(found)} categories are not COCO's 80.\n"
        f"  only in the file: {first_few(new) or 'none'}\n  only in COCO: {first_few(missing) or 'none'}\n"
        f"For your own data in COCO's format: data=folder data.root=..."
    )
