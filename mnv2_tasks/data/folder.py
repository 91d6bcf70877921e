"""A user's own data, recognised by its layout."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnv2_tasks.data.images.mask_values import MaskValues
from mnv2_tasks.data.layouts.class_file import class_list
from mnv2_tasks.data.layouts.coco import COCO_FOLDER, COCO_OUTLINES, broken_files
from mnv2_tasks.data.layouts.image_folder import IMAGE_FOLDER
from mnv2_tasks.data.layouts.layout import Layout, SplitFiles
from mnv2_tasks.data.layouts.masks import mask_folder
from mnv2_tasks.data.layouts.other_tools import unread_note
from mnv2_tasks.data.layouts.own_split import own_split
from mnv2_tasks.data.layouts.splits import TEST, VAL, WHOLE, Chosen, choose_splits, hold_out, part_of, plain
from mnv2_tasks.data.layouts.voc import VOC_FOLDER
from mnv2_tasks.data.layouts.void import Ignored, without_ignored
from mnv2_tasks.data.layouts.yolo import YOLO, YOLO_OUTLINES
from mnv2_tasks.data.reading.class_names import alike
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.folders import PICTURES, files_below, folders, has
from mnv2_tasks.data.reading.mask_classes import mask_classes
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data.reading.root import data_root, listing
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import counted, first_few

# and masks, of which the user can say more
FORMATS = (IMAGE_FOLDER, COCO_FOLDER, COCO_OUTLINES, VOC_FOLDER, YOLO, YOLO_OUTLINES)
TASK_OF_KIND = {"classification": "classification", "detection": "ssdlite", "segmentation": "mobile_deeplabv3"}
CROWD = ("ignore", "train")
SEARCHED = 20  # folders below the root that are tried when the root itself holds no layout


def folder(
    *,
    root: str | None,
    kind: str,
    on_bad: str,
    train: str | None,
    val: str | None,
    images: str | None = None,
    masks: str | None = None,
    ignore: Ignored = (),
    colours: str | None = None,
    binary: bool = False,
    crowd: str = "ignore",
    split_seed: int | None = None,
) -> FileSource:
    """The data in `root`, for a task of this kind.

    Args:
        train: the data's own name of the split to train on; None: train, or all there is.
        val: likewise; None: val, valid, validation, dev, eval or test, in this order, or a fifth of train.
        crowd: "ignore": boxes of a crowd, and difficult ones, are neither trained on nor scored; "train": as any other.
        images, masks, colours, binary: of segmentation, see `mask_folder`.
        split_seed: of data without a split to validate on, see `own_split`; None: as before 0.2, see `hold_out`.
        ignore: of segmentation: mask values, or names of classes, that are no class; None: classes called void.

    Raises:
        ConfigError: no layout of this kind is recognised, or several; a split is not there; classes do not agree.
    """
    if crowd not in CROWD:
        raise ConfigError(f"data.crowd={crowd}: expected {' or '.join(CROWD)}")
    if split_seed is not None and split_seed < 0:
        raise ConfigError(f"data.split_seed={split_seed}: expected at least 0")
    _check_serves(kind, images=images, masks=masks, ignore=ignore, colours=colours, binary=binary)
    path = _described(root) or data_root(root, "folder")
    formats = (*FORMATS, mask_folder(images=images, masks=masks, colours=colours, binary=binary))
    train, val = (None if name is None else str(name) for name in (train, val))
    wanted = tuple(name for name in (train, val) if name is not None)
    if images is not None or masks is not None:
        formats = formats[-1:]  # the user says what the data are
    found, parts = recognise(path, kind, wanted, formats)
    if found is not formats[-1] and (said := "colours" if colours is not None else "binary" if binary else None):
        raise ConfigError(f"data.{said}: is for masks in files, and {path} holds {found.title}")
    chosen = choose_splits(parts, train, val)
    opened = found.open(path, {name: parts[name] for name in chosen if name is not None})

    def read(split: str) -> tuple[Records, list[Problem]]:
        name = chosen.val if split == "val" and chosen.val is not None else chosen.train
        if name is None:
            raise ConfigError(
                f"data=folder: {path} has no split to train on, only {', '.join(sorted(parts))}; data.train=<name>"
                f"{_broken(path, kind)}"
            )
        records, problems = opened.read(name)
        if crowd == "train":
            records = replace(records, crowd=np.zeros_like(records.crowd))
        if chosen.val is not None:
            return records, problems
        around = path.parent if path.is_file() else path
        if split_seed is None:
            return hold_out(records, problems, split, around)
        if not validating:
            validating.append(own_split(records, _classes_held(kind, records, values, len(names)), around, split_seed))
        return part_of(records, problems, validating[0] if split == "val" else ~validating[0])

    validating: list[np.ndarray] = []  # once it is known
    names, values, notes = opened.class_names, opened.values, []
    if kind == "segmentation":
        names, values, notes = without_ignored(names, values, ignore)
    classes = counted(len(names), "class")
    notes += _val_left_out(path, kind) if chosen.val is None and path.is_dir() else []
    notes += [f"classes that differ in case or spaces alone: {first_few(same)}"] if (same := alike(names)) else []
    return FileSource(
        kind=kind,
        class_names=names,
        read=read,
        found=", ".join([found.title, classes, *opened.notes, *notes, *_told(chosen, split_seed)]),
        on_bad=on_bad,
        category_ids=opened.category_ids,
        values=values,
        later_on_top=opened.later_on_top,
    )


def _check_serves(kind: str, **said: Any) -> None:
    """Refuse what only masks have, where there are none: it would do nothing."""
    given = [name for name, value in said.items() if value not in (None, [], (), False)]
    if given and kind != "segmentation":
        raise ConfigError(f"data.{given[0]}={said[given[0]]}: is for masks, and this task is {kind}")


def recognise(
    root: Path, kind: str, wanted: tuple[str, ...] = (), formats: Sequence[Layout] = (*FORMATS, mask_folder())
) -> tuple[Layout, dict[str, SplitFiles]]:
    """The layout below `root` that serves this kind of task, and its splits.

    Args:
        wanted: names of splits that the user gave, beyond the usual ones.
        formats: layouts that are tried.

    Raises:
        ConfigError: there is none, or more than one; it says what is there.
    """
    if root.is_file():
        return _of_file(root, kind, wanted)
    ours = [layout for layout in formats if layout.kind == kind]
    fitting = [(layout, parts) for layout in ours if (parts := layout.find(root, wanted))]
    if not fitting and not _deeper(root, kind, ours):
        fitting = [(layout, parts) for layout in ours if (parts := layout.search(root, wanted))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        titles = " and ".join(layout.title for layout, _ in fitting)
        raise ConfigError(
            f"data=folder: {root} holds {titles}; which is meant? Keep one of them there\n  found: {listing(root)}"
        )
    others = [(layout, parts) for layout in formats if layout.kind != kind and (parts := layout.find(root, wanted))]
    if others:
        layout, parts = others[0]
        names = ", ".join(name for name in parts if name != WHOLE)
        splits = f" (splits {names})" if names else ""
        raise ConfigError(
            f"data=folder: {root} holds {layout.title}{splits}, which is data for {layout.kind}, and this task is "
            f"{kind}: use task={TASK_OF_KIND[layout.kind]}, or a data.root in one of these layouts\n"
            f"{_layouts(kind, formats)}"
        )
    raise ConfigError(
        f"data=folder: {root} is in none of the layouts for {kind} that are recognised:\n{_layouts(kind, formats)}\n"
        f"  found there: {listing(root)}{_deeper(root, kind, formats)}{_broken(root, kind)}{unread_note(root)}"
    )


def _described(root: str | None) -> Path | None:
    """A file that describes a data set, in place of its folder."""
    path = Path(os.path.expanduser(root)) if root else None
    endings = tuple(ending for layout in FORMATS for ending in layout.files)
    return path if path is not None and path.is_file() and path.name.lower().endswith(endings) else None


def _of_file(file: Path, kind: str, wanted: tuple[str, ...]) -> tuple[Layout, dict[str, SplitFiles]]:
    for layout in FORMATS:
        if layout.kind == kind and file.name.lower().endswith(layout.files or ("\0",)):
            if parts := layout.find(file, wanted):
                return layout, parts
            class_list([file])  # which says what is wrong with it
            raise ConfigError(
                f"data.root={file}: names no split to train on or to validate on, such as `train: images/train`"
            )
    raise ConfigError(f"data.root={file}: describes no data for {kind}; data.root=<folder>\n{_layouts(kind, FORMATS)}")


def _layouts(kind: str, formats: Sequence[Layout]) -> str:
    shown = []
    for layout in formats:
        if layout.kind == kind:
            lines = "\n".join(f"      {line}" for line in layout.tree.strip().splitlines())
            shown.append(f"    {layout.title}\n{lines}")
    return "\n".join(shown)


def _broken(root: Path, kind: str) -> str:
    """Files that would be annotations, and why they are none."""
    return "".join(f"\n  {reason}" for reason in broken_files(root)) if kind == "detection" else ""


def _deeper(root: Path, kind: str, formats: Sequence[Layout]) -> str:
    """Archives often hold one folder around the data."""
    for inside in folders(root)[:SEARCHED]:
        for layout in formats:
            parts = layout.find(inside, ()) if layout.kind == kind else {}
            searched = kind == "detection" and all(part.images == inside for part in parts.values())  # from here
            if parts and not searched:
                return f"\n  {inside} holds {layout.title}: data.root={inside}"
    return ""


def _classes_held(kind: str, records: Records, values: MaskValues, num_classes: int) -> np.ndarray:
    """(m, 2) int64 index of an image and a class that it holds."""
    if kind == "classification":
        return np.column_stack([np.arange(len(records)), records.labels])
    if len(records.masks):
        return mask_classes(list(records.masks), values, num_classes)
    return np.column_stack([records.image_of_box(), records.box_labels])[~records.crowd]


def _val_left_out(root: Path, kind: str) -> list[str]:
    """What people should know of folders to validate on that are none of a layout's."""
    places = folders(root)
    if kind != "classification":  # whose inner folders are classes
        places += [inside for place in places for inside in folders(place)]
    places = [place for place in places if plain(place.name) in VAL and plain(place.name) not in TEST]
    full = [place.relative_to(root).as_posix() for place in places if has(place, PICTURES)]
    empty = [place.relative_to(root).as_posix() for place in places if next(files_below(place), None) is None]
    unlabelled = [f"{first_few(full)} left out: its images have no annotations where they are looked for"]
    return [
        *(unlabelled if full and kind != "classification" else []),  # whose layout tells of loose images itself
        *([f"{first_few(empty)} left out: empty"] if empty else []),
    ]


def _told(chosen: Chosen, split_seed: int | None) -> list[str]:
    """What people should know of the choice of splits; the usual one needs no words."""
    if chosen.val is None and split_seed is not None:
        return [f"no val split: a fifth of each class validates, at random (data.split_seed={split_seed})"]
    if chosen.val is None:
        return ["no val split: every fifth image, by a hash of its name, validates"]
    if chosen.train is None:
        return [f"{chosen.val} validates, nothing to train on"]
    train = [] if plain(chosen.train) == "train" else [f"{chosen.train} trains"]
    return train + ([] if plain(chosen.val) == "val" else [f"{chosen.val} validates"])
