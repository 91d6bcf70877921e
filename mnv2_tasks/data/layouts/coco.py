"""COCO json: one annotation file for each split, wherever tools put it and its pictures."""

import itertools
import json
import mmap
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mnv2_tasks.data.download.safe_names import path_within
from mnv2_tasks.data.layouts.background import relabelled, with_background
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles
from mnv2_tasks.data.layouts.splits import WHOLE, is_split, role
from mnv2_tasks.data.layouts.strays import Strays
from mnv2_tasks.data.reading.coco_json import NO_JSON, SECTIONS, CocoJson, parse, read_coco_json
from mnv2_tasks.data.reading.folders import files_in, folders
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import counted, first_few

NO_SPLIT = ("", "instances", "annotations", "annotation", "coco", "labels", "result")  # words that name no split
OUTLINE = rb'"segmentation"\s*:\s*(\[\s*[\[\d]|\{)'  # polygons or run lengths
FEW = 20  # a folder with more .json files has one for each image: another format
PROBED = 10  # pictures that are looked for


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    by_name: dict[str, list[Path]] = {}
    files = _json_files(root)
    if not any(map(_is_coco, files)):
        return {}
    for file in files:
        name = _split_name(file, root)
        if _is_coco(file) or (is_split(name, wanted) and why_no_coco(file)):  # which says why, once it is opened
            by_name.setdefault(name, []).append(file)
    return {
        name if len(files) == 1 else file.relative_to(root).as_posix(): SplitFiles(root, file)
        for name, files in by_name.items()
        for file in files
    }


def _json_files(root: Path) -> list[Path]:
    found = [files_in(folder, ".json") for folder in (root, *folders(root))]
    return [file for files in found if len(files) <= FEW for file in files]


def broken_files(root: Path) -> list[str]:
    """Why each file that is no JSON, or by its name would hold annotations in COCO's format, does not."""
    found = {file: why_no_coco(file) for file in _json_files(root)}
    return [
        reason
        for file, reason in found.items()
        if reason and (NO_JSON in reason or is_split(_split_name(file, root), ()) or _named_coco(file))
    ]


def _named_coco(file: Path) -> bool:
    words = re.split(r"[._-]+", file.stem.lower())
    return bool({"instances", "annotations", "coco"} & set(words)) or words == ["result"]


def why_no_coco(file: Path) -> str | None:
    """None where it is in COCO's format, or says nothing about boxes, such as a test split without annotations."""
    try:
        content = parse(file)
    except DataError as error:
        return str(error)
    missing = [section for section in SECTIONS if not isinstance(content.get(section), list)]
    if 0 < len(missing) < len(SECTIONS) and missing != ["annotations"]:
        return f"{file}: is not in COCO's format, it lacks the lists {missing}"
    return None


