"""Folders of pictures and of labels that belong together by the names in them, whatever the folders are called."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mnv2_tasks.data.layouts.layout import SplitFiles
from mnv2_tasks.data.layouts.splits import WHOLE, is_split
from mnv2_tasks.data.reading.folders import PICTURES, files_below, folders, stem

PROBED = 20  # label files whose pictures are looked for one by one
DEEPEST = 6  # folders within each other that are looked into


class FolderPair(NamedTuple):
    images: Path
    labels: Path
    both: bool = False  # see `SplitFiles`


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
    partners = {folder: _partner(root, folder, stems, pictures) for folder, stems in labels.items()}
    pairs = [FolderPair(images, folder) for folder, images in partners.items() if images is not None]
    pairs = [more for pair in pairs for more in _of_splits(root, pair, pairs, pictures, labels, wanted)]
    by_split: dict[str, list[FolderPair]] = {}
    for pair in pairs:
        by_split.setdefault(_split(root, pair.labels, pair.images, wanted), []).append(pair)
    found: dict[str, SplitFiles] = {}
    for split, those in by_split.items():
        if (
            whole := _around(those, [pair for name, other in by_split.items() if name != split for pair in other])
        ) is None:
            found |= {folder.relative_to(root).as_posix(): SplitFiles(images, folder) for images, folder, _ in those}
        else:
            found[split] = whole
    return found


def _of_splits(
    root: Path,
    pair: FolderPair,
    pairs: list[FolderPair],
    pictures: Stems,
    labels: Stems,
    wanted: tuple[str, ...],
) -> list[FolderPair]:
    """A pair; or one for each split, where only the pictures, or only the labels, lie in folders of splits."""
    images, folder, _ = pair
    if _split(root, folder, folder, wanted) == WHOLE:
        parts = [
            place
            for place, names in pictures.items()
            if _split(root, place, place, wanted) != WHOLE
            and all(place != other for other, _, _ in pairs if other != images)
            and 2 * len(names & labels[folder]) >= len(names)
        ]
        return [FolderPair(place, folder, both=True) for place in parts] if len(parts) > 1 else [pair]
    shared = sum(other == images for other, _, _ in pairs) > 1 and _split(root, images, images, wanted) == WHOLE
    return [pair._replace(both=True)] if shared else [pair]


def fits(part: SplitFiles, ending: str) -> bool:
    """Whether a picture of these two folders has a label file: `images/train` has none in a `labels` without splits."""

    def labels() -> Iterator[str]:
        return (file for file in files_below(part.labels) if file.lower().endswith(ending))

    for file in itertools.islice(labels(), PROBED):  # the first has its picture, as a rule
        beside = os.path.join(part.images, os.path.splitext(os.path.relpath(file, part.labels))[0])
        if any(os.path.isfile(beside + end) for usual in PICTURES for end in (usual, usual.upper())):
            return True
    names = {stem(file, part.images) for file in files_below(part.images) if file.lower().endswith(PICTURES)}
    return any(stem(file, part.labels) in names for file in labels())


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


def _around(pairs: list[FolderPair], others: list[FolderPair]) -> SplitFiles | None:
    """The two folders that hold all pairs of a split and nothing else; None where there are none."""
    if len(pairs) == 1:
        return SplitFiles(pairs[0].images, pairs[0].labels, both=pairs[0].both)
    images = Path(os.path.commonpath([pair.images for pair in pairs]))
    labels = Path(os.path.commonpath([pair.labels for pair in pairs]))
    mirrored = all(place.relative_to(images) == label.relative_to(labels) for place, label, _ in pairs)
    strange = any(place.is_relative_to(images) or label.is_relative_to(labels) for place, label, _ in others)
    return SplitFiles(images, labels) if mirrored and not strange else None
