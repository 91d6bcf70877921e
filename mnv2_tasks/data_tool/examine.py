"""What is in a data set, and what is wrong with it: nothing is refused, everything is counted."""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnv2_tasks.contracts import IGNORE, Sample
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.images.file_bytes import content_of, size_of
from mnv2_tasks.data.reading.file_source import FileSource, shared_images
from mnv2_tasks.data.reading.problems import ROUNDING, Problem, first_alike, reach
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data_tool.anchor_recall import AnchorFit, Shapes, best_overlaps, fit_by_class, fit_by_size
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import visible

TINY = 0.01  # of the image's side: 3 pixels of an input of 320, a fifth of the finest map's cell


class Counts(NamedTuple):
    """How often each class occurs."""

    amount: np.ndarray  # (K,) int64 images of a class, boxes (without crowds), or pixels
    images: np.ndarray  # (K,) int64 images that hold it
    ignored: int  # pixels of masks that have no class (IGNORE)
    stray: int  # pixels of masks with values beyond the class list


@dataclass(frozen=True)
class Split:
    """One split, examined."""

    name: str
    records: Records  # as read, with all that is bad
    sizes: np.ndarray  # (n, 2) height and width of the pictures, see verify_files
    problems: list[Problem]  # what training refuses
    duplicates: list[Problem]  # boxes given twice, pictures of two classes: training takes the former once
    counts: Counts
    cut: int  # boxes that reach out of their image by less than is refused
    tiny: int  # boxes whose shorter side is less than TINY of the image's
    anchors: list[AnchorFit]  # of the boxes by their sizes; of detection only, as those
    anchors_by_class: list[AnchorFit]  # a row for each class


@dataclass(frozen=True)
class Examination:
    """A data set for one kind of task, examined."""

    source: FileSource
    splits: list[Split]
    unread: dict[str, str]  # {split: why it could not be read}
    twins: list[tuple[int, int]]  # (index in train, index in val) of equal files; also among train's problems

    @property
    def healthy(self) -> bool:
        """Whether all that was asked for could be read, and training would refuse nothing."""
        return not self.unread and not any(split.problems for split in self.splits)


def examine(source: FileSource, splits: Sequence[str], image_size: int, anchors: Shapes | None = None) -> Examination:
    """Read, decode and count these splits.

    Args:
        image_size: side of a detector's square input in pixels.
        anchors: the detector's, see `anchor_recall.best_overlaps`.

    Raises:
        ConfigError, DataError: no split can be read at all; what the first of them says.
    """
    examined, unread, errors = [], {}, []
    for name in splits:
        try:
            records, problems, sizes = source.problems(name)
        except (ConfigError, DataError) as error:
            unread[name] = str(error)
            errors.append(error)
            continue
        examined.append(_examine_split(source, name, records, problems, sizes, image_size, anchors))
    if not examined:
        raise errors[0]
    by_name = {split.name: split for split in examined}
    twins = _twins(by_name["train"], by_name["val"]) if {"train", "val"} <= by_name.keys() else []
    return Examination(source, examined, unread, twins)


def usable_boxes(records: Records, problems: Sequence[Problem], sizes: np.ndarray) -> np.ndarray:
    """(N,) bool: the boxes that can be learned: neither refused nor crowds, in a picture that could be read."""
    usable = np.ones(len(records.boxes), bool)
    usable[[problem.box for problem in problems if problem.box is not None]] = False
    owner = records.image_of_box()
    return usable & ~records.crowd & (sizes[owner] > 0).all(axis=1) if len(owner) else usable


def _examine_split(
    source: FileSource,
    name: str,
    records: Records,
    problems: list[Problem],
    sizes: np.ndarray,
    image_size: int,
    anchors: Shapes | None,
) -> Split:
    usable = usable_boxes(records, problems, sizes)
    scale = np.tile(sizes[records.image_of_box()[usable]][:, ::-1], 2).astype(float)  # width, height, width, height
    fractions = (records.boxes[usable] / scale).clip(0, 1).reshape(-1, 4)
    tiny = (fractions[:, 2:] - fractions[:, :2]).min(axis=1, initial=1) < TINY
    detection = source.kind == "detection"
    best = best_overlaps(fractions, image_size, anchors) if detection else np.zeros(0)
    return Split(
        name=name,
        records=records,
        sizes=sizes,
        problems=problems,
        duplicates=_hints(source, records),
        counts=_count(source, records),
        cut=int((reach(records, sizes)[usable] > ROUNDING).sum()) if detection else 0,
        tiny=int(tiny.sum()),
        anchors=fit_by_size(fractions, best, image_size) if detection else [],
        anchors_by_class=fit_by_class(records.box_labels[usable], best, source.class_names) if detection else [],
    )


def _hints(source: FileSource, records: Records) -> list[Problem]:
    if source.kind == "detection":
        return _duplicates(source, records)
    return _of_two_classes(source, records) if source.kind == "classification" else []


