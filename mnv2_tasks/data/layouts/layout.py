"""What the layouts that `data=folder` recognises have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mnv2_tasks.data.images.mask_values import INDICES, MaskValues
from mnv2_tasks.data.layouts.splits import WHOLE, is_split
from mnv2_tasks.data.reading.folders import child, folders, within_double
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records


class SplitFiles(NamedTuple):
    """Where the files of one split lie."""

    images: Path
    labels: Path  # a folder, or the one file that holds all annotations
    listed: Path | None = None  # a text file with the names of the split's images; None: all that lie there
    both: bool = False  # only images and labels that have each other: those beside them are another split's
    places: tuple[Path, ...] = ()  # folders and lists of images that a description names, in place of `images`
    also: tuple["SplitFiles", ...] = ()  # further places of the same split


@dataclass(frozen=True)
class Opened:
    """A user's data, understood."""

    class_names: list[str]
    read: Callable[[str], tuple[Records, list[Problem]]]  # by the data's own name of a split
    notes: list[str] = field(default_factory=list)  # what people should know of how it was understood
    category_ids: list[int] | None = None
    values: MaskValues = INDICES  # of segmentation: what masks, or the labels of outlines, say
    later_on_top: bool = False  # of outlines: see FileSource


@dataclass(frozen=True)
class Layout:
    """One layout.

    Args:
        title: for people, such as "YOLO txt".
        kind: of the tasks that it serves.
        tree: its layout below the root, for people.
        find: the root, and names of splits that the user gave -> the splits there, or nothing if this is another
            layout. It is quick, and never refuses.
        search: the same by what files hold, whatever folders are called; asked where no layout is found by its names.
        files: endings of files that describe such data, which may stand for the root.
        open: the root and the chosen splits, that to train on first -> the data. It refuses what it cannot understand.
    """

    title: str
    kind: str
    tree: str
    find: Callable[[Path, tuple[str, ...]], dict[str, SplitFiles]]
    open: Callable[[Path, dict[str, SplitFiles]], Opened]
    search: Callable[[Path, tuple[str, ...]], dict[str, SplitFiles]] = lambda root, wanted: {}
    files: tuple[str, ...] = ()


def paired_folders(root: Path, images: str, labels: str, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    """`images/<split>` + `labels/<split>`, `<split>/images` + `<split>/labels`, or unsplit `images` + `labels`."""
    image_folder, label_folder = child(root, images), child(root, labels)
    if image_folder and label_folder:
        names = [folder.name for folder in folders(image_folder) if is_split(folder.name, wanted)]
        parts = {name: SplitFiles(image_folder / name, label_folder / name) for name in names}
        return {name: part for name, part in parts.items() if part.labels.is_dir()} or {
            WHOLE: SplitFiles(image_folder, label_folder)
        }
    return {
        folder.name: SplitFiles(inside, beside)
        for folder in map(within_double, folders(root))
        if is_split(folder.name, wanted) and (inside := child(folder, images)) and (beside := child(folder, labels))
    }
