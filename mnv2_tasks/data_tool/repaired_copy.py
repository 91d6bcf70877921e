"""A copy of a data set without what is bad, in a layout that data=folder reads. The original stays as it is."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnv2_tasks.data.class_lists import imagenet_names, imagenet_wnids
from mnv2_tasks.data.images.mask_values import INDICES
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.problems import box_problems
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data_tool.examine import Examination, Split, mask_of
from mnv2_tasks.drawing.picture_files import write_mask
from mnv2_tasks.errors import DataError
from mnv2_tasks.whole_files import made_whole, write_text

FORBIDDEN = r'^\.|[<>:"/\\|?*]|\.$'  # in a file's name, on Windows; and what hides a folder, or leads out of it
INSIDE = 0.5  # share of a box that must lie in the image for the rest to be cut off; else the box is dropped


def write_repaired(found: Examination, folder: Path) -> list[str]:
    """Write `folder`, and say for each split what was left out.

    Bad images, boxes without a remedy and repeated boxes are left out, boxes that reach out of their image are cut,
    and of images in both splits val keeps its own. Pictures are hard links where the disk allows it, else copies.

    Raises:
        DataError: nothing of a split is left.
    """
    write = {"detection": _write_coco, "segmentation": _write_masks, "classification": _write_folders}
    lines = []
    with made_whole(folder) as copy:
        for split in found.splits:
            records, sizes = _cured(split, found.source.class_names, found.source.kind)
            if not len(records):
                raise DataError(f"{split.name}: no image is without problems, so there is nothing to copy")
            write[found.source.kind](found.source, split.name, records, sizes, copy)
            lost, boxes = len(split.records) - len(records), len(split.records.boxes) - len(records.boxes)
            lines.append(f"{split.name}: {len(records):,} images copied, {lost:,} images and {boxes:,} boxes left out")
    return lines


def _cured(split: Split, class_names: Sequence[str], kind: str) -> tuple[Records, np.ndarray]:
    """What is left of a split, and the sizes (n, 2) of its images."""
    records = split.records
    images, boxes = np.ones(len(records), bool), np.ones(len(records.boxes), bool)
    images[[p.image for p in split.problems if p.image is not None and p.box is None]] = False
    boxes[[p.box for p in split.duplicates if p.box is not None]] = False
    if kind == "detection":
        limit = np.tile(split.sizes[records.image_of_box()][:, ::-1], 2).astype(float)
        cut = records.boxes.clip(0, limit)
        whole, left = _areas(records.boxes), _areas(cut)
        boxes &= left >= INSIDE * whole  # False for NaN too
        areas = np.where(left < whole, np.minimum(records.areas, left), records.areas)
        records = replace(records, boxes=cut, areas=areas)
        faults = box_problems(records, class_names, split.sizes)
        boxes[[p.box for p in faults if p.box is not None]] = False
    return records.keep(images, boxes), split.sizes[images]


def _areas(boxes: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _write_coco(source: FileSource, split: str, records: Records, sizes: np.ndarray, folder: Path) -> None:
    names = _names(records)
    for file, name in zip(records.files, names):
        _link(file, folder / "images" / split / name)
    images = [
        {"id": number, "file_name": name, "height": height, "width": width}
        for number, name, (height, width) in zip(records.ids.tolist(), names, sizes.tolist())
    ]
    rows = zip(
        records.ids[records.image_of_box()].tolist(),
        records.box_labels.tolist(),
        records.boxes.tolist(),
        records.areas.tolist(),
        records.crowd.tolist(),
    )
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": source.category_ids[label],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, (image, label, (x0, y0, x1, y1), area, crowd) in enumerate(rows, start=1)
    ]
    categories = [{"id": i, "name": name} for i, name in zip(source.category_ids, source.class_names)]
    path = folder / "annotations" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _write_masks(source: FileSource, split: str, records: Records, sizes: np.ndarray, folder: Path) -> None:
    (folder / "masks" / split).mkdir(parents=True)
    write_text(folder / "classes.txt", "\n".join(source.class_names) + "\n")
    for index, name in enumerate(_names(records)):
        _link(records.files[index], folder / "images" / split / name)
        mask = (folder / "masks" / split / name).with_suffix(".png")
        if len(records.masks) and records.masks[index].endswith(".png") and source.values == INDICES:
            _link(records.masks[index], mask)
        else:
            write_mask(mask, mask_of(source, records, index))


def _write_folders(source: FileSource, split: str, records: Records, sizes: np.ndarray, folder: Path) -> None:
    # ImageNet's own folder names: their order is that of the labels, and data=imagenet reads them too
    imagenet = source.class_names == imagenet_names()
    folders = imagenet_wnids() if imagenet else _folder_names(source.class_names)
    for name in folders:  # classes without images too: the folders are the class list
        (folder / split / name).mkdir(parents=True, exist_ok=True)
    for file, label, name in zip(records.files, records.labels.tolist(), _names(records)):
        _link(file, folder / split / folders[label] / name)


def _folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder for each class, in its order, on disks of any system."""
    names = [re.sub(FORBIDDEN, "-", name) for name in class_names]
    names = [name if name.strip(".") else f"class {name}" for name in names]  # `.` and `..` are folders already
    if len({name.lower() for name in names}) == len(names):
        return names
    return [f"{number:04d}_{name}" for number, name in enumerate(names)]


def _names(records: Records) -> list[str]:
    """A name for each picture; where two would differ in nothing but their ending or case, all are numbered."""
    paths = [Path(file) for file in records.files]
    if len({path.stem.lower() for path in paths}) == len(paths):
        return [_in_utf8(path.name) for path in paths]
    return [f"{number:07d}_{_in_utf8(path.name)}" for number, path in enumerate(paths)]


def _in_utf8(name: str) -> str:
    """COCO's json names files as text: of a name that is none, each byte is taken for a letter of Western Europe."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


def _link(file: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(file), path)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, path)
