"""Which images train and which validate, in a user's own data."""

import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import did_you_mean

TRAIN = ("train", "training", "trainval")
TEST = ("test", "testing")
VAL = ("val", "valid", "validation", "dev", "eval", *TEST)
WHOLE = ""  # the one split of data that are not split
HELD_OUT = 5  # without a split to validate on, one image in so many

# what folders of masks and of pictures are called, beside the name of a split or alone
MASK_WORDS = (
    r"annot(?:ation)?s?|masks?|labels?|lbls?|segmentation(?:class)?s?|segs?|gt(?:s|fine|coarse)?"
    r"|ground[-_ ]?truths?|targets?"
)
IMAGE_WORDS = r"jpeg|images?|imgs?|pics|pictures?|photos?|rgb|inputs?|leftimg8bit"


class Chosen(NamedTuple):
    train: str | None  # None: there is nothing to train on
    val: str | None  # None: a part of train is held out


def is_split(name: str, wanted: Collection[str]) -> bool:
    """Whether a folder's or file's name is a split's: a usual one, or one of those that the user named."""
    return name in wanted or plain(name) in (*TRAIN, *VAL)


def part_of_split(name: str) -> str | None:
    """The split whose pictures or masks a folder of this name holds: trainannot, train_labels, masks-train -> train."""
    split = without_words(without_words(name, MASK_WORDS), IMAGE_WORDS)
    return split if plain(split) in (*TRAIN, *VAL) else None


def role(name: str) -> str | None:
    """train, val or test, whichever the words of a name say first: imgs_train, train_v2 -> train; valid -> val"""
    for word in (part_of_split(name) or "", *re.split(r"[^a-z]+", name.lower())):
        if plain(word) in (*TRAIN, *VAL):
            return "train" if plain(word) in TRAIN else "test" if plain(word) in TEST else "val"
    return None


def without_words(name: str, words: str) -> str:
    """A folder's name without these words at its ends."""
    return re.sub(rf"[-_ .]*(?:{words})(?:[-_ .]machine)?$|^(?:{words})(?:[-_ .]+|$)", "", name, flags=re.IGNORECASE)


def choose_splits(there: Collection[str], train: str | None, val: str | None) -> Chosen:
    """By the user's word, or else by the usual names: val, valid, validation or test validates, in this order.

    Args:
        there: the data's own names of its splits.

    Raises:
        ConfigError: a split that the user named is not there, or the names do not tell.
    """
    for key, name in (("train", train), ("val", val)):
        if name is not None and name not in there:
            hint = did_you_mean(name, there)
            raise ConfigError(f"data.{key}={name}: there is no such split. {hint}There {_listed(there)}")
    train = train or _first(there, TRAIN, "train")
    val = val or _first([name for name in there if name != train], VAL, "val")
    if train is None:
        rest = [name for name in there if name != val and plain(name) not in VAL]
        train = rest[0] if len(rest) == 1 else None
    if train is None and val is None:
        raise ConfigError(f"which split is to train on? There {_listed(there)}: data.train=<name> data.val=<name>")
    return Chosen(train, val)


def hold_out(records: Records, problems: list[Problem], split: str, root: Path) -> tuple[Records, list[Problem]]:
    """The part of unsplit data that trains, or that validates: every fifth image, by a hash of its path below `root`.

    So it was before `own_split`, and is in runs of before.
    """
    names = [Path(os.path.relpath(file, root)).as_posix() for file in records.files]
    hashes = np.array([int.from_bytes(hashlib.sha256(os.fsencode(n)).digest()[:7]) for n in names], np.int64)
    images = hashes % HELD_OUT == 0
    if len(images) and not images.any():
        images[hashes.argmin()] = True  # a handful of images: one must validate
    return part_of(records, problems, ~images if split == "train" else images)


def part_of(records: Records, problems: list[Problem], images: np.ndarray) -> tuple[Records, list[Problem]]:
    """The images of a boolean mask (n,), with their problems; those of no image stay."""
    boxes = images[records.image_of_box()]
    place, box_place = np.cumsum(images) - 1, np.cumsum(boxes) - 1
    moved = []
    for problem in problems:
        if problem.image is None:
            moved.append(problem)
        elif images[problem.image]:
            box = None if problem.box is None else int(box_place[problem.box])
            moved.append(problem._replace(image=int(place[problem.image]), box=box))
    return records.keep(images, boxes), moved


def _first(there: Collection[str], usual: tuple[str, ...], key: str) -> str | None:
    for name in usual:
        found = sorted(split for split in there if plain(split) == name)
        if len(found) > 1:
            raise ConfigError(f"{' and '.join(found)} are both splits to {key} with: choose one, data.{key}=<name>")
        if found:
            return found[0]
    return None


def plain(name: str) -> str:
    """Train2017, train_set, data-train -> train"""
    name = re.sub(r"[-_]?(19|20)\d\d$", "", name.lower())
    return re.sub(r"^(?:data|dataset|split)[-_ ]|[-_ ]?(?:set|data|dataset|split)$", "", name)


def _listed(there: Collection[str]) -> str:
    names = [name for name in sorted(there) if name != WHOLE]
    return "are " + ", ".join(names) if names else "is one heap, without splits"