def _is_coco(file: Path) -> bool:
    """By its bytes: to parse the annotations of COCO's training split takes half a minute."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(f'"{section}"'.encode()) >= 0 for section in SECTIONS)


def _find_outlines(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    """Nothing where all annotations are boxes."""
    parts = _find(root, wanted)
    return parts if any(map(_has_outlines, {part.labels for part in parts.values()})) else {}


def _has_outlines(file: Path) -> bool:
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return re.search(OUTLINE, content) is not None


def _split_name(file: Path, root: Path) -> str:
    """annotations/instances_train2017.json -> train2017, valid/_annotations.coco.json -> valid"""
    words = [word for word in re.split(r"[._-]+", file.stem) if word.lower() not in NO_SPLIT]
    inside = file.parent != root and file.parent.name.lower() != "annotations"
    return "_".join(words) or (file.parent.name if inside else WHOLE)


def _open(root: Path, parts: dict[str, SplitFiles], *, outlines: bool = False) -> Opened:
    splits: dict[str, CocoJson] = {}
    strays, notes = Strays(root), []
    for name, part in parts.items():
        pictures = _pictures(part.labels, root, name, strays, notes)
        splits[name] = read_coco_json(part.labels, pictures, root=root, outlines=outlines, elsewhere=strays.find)
    first, *rest = splits
    categories = splits[first].categories
    for name in rest:
        splits[name] = _renumbered(parts[first].labels, categories, parts[name].labels, splits[name])
    unused = _unused(list(splits.values()))
    notes += [f"{counted(len(unused), 'class')} without annotations: {first_few(unused)}"] if unused else []
    notes += strays.notes()
    names, ids = list(categories.values()), list(categories)
    if outlines:
        names, value_of = with_background(names)
        drawn = {name: relabelled(split.records, value_of) for name, split in splits.items()}
        return Opened(names, lambda split: (drawn[split], splits[split].problems), notes, later_on_top=True)
    return Opened(names, lambda split: (splits[split].records, splits[split].problems), notes, ids)


def _pictures(file: Path, root: Path, split: str, strays: Strays, notes: list[str]) -> Path | None:
    """The folder that the first `file_name`s of an annotation file start from; None: they lie somewhere else each."""
    names = _file_names(file)
    beside, images = file.parent, root / "images"
    if not names:
        return beside  # the reader says what is wrong with the file
    usual = [beside, beside / "images", images / split, root / split, root / split / "images", images, root]
    others = folders(root) + (folders(images) if images.is_dir() else [])
    places = [place for place in dict.fromkeys((*usual, *others)) if place.is_dir()]
    hits = {place: number for place in places if (number := sum(_lies_there(root, place, name) for name in names))}
    if hits:
        return _split_place(file, root, role(split), hits, places, usual, notes)
    if not any(strays.lies_somewhere(name) for name in names):
        for name in names:
            path_within(root, beside, name, str(file))  # rather than lying nowhere, it may lead out of the root
        raise ConfigError(
            f"data=folder: {file}: its pictures, such as {first_few(names, 2)}, are in none of "
            + ", ".join(str(place) for place in places)
        )
    return None


def _split_place(
    file: Path,
    root: Path,
    ours: str | None,
    hits: dict[Path, int],
    places: list[Path],
    usual: list[Path],
    notes: list[str],
) -> Path:
    """Of the folders that hold pictures of these names, that of the split: each may number its pictures from 0."""
    of = {place: _role(place, root) for place in places}
    fitting = [place for place in hits if ours is None or of[place] in (ours, None)]
    strange = not fitting
    if strange and ours in of.values():
        ours_here = [str(place) for place in places if of[place] == ours]
        raise ConfigError(
            f"data=folder: {file}: its pictures are not in {first_few(ours_here)}, but in "
            f"{first_few(map(str, hits))}, another split's folder. Move the pictures, or rename the folder"
        )
    fitting = fitting or list(hits)
    most = max(hits[place] for place in fitting)
    rank = {place: (of[place] == ours and 2 * hits[place] >= most, hits[place]) for place in fitting}
    best = [place for place in fitting if rank[place] == max(rank.values())]
    if len(best) > 1 and best[0] not in usual:
        raise ConfigError(
            f"data=folder: {file}: pictures of its names lie in {first_few(map(str, best))}: which is meant? "
            f"Name that folder {root / 'images'}, or move the others out of {root}"
        )
    if strange:
        notes.append(f"pictures of {file.name} taken from {best[0].relative_to(root).as_posix()}")
    return best[0]


def _role(place: Path, root: Path) -> str | None:
    """Of the innermost folder that is called as a split is."""
    return next((said for part in reversed(place.relative_to(root).parts) if (said := role(part))), None)


def _file_names(file: Path) -> list[str]:
    """The first `PROBED`."""
    if not file.stat().st_size:
        return []
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _names_within(content)


def _names_within(content: mmap.mmap) -> list[str]:
    found = re.finditer(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.){0,4096}+")', content)
    return [name for match in itertools.islice(found, PROBED) if (name := _file_name(match[1])) is not None]


def _file_name(quoted: bytes) -> str | None:
    """None where it is broken, which the reader refuses by name."""
    try:
        return json.loads(quoted).replace("\\", "/")
    except ValueError:
        return None


def _lies_there(root: Path, place: Path, name: str) -> bool:
    try:
        return os.path.isfile(path_within(root, place, name, ""))
    except DataError:
        return False


def _renumbered(train: Path, ours: dict[int, str], val: Path, split: CocoJson) -> CocoJson:
    """A split with the labels of that to train on; categories that it lists and does not use do not matter."""
    if split.categories == ours:
        return split
    theirs = list(split.categories.items())
    used = dict(theirs[label] for label in np.unique(split.records.box_labels).tolist())
    if not used.items() <= ours.items():
        here = [f"{number} {name}" for number, name in ours.items() if split.categories.get(number) != name]
        there = [f"{number} {name}" for number, name in used.items() if ours.get(number) != name]
        raise ConfigError(
            f"the categories (id and name) of two splits differ: only {train} has {first_few(here) or 'none'}; "
            f"only {val} has {first_few(there)}. Export both with one list of categories"
        )
    label_of = {number: label for label, number in enumerate(ours)}
    labels = np.array([label_of.get(number, 0) for number, _ in theirs], np.int64)[split.records.box_labels]
    return split._replace(records=replace(split.records, box_labels=labels), categories=ours)


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
COCO_OUTLINES = Layout(
    title="COCO json with outlines",
    kind="segmentation",
    tree="""
the same files as for detection, whose annotations have polygons or run lengths (`segmentation`): later ones lie on top
of earlier ones, crowds (iscrowd 1) are no class, the rest is background
""",
    find=_find_outlines,
    open=partial(_open, outlines=True),
)
