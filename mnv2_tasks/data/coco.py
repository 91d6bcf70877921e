"""COCO 2017: boxes of its 80 classes, or outlines of the 20 that VOC has too."""

from pathlib import Path

import numpy as np

from mnv2_tasks.data.class_lists import COCO_NAME_OF_VOC, VOC_OBJECTS, VOC_SEGMENTATION, coco_categories
from mnv2_tasks.data.reading.coco_json import CocoJson, read_coco_json
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data.reading.root import data_root, not_found
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import first_few

TREE = """
annotations/instances_train2017.json
annotations/instances_val2017.json
train2017/000000000009.jpg ...      118,287 pictures (or images/train2017)
val2017/000000000139.jpg ...          5,000 pictures (or images/val2017)
"""


def coco(*, root: str | None, kind: str, on_bad: str, val: str = "val") -> FileSource:
    """The data set as its archives unpack.

    Detection: label i is the i-th of the 80 categories, crowds are neither trained on nor counted. Segmentation, for
    training before VOC: mask values are VOC's 21 classes, images without any of its objects are left out, and pixels
    of crowds or of two objects have no class.

    Args:
        root: the folder that holds `annotations`.
        kind: "detection" or "segmentation".
        val: the split to validate on, such as `test`, if you have its annotations/instances_test2017.json.
        on_bad: "refuse" or "skip"; the official train2017 holds two boxes without height.

    Raises:
        ConfigError: COCO cannot serve this kind, or does not lie there.
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
    if kind == "detection":
        return FileSource(
            kind=kind,
            class_names=list(coco_categories().values()),
            read=lambda split: _read_boxes(folder, names[split]),
            found=f"COCO 2017, 80 classes{told}",
            on_bad=on_bad,
            category_ids=list(coco_categories()),
        )
    return FileSource(
        kind=kind,
        class_names=VOC_SEGMENTATION,
        read=lambda split: _read_outlines(folder, names[split]),
        found=f"COCO 2017, outlines of the 20 VOC classes{told}",
        on_bad=on_bad,
    )


def _read_boxes(folder: Path, split: str) -> tuple[Records, list[Problem]]:
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
    path = folder / "annotations" / f"instances_{split}2017.json"
    if not path.is_file():
        raise not_found("coco", folder, f"annotations/{path.name}", TREE)
    places = [folder / f"{split}2017", folder / "images" / f"{split}2017"]
    pictures = next((place for place in places if place.is_dir()), None)
    if pictures is None:
        raise not_found("coco", folder, f"{split}2017", TREE)
    content = read_coco_json(path, pictures, root=folder, outlines=outlines, labels=labels)
    _check_categories(path, content.categories)
    return content


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
