"""Look at every file of a split before a long run, in parallel; what it shows is kept until a file changes."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.download.cache import cache_folder, make_cache
from mnv2_tasks.data.images.decode import Header, check_image, read_header
from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.data.images.limits import LONGEST_SIDE
from mnv2_tasks.data.images.mask_values import INDICES, WHITE, MaskValues
from mnv2_tasks.data.reading.file_stamps import stamps
from mnv2_tasks.data.reading.npz_files import read_arrays
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import parse_json
from mnv2_tasks.whole_files import written_whole
from mnv2_tasks.wording import counted, duration

log = logging.getLogger(__name__)

DEPTHS = ("full", "sample", "headers")  # each knows what the later ones would find
SHORT = 10.0  # seconds: by default a look that takes longer is at a sample
SAMPLE = 2000  # images, spread evenly over the split
TIMED = 64  # images that tell how long all will take
AT_ONCE = 64  # images of one piece of work: one for each image would take a kilobyte of memory each
MOST_REMEMBERED = 1 << 30  # bytes, of our own writing
VERSION = 5  # of what is checked: another number forgets what was remembered


class Verified(NamedTuple):
    """What a look at every file of a split showed."""

    problems: list[Problem]  # of pictures and masks
    sizes: np.ndarray  # (n, 2) int32 height and width in whose pixels annotations are; 0 where a picture is unreadable
    as_stored: np.ndarray  # (n,) bool: annotated, and so read, in the stored pixels where EXIF asks for a turn
    peaks: np.ndarray  # (n,) int64: the largest value of a picture of 16 bits, 0 of others
    brightest: np.ndarray  # (n,) int64: the same of a picture of 8 bits that was decoded, 255 of others, see `Header`
    decoded: np.ndarray  # (n,) bool: of the others the header, or what they were packed with, was looked at


class _Finding(NamedTuple):
    """Of one image."""

    size: Sequence[int] = (0, 0)
    faults: Sequence[tuple[str, str, str]] = ()  # (file, what, remedy)
    as_stored: bool = False
    peak: int = 0
    brightest: int = 255
    decoded: bool = True


def check_depth(depth: str) -> None:
    if depth not in ("auto", *DEPTHS):
        raise ConfigError(f"data.verify={depth}: expected auto, {', '.join(DEPTHS[:-1])} or {DEPTHS[-1]}")


def verify_files(
    records: Records,
    *,
    class_names: list[str],
    split: str,
    values: MaskValues = INDICES,
    depth: str = "full",
    packed_sizes: np.ndarray | None = None,
) -> Verified:
    """Look at pictures, and decode masks, in whose pixels is said what `values` says.

    Args:
        depth: "full" decodes all pictures; "headers" reads where they begin and end, and decodes those alone of which
            that does not tell enough; "sample" decodes a few more; "auto" is "full" where that takes some seconds.
        packed_sizes: (n, 2) height and width of pictures in shards, which were verified when they were packed: "sample"
            and "headers" leave the others, and all masks, as they are.
    """
    place, state = cache_folder() / "verified", _state(records, class_names, values)
    least = "sample" if depth == "auto" else depth
    for known in DEPTHS[: DEPTHS.index(least) + 1]:
        found = _remembered(place / f"{state}-{known}.npz", records)
        if found is not None:
            return found
    found = _look(_checker(records, class_names, values, packed_sizes), records, split, depth)
    _remember(place / f"{state}-{'full' if found.decoded.all() else least}.npz", found)
    return found


def _look(check: Callable[[int, bool], _Finding], records: Records, split: str, depth: str) -> Verified:
    n = len(records)
    found = Verified(
        [], np.zeros((n, 2), np.int32), np.zeros(n, bool), np.zeros(n, np.int64), np.full(n, 255), np.zeros(n, bool)
    )
    seen = np.zeros(n, bool)
    pool = ThreadPoolExecutor(os.cpu_count())  # decoders release the interpreter's lock
    try:

        def take(indices: np.ndarray, decode: bool) -> Iterator[int]:
            for index, finding in _findings(pool, check, indices[~seen[indices]], decode):
                seen[index] = True
                _put(found, index, finding)
                yield index

        def seconds_each(indices: np.ndarray, decode: bool) -> float:
            started = time.perf_counter()
            looked = sum(1 for _ in take(indices, decode))
            return (time.perf_counter() - started) / max(looked, 1)

        in_full, by_header = 0.0, 0.0
        if depth != "headers":
            in_full = seconds_each(_spread(n, TIMED), True)
        if depth == "auto":
            depth = "full" if in_full * n <= SHORT else "sample"
        if depth != "full":
            by_header = seconds_each(_spread(n, TIMED) + 1, False) if n > 2 * TIMED else 0.0
        chosen = {"full": np.arange(n), "sample": _spread(n, SAMPLE), "headers": np.zeros(0, np.int64)}[depth]
        expected = in_full * len(chosen) + by_header * (n - len(chosen))
        said = f"checking {split} (once)"
        if expected > SHORT:
            rest = "" if depth == "full" else f"{len(chosen):,} decoded, the headers of the others, "
            more = f"; all decoded in {duration(in_full * n)} by data.verify=full" if depth == "sample" else ""
            log.info("checking %s before the run: %s, %sabout %s%s", split, counted(n, "image"), rest,
                     duration(expected), more)  # fmt: skip
            said += f", about {duration(expected)}"

        def rest_of_them() -> Iterator[int]:
            yield from take(chosen, True)
            yield from take(np.arange(n), False)

        for _ in track(rest_of_them(), said, total=int(n - seen.sum()), transient=True, disable=not _terminal()):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for what has not begun
    found.problems.sort(key=lambda problem: problem.image or 0)
    return found


def _findings(
    pool: Executor, check: Callable[[int, bool], _Finding], indices: np.ndarray, decode: bool
) -> Iterator[tuple[int, _Finding]]:
    def piece(some: np.ndarray) -> list[tuple[int, _Finding]]:
        return [(index, check(index, decode)) for index in some.tolist()]

    at_once = max(1, min(AT_ONCE, len(indices) // (4 * (os.cpu_count() or 1))))
    for done in pool.map(piece, [indices[start : start + at_once] for start in range(0, len(indices), at_once)]):
        yield from done


def _put(found: Verified, index: int, finding: _Finding) -> None:
    found.problems.extend(Problem(file, what, remedy, index) for file, what, remedy in finding.faults)
    found.sizes[index], found.as_stored[index] = finding.size, finding.as_stored
    found.peaks[index], found.brightest[index] = finding.peak, finding.brightest
    found.decoded[index] = finding.decoded


def _spread(n: int, count: int) -> np.ndarray:
    """Indices of at most `count` of n, the same each time."""
    return np.arange(min(n, count)) * n // max(1, min(n, count))


def _remembered(memory: Path, records: Records) -> Verified | None:
    """What an earlier run found; None if nothing is remembered, or what is there is damaged."""
    if not memory.is_file():
        return None
    try:
        arrays = read_arrays(memory, str(memory), most_bytes=MOST_REMEMBERED)
        listed = parse_json(arrays.pop("problems").tobytes(), str(memory), most_bytes=MOST_REMEMBERED)
        found = Verified([Problem(*row) for row in listed], **arrays)
        _check_remembered(found, len(records))
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("%s: cannot be read (%s); the files are checked anew", memory, error)
        return None
    return found


def _check_remembered(found: Verified, n: int) -> None:
    """Raise a ValueError for what `_look` does not find."""
    for name, shape, kind, most in (
        ("sizes", (n, 2), np.int32, LONGEST_SIDE),
        ("as_stored", (n,), np.bool_, 1),
        ("peaks", (n,), np.int64, FULL),
        ("brightest", (n,), np.int64, 255),
        ("decoded", (n,), np.bool_, 1),
    ):
        array = getattr(found, name)
        if array.shape != shape or array.dtype != kind or (array < 0).any() or (array > most).any():
            raise ValueError(f"{name} hold what they cannot")
    for problem in found.problems:
        texts = problem.file, problem.what, problem.remedy
        if (
            not all(isinstance(text, str) for text in texts)
            or type(problem.image) is not int
            or problem.box is not None
        ):
            raise ValueError("a problem is none")
        if not 0 <= problem.image < n:
            raise ValueError("a problem is of no image")


def _remember(memory: Path, found: Verified) -> None:
    """What cannot be kept is found anew the next time."""
    arrays = found._asdict()
    listed = json.dumps([problem[:4] for problem in arrays.pop("problems")])
    try:
        make_cache(memory.parent)
        with written_whole(memory) as file:
            np.savez(file, problems=np.frombuffer(listed.encode(), np.uint8), **arrays)
    except ConfigError as error:
        log.warning("these files will be checked anew the next time: %s", error)


def _terminal() -> bool:
    return os.isatty(1)


def _checker(
    records: Records, class_names: list[str], values: MaskValues, packed_sizes: np.ndarray | None
) -> Callable[[int, bool], _Finding]:
    """(index, whether its picture is to be decoded in any case) -> what was found"""

    def check(index: int, decode: bool) -> _Finding:
        if packed_sizes is not None and not decode:
            return _Finding(packed_sizes[index], decoded=False)
        file = records.files[index]
        header = None if decode else read_header(file)
        decoded = header is None
        try:
            header = header or check_image(file)
        except DataError as error:
            return _Finding(faults=[_unreadable(file, error, packed_sizes is not None)])
        if len(records.masks):
            stored, upright = header.stored, header.upright
            size, faults = _check_mask(Path(records.masks[index]), (stored, upright), class_names, values)
        else:
            annotated = records.sizes[index] if packed_sizes is None else packed_sizes[index]
            size, faults = _check_size(file, header, (int(annotated[0]), int(annotated[1])))
        as_stored = tuple(size) not in ((0, 0), header.upright)
        return _Finding(size, faults, as_stored, header.peak, header.brightest, decoded)

    return check


def _unreadable(file: str, error: DataError, packed: bool) -> tuple[str, str, str]:
    what, remedy = str(error).removeprefix(f"{file}: "), "Fetch or export it again, or remove it from the data set"
    if packed:
        remedy = "Copy the shards again, or pack again"
    elif file.endswith(".*"):  # of labels alone, see the layouts
        what, remedy = "is annotated or listed, and there is no image of this name", "Name both alike, or remove it"
    return file, what, remedy


def _check_size(file: str, header: Header, annotated: tuple[int, int]) -> tuple:
    stored, upright = header.stored, header.upright
    size = upright if annotated == (0, 0) else annotated
    if size in (stored, upright):
        return size, []
    what = f"has {stored[1]} x {stored[0]} pixels, its annotation says {size[1]} x {size[0]}"
    return (0, 0), [(file, what, "It was resized after it was annotated: restore it, or annotate it anew")]


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
    for files in (records.files, records.masks):
        for stamp in stamps(files):
            digest.update(stamp)
    return digest.hexdigest()[:32]
