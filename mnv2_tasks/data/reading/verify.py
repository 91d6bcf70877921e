"""Decode every file of a split once, in parallel, before a long run; what it finds is kept until a file changes."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.download.cache import cache_folder, make_cache
from mnv2_tasks.data.images.decode import check_image
from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.data.images.limits import LONGEST_SIDE
from mnv2_tasks.data.images.mask_values import INDICES, WHITE, MaskValues
from mnv2_tasks.data.reading.file_stamps import stamps
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import parse_json
from mnv2_tasks.whole_files import write_text
from mnv2_tasks.wording import counted

log = logging.getLogger(__name__)

MOST_REMEMBERED = 1 << 30  # bytes, of our own writing
VERSION = 4  # of what is checked: another number forgets what was remembered


class Verified(NamedTuple):
    """What a look at every file of a split showed."""

    problems: list[Problem]  # of pictures and masks
    sizes: np.ndarray  # (n, 2) int32 height and width in whose pixels annotations are; 0 where a picture is unreadable
    as_stored: np.ndarray  # (n,) bool: annotated, and so read, in the stored pixels where EXIF asks for a turn
    peaks: np.ndarray  # (n,) int64: the largest value of a picture of 16 bits, 0 of others
    brightest: np.ndarray  # (n,) int64: the same of a picture of 8 bits, 255 of others, see `Header`


def verify_files(records: Records, *, class_names: list[str], split: str, values: MaskValues = INDICES) -> Verified:
    """Decode pictures and masks, in whose pixels is said what `values` says."""
    memory = cache_folder() / "verified" / f"{_state(records, class_names, values)}.json"
    found = _remembered(memory, len(records))
    if found is None:
        check = _checker(records, class_names, values)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the interpreter's lock
            rows = pool.map(check, range(len(records)))
            shown = track(rows, f"checking {split} (once)", total=len(records), transient=True, disable=not _terminal())
            found = list(shown)
        _remember(memory, found)
    problems = [
        Problem(file, what, remedy, image)
        for image, (_, faults, *_) in enumerate(found)
        for file, what, remedy in faults
    ]
    sizes, _, as_stored, peaks, brightest = zip(*found) if found else ((),) * 5
    return Verified(
        problems,
        np.array(sizes, np.int32).reshape(-1, 2),
        np.array(as_stored, bool),
        np.array(peaks, np.int64),
        np.array(brightest, np.int64),
    )


def _remembered(memory: Path, images: int) -> list | None:
    """What an earlier run found; None if nothing is remembered, or what is there is damaged."""
    try:
        found = parse_json(memory.read_bytes(), str(memory), most_bytes=MOST_REMEMBERED)
    except FileNotFoundError:
        return None
    except (OSError, ConfigError) as error:
        log.warning("%s: cannot be read (%s); the files are checked anew", memory, error)
        return None
    return found if isinstance(found, list) and len(found) == images and all(map(_is_finding, found)) else None


def _is_finding(row: Any) -> bool:
    """((height, width), [(file, what, remedy)], as stored, peak, brightest), as JSON has it."""
    if not isinstance(row, list) or len(row) != 5 or not all(isinstance(part, list) for part in row[:2]):
        return False
    size, faults, as_stored, peak, brightest = row
    return (
        len(size) == 2
        and type(as_stored) is bool
        and type(peak) is int
        and 0 <= peak <= FULL
        and type(brightest) is int
        and all(type(side) is int and 0 <= side <= LONGEST_SIDE for side in size)
        and all(isinstance(f, list) and len(f) == 3 and all(isinstance(text, str) for text in f) for f in faults)
    )


def _remember(memory: Path, found: list) -> None:
    """What cannot be kept is found anew the next time."""
    try:
        make_cache(memory.parent)
        write_text(memory, json.dumps(found))
    except ConfigError as error:
        log.warning("these files will be checked anew the next time: %s", error)


def _terminal() -> bool:
    return os.isatty(1)


def _checker(records: Records, class_names: list[str], values: MaskValues) -> Callable[[int], tuple]:
    """index -> ((height, width), [(file, what, remedy)], as stored, peak, brightest)"""

    def check(index: int) -> tuple:
        file = records.files[index]
        height, width = (int(side) for side in records.sizes[index])
        try:
            header = check_image(Path(file))
        except DataError as error:
            what = str(error).removeprefix(f"{file}: ")
            if file.endswith(".*"):  # of labels alone, see the layouts
                what, remedy = (
                    "is annotated or listed, and there is no image of this name",
                    "Name both alike, or remove it",
                )
                return (0, 0), [(file, what, remedy)], False, 0, 255
            return (0, 0), [(file, what, "Fetch or export it again, or remove it from the data set")], False, 0, 255
        stored, upright = header.stored, header.upright
        if len(records.masks):
            size, faults = _check_mask(Path(records.masks[index]), (stored, upright), class_names, values)
            return size, faults, tuple(size) != upright, header.peak, header.brightest
        size = upright if (height, width) == (0, 0) else (height, width)
        if size not in (stored, upright):
            what = f"has {stored[1]} x {stored[0]} pixels, its annotation says {size[1]} x {size[0]}"
            remedy = "It was resized after it was annotated: restore it, or annotate it anew"
            return (0, 0), [(file, what, remedy)], False, 0, 255
        return size, [], size != upright, header.peak, header.brightest

    return check


def _check_mask(path: Path, sizes: Sequence[Sequence[int]], class_names: list[str], values: MaskValues) -> tuple:
    """The mask's size tells whether it was drawn on the stored picture or on the upright one."""
    try:
        mask = values.pixels(path)
    except DataError as error:
        return sizes[1], [(str(path), str(error).removeprefix(f"{path}: "), "Export the mask again")]
    if mask.shape not in sizes:
        what = f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, the image {sizes[0][1]} x {sizes[0][0]}"
        return sizes[1], [(str(path), what, "Export it at the image's size, without interpolation")]
    if values.form == "white" and 0 < mask.max(initial=0) < WHITE:
        what = f"the mask has no white pixel, the brightest has the value {mask.max()}, and white is the class here"
        return mask.shape, [(str(path), what, "Write 255 in place of 1; without data.binary=true it is a class index")]
    labels = np.flatnonzero(np.bincount(values.classes_of(mask).ravel(), minlength=256)).tolist()
    if all(label < len(class_names) or label == IGNORE for label in labels):
        return mask.shape, []
    strays, classes = values.strays(mask, len(class_names)), counted(len(class_names), "class")
    if values.form == "colour":
        what = f"the mask holds the colours [{strays}], which the colour map does not list; there are {classes}"
        remedy = "Add them to it, as `void` what is no class; where JPEG or resizing mixed them, export the mask as PNG"
    else:
        what = f"the mask holds the values [{strays}]; there are {classes}, 0 to {len(class_names) - 1}"
        remedy = "Correct the mask or the class list; 255 marks pixels without a class, data.ignore=[...] more values"
    return mask.shape, [(str(path), what, remedy)]


def _state(records: Records, class_names: list[str], values: MaskValues) -> str:
    """Changes when a file, an annotated size, the class list or what masks say does."""
    digest = hashlib.sha256(f"{VERSION} {class_names} {values}".encode())
    digest.update(records.sizes.tobytes())
    digest.update(stamps(records.files) + stamps(records.masks))
    return digest.hexdigest()[:32]