def _of_two_classes(source: FileSource, records: Records) -> list[Problem]:
    """Pictures whose bytes lie under another class before."""
    same_size: dict[int, list[int]] = {}
    for index, file in enumerate(records.files):
        if Path(file).is_file():  # one that is missing is a problem already
            same_size.setdefault(size_of(file), []).append(index)
    found = []
    for indices in same_size.values():
        if len(set(records.labels[indices].tolist())) < 2:
            continue
        first: dict[bytes, int] = {}
        for index in indices:
            other = first.setdefault(_digest(records.files[index]), index)
            if records.labels[other] != records.labels[index]:
                here, there = (source.class_names[records.labels[i]] for i in (index, other))
                what = f"this picture of {here} is also one of {there}, as {records.files[other]}"
                found.append(Problem(records.files[index], what, "Keep the one whose class is right", index))
    return found


def _digest(file: str) -> bytes:
    try:
        return hashlib.sha256(content_of(file)).digest()
    except DataError:  # one of the problems
        return file.encode(errors="surrogateescape")


def _duplicates(source: FileSource, records: Records) -> list[Problem]:
    """Every box but the first of those with the same image, class and corners."""
    original, owner = first_alike(records), records.image_of_box()
    found = []
    for i in np.flatnonzero(original != np.arange(len(original))):
        image, label = int(owner[i]), int(records.box_labels[i])
        name = source.class_names[label] if 0 <= label < len(source.class_names) else f"class {label}"
        what = f"box {records.box_ids[i]} is the same as box {records.box_ids[original[i]]} ({name})"
        found.append(Problem(records.files[image], what, "Delete one of the two", image, int(i)))
    return found


def _twins(train: Split, val: Split) -> list[tuple[int, int]]:
    """Images of train that are also in val; each becomes a problem of train."""
    here, there = (np.array([Path(file).is_file() for file in split.records.files]) for split in (train, val))
    places, other_places = np.flatnonzero(here), np.flatnonzero(there)
    readable = [
        split.records.keep(kept, np.ones(len(split.records.boxes), bool))
        for split, kept in ((train, here), (val, there))
    ]
    twins = [(int(places[i]), int(other_places[j])) for i, j in shared_images(*readable)]
    for i, j in twins:
        what = f"this training image is also in val: {val.records.files[j]}"
        remedy = "Remove it from one of the two: a score on images trained on means nothing"
        train.problems.append(Problem(train.records.files[i], what, remedy, i))
    return twins


def _count(source: FileSource, records: Records) -> Counts:
    num_classes = len(source.class_names)
    if source.kind == "classification":
        amount = np.bincount(records.labels, minlength=num_classes)
        return Counts(amount, amount, 0, 0)
    if source.kind == "detection":
        known = (records.box_labels >= 0) & (records.box_labels < num_classes) & ~records.crowd
        labels, owner = records.box_labels[known], records.image_of_box()[known]
        pairs = np.unique(np.column_stack([owner, labels]), axis=0)
        return Counts(np.bincount(labels, minlength=num_classes), np.bincount(pairs[:, 1], minlength=num_classes), 0, 0)

    def values(index: int) -> np.ndarray:
        try:
            return np.bincount(mask_of(source, records, index).ravel(), minlength=256)
        except DataError:  # one of the problems
            return np.zeros(256, np.int64)

    pixels, images = np.zeros(256, np.int64), np.zeros(256, np.int64)
    with ThreadPoolExecutor() as pool:  # decoders release the interpreter's lock
        for histogram in pool.map(values, range(len(records))):
            pixels += histogram
            images += histogram > 0
    ignored = int(pixels[IGNORE])
    return Counts(
        pixels[:num_classes], images[:num_classes], ignored, int(pixels.sum() - pixels[:num_classes].sum()) - ignored
    )


def mask_of(source: FileSource, records: Records, index: int) -> np.ndarray:
    """(H, W) uint8 class indices, from a mask file or from outlines."""
    height, width = records.sizes[index].tolist()
    return source.mask(records, index, (height, width))


def read_records(source: FileSource, split: str) -> Records:
    """A split as it is annotated; its pictures are not opened."""
    return source.read(split)[0]


def sample_of(source: FileSource, records: Records, index: int) -> Sample:
    """An image with all of its annotations, crowds and bad boxes too.

    Raises:
        DataError: the picture or its mask cannot be read.
    """
    mask = mask_of(source, records, index) if source.kind == "segmentation" else None
    height, width = records.sizes[index].tolist() if mask is None else mask.shape
    rows = records.boxes_of(index)
    return Sample(
        image=read_image(Path(records.files[index]), (height, width), white=source.white_used()),
        image_id=int(records.ids[index]),
        label=int(records.labels[index]) if source.kind == "classification" else None,
        boxes=records.boxes[rows] if source.kind == "detection" else None,
        box_labels=records.box_labels[rows] if source.kind == "detection" else None,
        mask=mask,
    )


def kind_of(problem: Problem) -> str:
    """What a problem has in common with others: its text without names, numbers and particulars."""
    text = re.sub(r"\s*\((?:[^()]|\([^()]*\))*\)|\s*\[[^\]]*\]", "", visible(problem.what))
    text = re.split(r":\s|; ", text)[0]
    text = re.sub(r"'[^']*'|\"[^\"]*\"|\S+\.[A-Za-z]\w{1,4}\b", "…", text)
    return re.sub(r"-?\d[\d.,]*", "N", text)
