"""A user's own data, recognised by its layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mnv2_tasks.data.layouts.class_file import class_list
from mnv2_tasks.data.layouts.coco import COCO_FOLDER, broken_files
from mnv2_tasks.data.layouts.image_folder import IMAGE_FOLDER
from mnv2_tasks.data.layouts.layout import Layout, SplitFiles
from mnv2_tasks.data.layouts.masks import MASK_FOLDER
from mnv2_tasks.data.layouts.splits import WHOLE, Chosen, choose_splits, hold_out, plain
from mnv2_tasks.data.layouts.voc import VOC_FOLDER
from mnv2_tasks.data.layouts.yolo import YOLO
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.folders import folders
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data.reading.root import data_root, listing
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import counted

FORMATS = (IMAGE_FOLDER, COCO_FOLDER, VOC_FOLDER, YOLO, MASK_FOLDER)
TASK_OF_KIND = {"classification": "classification", "detection": "ssdlite", "segmentation": "mobile_deeplabv3"}
CROWD = ("ignore", "train")
SEARCHED = 20  # folders below the root that are tried when the root itself holds no layout


def folder(
    *, root: str | None, kind: str, on_bad: str, train: str | None, val: str | None, crowd: str = "ignore"
) -> FileSource:
    """The data in `root`, for a task of this kind.

    Args:
        train: the data's own name of the split to train on; None: train, or all there is.
        val: likewise; None: val, valid, validation, dev, eval or test, in this order, or every fifth image of
            train.
        crowd: "ignore": boxes of a crowd, and difficult ones, are neither trained on nor scored; "train": as any other.

    Raises:
        ConfigError: no layout of this kind is recognised, or several; a split is not there; classes do not agree.
    """
    if crowd not in CROWD:
        raise ConfigError(f"data.crowd={crowd}: expected {' or '.join(CROWD)}")
    path = _described(root) or data_root(root, "folder")
    train, val = (None if name is None else str(name) for name in (train, val))
    found, parts = recognise(path, kind, tuple(name for name in (train, val) if name is not None))
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
        around = path.parent if path.is_file() else path
        return hold_out(records, problems, split, around) if chosen.val is None else (records, problems)

    classes = counted(len(opened.class_names), "class")
    return FileSource(
        kind=kind,
        class_names=opened.class_names,
        read=read,
        found=", ".join([found.title, classes, *opened.notes, *_told(chosen)]),
        on_bad=on_bad,
        category_ids=opened.category_ids,
    )


def recognise(root: Path, kind: str, wanted: tuple[str, ...] = ()) -> tuple[Layout, dict[str, SplitFiles]]:
    """The layout below `root` that serves this kind of task, and its splits.

    Args:
        wanted: names of splits that the user gave, beyond the usual ones.

    Raises:
        ConfigError: there is none, or more than one; it says what is there.
    """
    if root.is_file():
        return _of_file(root, kind, wanted)
    found = [(layout, parts) for layout in FORMATS if (parts := layout.find(root, wanted))]
    if not any(layout.kind == kind for layout, _ in found) and not _deeper(root, kind):
        found += [
            (layout, parts) for layout in FORMATS if layout.kind == kind and (parts := layout.search(root, wanted))
        ]
    fitting = [(layout, parts) for layout, parts in found if layout.kind == kind]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        titles = " and ".join(layout.title for layout, _ in fitting)
        raise ConfigError(
            f"data=folder: {root} holds {titles}; which is meant? Keep one of them there\n  found: {listing(root)}"
        )
    if found:
        layout, parts = found[0]
        names = ", ".join(name for name in parts if name != WHOLE)
        splits = f" (splits {names})" if names else ""
        raise ConfigError(
            f"data=folder: {root} holds {layout.title}{splits}, which is data for {layout.kind}, and this task is "
            f"{kind}: use task={TASK_OF_KIND[layout.kind]}, or a data.root in one of these layouts\n{_layouts(kind)}"
        )
    raise ConfigError(
        f"data=folder: {root} is in none of the layouts for {kind} that are recognised:\n{_layouts(kind)}\n"
        f"  found there: {listing(root)}{_deeper(root, kind)}{_broken(root, kind)}"
    )


def _described(root: str | None) -> Path | None:
    """A file that describes a data set, in place of its folder."""
    path = Path(root).expanduser() if root else None
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
    raise ConfigError(f"data.root={file}: describes no data for {kind}; data.root=<folder>\n{_layouts(kind)}")


def _layouts(kind: str) -> str:
    shown = []
    for layout in FORMATS:
        if layout.kind == kind:
            lines = "\n".join(f"      {line}" for line in layout.tree.strip().splitlines())
            shown.append(f"    {layout.title}\n{lines}")
    return "\n".join(shown)


def _broken(root: Path, kind: str) -> str:
    """Files that would be annotations, and why they are none."""
    return "".join(f"\n  {reason}" for reason in broken_files(root)) if kind == "detection" else ""


def _deeper(root: Path, kind: str) -> str:
    """Archives often hold one folder around the data."""
    for inside in folders(root)[:SEARCHED]:
        for layout in FORMATS:
            parts = layout.find(inside, ()) if layout.kind == kind else {}
            if any(part.images != inside for part in parts.values()):  # else `search` reads it from here
                return f"\n  {inside} holds {layout.title}: data.root={inside}"
    return ""


def _told(chosen: Chosen) -> list[str]:
    """What people should know of the choice of splits; the usual one needs no words."""
    if chosen.val is None:
        return ["no val split: every fifth image, by a hash of its name, validates"]
    if chosen.train is None:
        return [f"{chosen.val} validates, nothing to train on"]
    train = [] if plain(chosen.train) == "train" else [f"{chosen.train} trains"]
    return train + ([] if plain(chosen.val) == "val" else [f"{chosen.val} validates"])
