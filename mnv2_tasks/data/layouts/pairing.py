"""Folders of pictures and of labels that belong together by the names in them, whatever the folders are called."""

import os
from collections.abc import Callable
from pathlib import Path

from mnv2_tasks.data.layouts.layout import SplitFiles
from mnv2_tasks.data.layouts.splits import WHOLE, is_split
from mnv2_tasks.data.reading.folders import PICTURES, folders

DEEPEST = 6  # folders within each other that are looked into

Stems = dict[Path, set[str]]  # folder -> names without ending of the files directly in it


def paired_by_content(
    root: Path, ending: str, wanted: tuple[str, ...], is_label: Callable[[Path], bool] = lambda file: True
) -> dict[str, SplitFiles]:
    """The splits of any folders of pictures that have label files of equal names, beside them or in other folders.

    Args:
        ending: of label files, in lower case.
        is_label: whether a file of that ending holds labels; asked of each until one does.
    """
    pictures, labels = _stems(root, ending, is_label)
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    for folder, stems in labels.items():
        if (partner := _partner(root, folder, stems, pictures)) is not None:
            pairs.setdefault(_split(root, folder, partner, wanted), []).append((partner, folder))
    found: dict[str, SplitFiles] = {}
    for split, those in pairs.items():
        if (both := _around(those, [pair for name, other in pairs.items() if name != split for pair in other])) is None:
            found |= {folder.relative_to(root).as_posix(): SplitFiles(images, folder) for images, folder in those}
        else:
            found[split] = both
    return found


def _stems(root: Path, ending: str, is_label: Callable[[Path], bool]) -> tuple[Stems, Stems]:
    pictures, labels = {}, {}
    waiting, seen = [(root, 0)], set()
    while waiting:
        folder, depth = waiting.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            split = [os.path.splitext(entry.name) for entry in entries if not entry.name.startswith(".")]
        if stems := {stem for stem, end in split if end.lower() in PICTURES}:
            pictures[folder] = stems
        named = sorted(stem + end for stem, end in split if end.lower() == ending)
        if any(is_label(folder / name) for name in named):
            labels[folder] = {os.path.splitext(name)[0] for name in named}
        if depth < DEEPEST:
            waiting += [(inside, depth + 1) for inside in folders(folder)]
    return pictures, labels


def _partner(root: Path, folder: Path, stems: set[str], pictures: Stems) -> Path | None:
    """Of folders with about as many equal names the nearest: every split may number its pictures from 1."""
    equal = {place: len(stems & names) for place, names in pictures.items()}
    most = max(equal.values(), default=0)
    if not most:
        return None
    ours = folder.relative_to(root).parts

    def near(place: Path) -> tuple[bool, int, int]:
        theirs = place.relative_to(root).parts
        return place == folder, len(set(ours) & set(theirs)), equal[place]

    return max(sorted(place for place, number in equal.items() if 2 * number >= most), key=near)


def _split(root: Path, labels: Path, pictures: Path, wanted: tuple[str, ...]) -> str:
    parts = (*labels.relative_to(root).parts, *pictures.relative_to(root).parts)
    return next((part for part in parts if is_split(part, wanted)), WHOLE)


def _around(pairs: list[tuple[Path, Path]], others: list[tuple[Path, Path]]) -> SplitFiles | None:
    """The two folders that hold all pairs of a split and nothing else; None where there are none."""
    images, labels = (Path(os.path.commonpath(places)) for places in zip(*pairs))
    mirrored = all(place.relative_to(images) == label.relative_to(labels) for place, label in pairs)
    strange = any(place.is_relative_to(images) or label.is_relative_to(labels) for place, label in others)
    return SplitFiles(images, labels) if len(pairs) == 1 or mirrored and not strange else None
