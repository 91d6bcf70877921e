"""Segmentation masks: for each picture an image of class indices with the same name."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.images.decode import read_mask
from mnv2_tasks.data.layouts.class_file import class_list
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles, paired_folders
from mnv2_tasks.data.layouts.splits import WHOLE, is_split
from mnv2_tasks.data.reading.folders import PICTURES, child, has, pictures_below, stem
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Recorder, Records
from mnv2_tasks.data.reading.text_files import listed_names
from mnv2_tasks.errors import ConfigError, DataError

IMAGES = ("images", "imgs", "img", "image")
MASKS = ("masks", "mask", "labels", "annotations")
SAMPLED = 50  # masks that are looked into where the class list is missing


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    for images in IMAGES:
        for masks in MASKS:
            parts = paired_folders(root, images, masks, wanted)
            if any(has(part.labels, PICTURES) for part in parts.values()):
                return parts
    return _find_voc(root, wanted)


def _find_voc(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    images, masks = child(root, "JPEGImages"), child(root, "SegmentationClass")
    if images is None or masks is None:
        return {}
    lists = sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
    return {f.stem: SplitFiles(images, masks, f) for f in lists if is_split(f.stem, wanted)} or {
        WHOLE: SplitFiles(images, masks)
    }


def _open(root: Path, parts: dict[str, SplitFiles]) -> Opened:
    masks = [file for part in parts.values() for file in pictures_below(part.labels)[0]]
    names = class_list([root])
    _refuse_black_and_white(root, masks)
    if names is None:
        values = _values(masks[:: max(len(masks) // SAMPLED, 1)])
        raise ConfigError(
            f"data=folder: {root} holds masks, but no class list; the masks hold the values {values} "
            f"({IGNORE} is no class). Write {root / 'classes.txt'} with one class name a line: the first names value 0"
        )
    return Opened(names, lambda split: _read(parts[split]))


def _refuse_black_and_white(root: Path, masks: Iterable[str]) -> None:
    """255 means "no class": such masks would train a network that knows nothing but background."""
    white = None
    for file in masks:
        try:
            values = np.unique(read_mask(Path(file))).tolist()
        except DataError:
            continue  # reported with all others that are bad
        if not set(values) <= {0, IGNORE}:
            return
        white = white or (file if IGNORE in values else None)
    if white:
        raise ConfigError(
            f"data=folder: {root}: looks like binary masks stored as 0/255 (such as {white}): no mask holds another "
            f"value. {IGNORE} marks pixels without a class here: save the object's pixels as 1 and write classes.txt "
            f"with the lines `background` and the object's name"
        )


def _values(masks: list[str]) -> list[int]:
    found, unread = set(), None
    for file in masks:
        try:
            found |= set(np.unique(read_mask(Path(file))).tolist())
        except DataError as error:
            unread = error
    if unread and not found:
        raise ConfigError(str(unread))
    return sorted(found)


def _read(part: SplitFiles) -> tuple[Records, list[Problem]]:
    """A picture without its mask, or a mask without its picture, is a missing file, which verification reports."""
    pictures = {stem(file, part.images): file for file in pictures_below(part.images)[0]}
    masks = {stem(file, part.labels): file for file in pictures_below(part.labels)[0]}
    recorder = Recorder()
    for name in sorted(pictures.keys() | masks.keys()) if part.listed is None else listed_names(part.listed):
        picture = pictures.get(name, str(part.images / f"{name}.*"))
        recorder.image(picture, mask=masks.get(name, str(part.labels / f"{name}.png")))
    return recorder.records(), []


MASK_FOLDER = Layout(
    title="masks",
    kind="segmentation",
    tree="""
classes.txt                a class name a line: line i, counted from 0, is mask value i; 255 is no class
images/train/*.jpg         masks/train/*.png         class indices or palette, names equal to the images'
images/val/*.jpg           masks/val/*.png           or train/images/, train/masks/ ...
or as VOC has it: JPEGImages/ SegmentationClass/ ImageSets/Segmentation/{train,val}.txt
""",
    find=_find,
    open=_open,
)
