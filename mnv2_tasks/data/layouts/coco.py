"""COCO json: one annotation file for each split, wherever tools put it and its pictures."""

import itertools
import json
import mmap
import os
import re
from pathlib import Path

from mnv2_tasks.data.download.safe_names import path_within
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles
from mnv2_tasks.data.layouts.splits import WHOLE
from mnv2_tasks.data.reading.coco_json import CocoJson, read_coco_json
from mnv2_tasks.data.reading.folders import folders
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import counted, first_few

SECTIONS = (b'"images"', b'"annotations"', b'"categories"')
NO_SPLIT = ("", "instances", "annotations", "annotation", "coco", "labels", "result")  # words that name no split
FEW = 20  # a folder with more .json files has one for each image: another format
PROBED = 10  # pictures that are looked for


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    by_name: dict[str, list[Path]] = {}
    for folder in (root, *folders(root)):
        files = sorted(folder.glob("[!.]*.json"))
        for file in filter(_is_coco, files if len(files) <= FEW else []):
            by_name.setdefault(_split_name(file, root), []).append(file)
    return {
        name if len(files) == 1 else file.relative_to(root).as_posix(): SplitFiles(root, file)
        for name, files in by_name.items()
        for file in files
    }


def _is_coco(file: Path) -> bool:
    """By its bytes: to parse the annotations of COCO's training split takes half a minute."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(section) >= 0 for section in SECTIONS)


def _split_name(file: Path, root: Path) -> str:
    """annotations/instances_train2017.json -> train2017, valid/_annotations.coco.json -> valid"""
    words = [word for word in re.split(r"[._-]+", file.stem) if word.lower() not in NO_SPLIT]
    inside = file.parent != root and file.parent.name.lower() != "annotations"
    return "_".join(words) or (file.parent.name if inside else WHOLE)


def _open(root: Path, parts: dict[str, SplitFiles]) -> Opened:
    splits = {
        name: read_coco_json(part.labels, _pictures(part.labels, root, name), root=root, outlines=False)
        for name, part in parts.items()
    }
    first, *rest = splits
    categories = splits[first].categories
    for name in rest:
        _check_categories(parts[first].labels, categories, parts[name].labels, splits[name].categories)
    unused = _unused(list(splits.values()))
    notes = [f"{counted(len(unused), 'class')} without annotations: {first_few(unused)}"] if unused else []
    names, ids = list(categories.values()), list(categories)
    return Opened(names, lambda split: (splits[split].records, splits[split].problems), notes, ids)


def _pictures(file: Path, root: Path, split: str) -> Path:
    """The folder that the first `file_name`s of an annotation file start from."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = _file_names(content)
    beside, images = file.parent, root / "images"
    usual = [beside, beside / "images", images / split, root / split, root / split / "images", images, root]
    others = folders(root) + (folders(images) if images.is_dir() else [])
    places = [place for place in dict.fromkeys((*usual, *others)) if place.is_dir()]
    hits = {place: sum(_lies_there(root, place, name) for name in names) for place in places}
    best = max(places, key=lambda place: hits[place])  # the first of equals
    if not hits[best]:
        for name in names:
            path_within(root, beside, name, str(file))  # rather than lying nowhere, it may lead out of the root
        raise ConfigError(
            f"data=folder: {file}: its pictures, such as {first_few(names, 2)}, are in none of "
            + ", ".join(str(place) for place in places)
        )
    return best


def _file_names(content: mmap.mmap) -> list[str]:
    found = re.finditer(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.){0,4096}+")', content)
    return [name for match in itertools.islice(found, PROBED) if (name := _file_name(match[1])) is not None]


def _file_name(quoted: bytes) -> str | None:
    """None where it is broken, which the reader refuses by name."""
    try:
        return json.loads(quoted)
    except ValueError:
        return None


def _lies_there(root: Path, place: Path, name: str) -> bool:
    try:
        return os.path.isfile(path_within(root, place, name, ""))
    except DataError:
        return False


def _check_categories(train: Path, ours: dict[int, str], val: Path, theirs: dict[int, str]) -> None:
    if ours != theirs:
        here = [f"{number} {name}" for number, name in ours.items() if theirs.get(number) != name]
        there = [f"{number} {name}" for number, name in theirs.items() if ours.get(number) != name]
        raise ConfigError(
            f"the categories (id and name) of two splits differ: only {train} has {first_few(here) or 'none'}; "
            f"only {val} has {first_few(there) or 'none'}. Export both with one list of categories"
        )


def _unused(splits: list[CocoJson]) -> list[str]:
    """Classes without any annotation, such as the name of the data set that Roboflow puts first."""
    used = {int(label) for split in splits for label in split.records.box_labels}
    return [name for label, name in enumerate(splits[0].categories.values()) if label not in used]


COCO_FOLDER = Layout(
    title="COCO json",
    kind="detection",
    tree="""
annotations/{train,val}.json, annotations/instances_{train,val}*.json or <split>/_annotations.coco.json
images/, train/ and val/, images/train/ ...          or beside the .json
""",
    find=_find,
    open=_open,
)
