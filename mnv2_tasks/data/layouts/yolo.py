"""YOLO: a text file for each image, `class x y width height` a line, in fractions of the upright image."""

import os
from pathlib import Path

from mnv2_tasks.data.images.decode import upright_size
from mnv2_tasks.data.layouts.class_file import NAMES, class_list
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles, paired_folders
from mnv2_tasks.data.reading.folders import files_below, has, pictures_below, stem
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Recorder, Records
from mnv2_tasks.data.reading.text_files import read_text
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import brief

MOST_LINES, MOST_BYTES = 100_000, 32 << 20  # of one image
ROUNDING = 1e-3  # fractions may leave [0, 1] by so much

Box = tuple[float, float, float, float]


def read_labels(path: Path, num_classes: int) -> tuple[list[tuple[int, int, Box]], list[str]]:
    """Objects of one image, and what is wrong with it, a text for each bad line.

    A line with more numbers is the outline of an object, x y x y ..., and its box is what is kept.

    Returns:
        (line, class, xyxy fractions of the image) of each good line, lines counted from 1.

    Raises:
        DataError: the file cannot be read as text, or has more than `MOST_LINES`.
    """
    text = read_text(path, most_bytes=MOST_BYTES)
    if (lines := text.count("\n")) > MOST_LINES:
        raise DataError(f"{path}: has {lines:,} lines, one image has {MOST_LINES:,} objects at most")
    objects, faults = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            label, box = _object(line, num_classes)
            objects.append((number, label, box))
        except ValueError as error:
            faults.append(f"line {number} {error}")
    return objects, faults


def _object(line: str, num_classes: int) -> tuple[int, Box]:
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError:
        raise ValueError(f"is not made of numbers: {brief(line.strip())!r}") from None
    if not label.is_integer() or not 0 <= label < num_classes:
        raise ValueError(f"has class {label:g}; there are {num_classes} classes, 0 to {num_classes - 1}")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"has {len(values)} numbers after the class: a box has 4, an outline two for each point")
    if not all(-ROUNDING <= value <= 1 + ROUNDING for value in values):  # False for NaN too
        raise ValueError(
            f"has numbers outside [0, 1]; fractions of the image's sides belong here, not pixels: "
            f"{brief(line.strip())!r}"
        )
    if len(values) > 4:
        xs, ys = values[::2], values[1::2]
        return int(label), (min(xs), min(ys), max(xs), max(ys))
    x, y, width, height = values
    return int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    parts = paired_folders(root, "images", "labels", wanted)
    return parts if any(has(part.labels, (".txt",)) for part in parts.values()) else {}


def _open(root: Path, parts: dict[str, SplitFiles]) -> Opened:
    labels = [part.labels for part in parts.values()]
    names = class_list([root, *labels, *(folder.parent for folder in labels)])
    if names is None:
        raise ConfigError(
            f"data=folder: {root} holds YOLO labels, but no class list. Write {root / 'classes.txt'} with one class "
            f"name a line, that of class 0 first; data.yaml with `names:` does too"
        )
    return Opened(names, lambda split: _read(parts[split], len(names)))


def _read(part: SplitFiles, num_classes: int) -> tuple[Records, list[Problem]]:
    recorder, problems = Recorder(), []
    files, _ = pictures_below(part.images)
    left = {stem(f, part.labels): f for f in files_below(part.labels) if f.endswith(".txt") and not _is_class_file(f)}
    for image, file in enumerate(files):
        recorder.image(file)
        path = left.pop(stem(file, part.images), None)
        if path is None:
            continue  # an image without objects
        try:
            objects, faults = read_labels(Path(path), num_classes)
        except DataError as error:
            objects, faults = [], [str(error).removeprefix(f"{path}: ")]
        problems += [Problem(path, fault, "Correct or delete it", image) for fault in faults]
        width, height = _upright_size(file) if objects else (0, 0)
        for line, label, (x0, y0, x1, y1) in objects if width else []:
            recorder.box((x0 * width, y0 * height, x1 * width, y1 * height), label, box_id=line)
    for name in sorted(left):  # labels without an image: the file is missing, which verification reports
        recorder.image(str(part.images / f"{name}.*"))
    return recorder.records(), problems


def _is_class_file(file: str) -> bool:
    return os.path.basename(file) in NAMES


def _upright_size(file: str) -> tuple[int, int]:
    """(width, height) from the file's header; 0 if it cannot be read, which verification reports."""
    try:
        height, width = upright_size(file)
    except DataError:
        return 0, 0
    return width, height


YOLO = Layout(
    title="YOLO txt",
    kind="detection",
    tree="""
data.yaml                  with `names:`, or classes.txt with a name a line
images/train/*.jpg         labels/train/*.txt
images/val/*.jpg           labels/val/*.txt          or train/images/, train/labels/ ...
""",
    find=_find,
    open=_open,
)
