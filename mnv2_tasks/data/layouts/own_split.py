"""The images that validate where the data has no split for it: a fifth of each class, with a seed."""

import hashlib
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from mnv2_tasks.data.images.file_bytes import content_of, size_of
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.errors import DataError

HELD_OUT = 5  # one image in so many


def own_split(records: Records, classes: np.ndarray, root: Path, seed: int) -> np.ndarray:
    """(n,) bool: the images that validate.

    Pictures of equal bytes are on one side. Of each class a fifth validates, at least one picture, and at least one
    trains, where it has two; the rarest classes come first, since a picture may hold several.

    Args:
        classes: (m, 2) int64 index of an image and a class that it holds.
        root: paths below it, and the seed, are all that chance depends on.
    """
    group_of, names = _groups(records, root)
    rank = np.array([int.from_bytes(hashlib.sha256(os.fsencode(f"{seed}/{n}")).digest()[:7]) for n in names], np.int64)
    pairs = np.unique(np.column_stack([group_of[classes[:, 0]], classes[:, 1]]), axis=0)
    return _chosen(pairs, rank)[group_of]


def _groups(records: Records, root: Path) -> tuple[np.ndarray, list[str]]:
    """(n,) int64 group of each image, those of equal bytes in one, and a name of each group."""
    paths = [Path(os.path.relpath(file, root)).as_posix() for file in records.files]
    same_size = defaultdict(list)
    for index, file in enumerate(records.files):
        same_size[_size(file)].append(index)
    group_of = np.full(len(records), -1, np.int64)
    names: list[str] = []
    known: dict[tuple, int] = {}
    for index, file in enumerate(records.files):
        size = _size(file)
        key = (index,) if size is None or len(same_size[size]) == 1 else (size, _digest(file, index))
        if key not in known:
            known[key] = len(names)
            names.append(paths[index])
        group_of[index] = known[key]
    return group_of, names


def _size(file: str) -> int | None:
    """None of a file that is missing, which verification reports."""
    try:
        return size_of(file)
    except OSError:
        return None


def _digest(file: str, index: int) -> bytes | int:
    try:
        return hashlib.sha256(content_of(file)).digest()
    except DataError:
        return index


def _chosen(pairs: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """(G,) bool: groups that validate.

    Args:
        pairs: (m, 2) int64 group and class, each once.
        rank: (G,) int64, at random.
    """
    classes_of = defaultdict(list)
    groups_of = defaultdict(list)
    for group, label in pairs[np.argsort(rank[pairs[:, 0]], kind="stable")].tolist():
        classes_of[group].append(label)
        groups_of[label].append(group)
    training = {label: len(groups) for label, groups in groups_of.items()}  # that could still train
    validates: dict[int, bool] = {}

    def settle(groups: list[int], wanted: int) -> None:
        """Let the first ones validate that every class of theirs can spare, and the others train."""
        for group in (group for group in groups if group not in validates):
            validates[group] = wanted > 0 and all(training[label] > 1 for label in classes_of[group])
            if validates[group]:
                wanted -= 1
                for label in classes_of[group]:
                    training[label] -= 1

    for _, groups in sorted(groups_of.items(), key=lambda item: (len(item[1]), item[0])):
        share = max(1, round(len(groups) / HELD_OUT)) if len(groups) > 1 else 0
        settle(groups, share - sum(validates.get(group, False) for group in groups))
    empty = [group for group in np.argsort(rank, kind="stable").tolist() if group not in classes_of]
    settle(empty, round(len(empty) / HELD_OUT))
    if len(rank) and not any(validates.values()):
        validates[int(rank.argmin())] = True  # a handful of images: one must validate
    return np.array([validates[group] for group in range(len(rank))], bool)
