"""YOLO: a text file for each image, `class x y width height` a line, in fractions of the upright image."""

import itertools
import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from mnv2_tasks.data.images.decode import upright_size
from mnv2_tasks.data.layouts.background import relabelled, with_background
from mnv2_tasks.data.layouts.class_file import class_list, is_class_file
from mnv2_tasks.data.layouts.label_files import found_note, paired_by_name
from mnv2_tasks.data.layouts.layout import Layout, Opened, SplitFiles, paired_folders
from mnv2_tasks.data.layouts.pairing import fits, paired_by_content
from mnv2_tasks.data.layouts.splits import TRAIN, VAL, WHOLE, plain
from mnv2_tasks.data.layouts.yolo_description import (
    IMAGES,
    Description,
    description,
    pictures_of,
    rival_descriptions,
)
from mnv2_tasks.data.reading.folders import (
    by_stem,
    child,
    files_below,
    files_in,
    has,
    pictures_below,
    place_below,
    stem,
)
from mnv2_tasks.data.reading.outlines import compressed_outline, crosses_itself
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Recorder, Records
from mnv2_tasks.data.reading.text_files import read_text
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import brief, counted, first_few

FIRST_LINE = 4096  # characters that are read to tell labels from other text
PROBED = 200  # label files that are searched for an outline
MOST_LINES, MOST_BYTES = 100_000, 32 << 20  # of one image
BEYOND = 0.5  # fractions may leave [0, 1] by so much before they are taken for pixels; `box_problems` knows the pixels
AROUND = 0.05  # of the image: keypoints may lie so far beside their box, and this beside its image
MOST_KEYPOINTS = 200
LABELS = "labels"  # the folder that stands for one of `IMAGES`

Box = tuple[float, float, float, float]


def read_labels(path: Path, num_classes: int, keypoints: int = 0) -> tuple[list[tuple[int, int, Box]], list[str]]:
    """Objects of one image, and what is wrong with it, a text for each bad line.

    A line with more numbers is the outline of an object, x y x y ..., and its box is what is kept.

    Args:
        keypoints: numbers behind those of a box, which are left out.

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
            label, box = _object(line, num_classes, keypoints)
            objects.append((number, label, box))
        except ValueError as error:
            faults.append(f"line {number} {error}")
    return objects, faults


def read_outlines(path: Path, num_classes: int) -> tuple[list[tuple[int, int, list[float]]], list[str]]:
    """As `read_labels`, with the outline of each object, x y x y ... in fractions of the image, in place of its box."""
    objects, faults = read_labels(path, num_classes)
    lines = read_text(path, most_bytes=MOST_BYTES).split("\n")
    found = []
    for number, label, _ in objects:
        points = [float(word) for word in lines[number - 1].split()[1:]]
        if len(points) > 4:
            found.append((number, label, points))
        else:
            faults.append(f"line {number} is a box: a mask needs the outline of its object")
    return found, faults


def _object(line: str, num_classes: int, keypoints: int) -> tuple[int, Box]:
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError:
        commas = "has commas; numbers are apart by spaces, and fractions have a point" if "," in line else None
        raise ValueError(f"{commas or 'is not made of numbers'}: {brief(line.strip())!r}") from None
    if not label.is_integer() or not 0 <= label < num_classes:
        raise ValueError(f"has class {label:g}; there are {num_classes} classes, 0 to {num_classes - 1}")
    if keypoints and len(values) not in (4, 4 + keypoints):
        raise ValueError(
            f"has {len(values)} numbers after the class: a box has 4, with the keypoints of kpt_shape {4 + keypoints}"
        )
    if not keypoints and (number := _keypoints_seen(values)):
        raise ValueError(
            f"looks like a box with {number} keypoints of x, y and visibility, not like an outline: write "
            f"`kpt_shape: [{number}, 3]` into data.yaml"
        )
    values = values[:4] if keypoints else values
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"has {len(values)} numbers after the class: a box has 4, an outline two for each point")
    if not all(-BEYOND <= value <= 1 + BEYOND for value in values):  # False for NaN too
        raise ValueError(
            f"has numbers outside [0, 1]; fractions of the image's sides belong here, not pixels: "
            f"{brief(line.strip())!r}"
        )
    if len(values) > 4:
        xs, ys = values[::2], values[1::2]
        return int(label), (min(xs), min(ys), max(xs), max(ys))
    return int(label), _corners(values)


def _corners(box: list[float]) -> Box:
    x, y, width, height = box
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _keypoints_seen(values: list[float]) -> int:
    """How many keypoints x, y, visibility (0, 1, 2) follow a box that holds them; 0 where the numbers may be another's.

    An outline would need a 0 or 1 in every third place, and its other points in the box that the first two make.
    """
    box, rest = (values[:4], values[4:]) if len(values) > 4 else ([], [])
    points = list(zip(rest[::3], rest[1::3], rest[2::3]))
    if not points or len(rest) % 3 or not all(shown in (0, 1, 2) for _, _, shown in points):
        return 0
    seen = [_in_box(box, x, y) for x, y, shown in points if shown]
    hidden = [_in_box(box, x, y) or x == y == 0 for x, y, shown in points if not shown]
    return len(points) if any(seen) and all(seen + hidden) else 0


def _in_box(box: list[float], x: float, y: float) -> bool:
    x0, y0, x1, y1 = _corners(box)
    return x0 - AROUND <= x <= x1 + AROUND and y0 - AROUND <= y <= y1 + AROUND


def _check_outlines(files: Iterator[str]) -> None:
    """Refuse boxes with keypoints of x and y, which nothing but all lines together tells from outlines.

    All have as many numbers, each keypoint lies in its box and each box in its image; and as outlines some would cross
    themselves.
    """
    found: list[tuple[str, int, int]] = []  # file, line, keypoints
    crossing = False
    for file in itertools.islice(files, PROBED):
        for number, values in _long_lines(file):
            box, points = values[:4], list(zip(values[4::2], values[5::2]))
            found.append((file, number, len(points)))
            inside = len(values) % 2 == 0 and all(_in_box(box, *point) or point == (0, 0) for point in points)
            alike = len(points) == found[0][2] <= MOST_KEYPOINTS
            if not (alike and inside and all(-AROUND <= side <= 1 + AROUND for side in _corners(box))):
                return
            crossing = crossing or crosses_itself(list(zip(values[::2], values[1::2])))
    if crossing:
        file, number, keypoints = found[0]
        raise ConfigError(
            f"{file}: line {number}, and all others, look like a box with {keypoints} keypoints of x and y, not like "
            f"an outline: write `kpt_shape: [{keypoints}, 2]` into data.yaml"
        )


def _long_lines(file: str) -> Iterator[tuple[int, list[float]]]:
    """Numbers behind the class, of lines that are no box."""
    try:
        lines = read_text(Path(file), most_bytes=MOST_BYTES).split("\n")
        for number, words in enumerate(map(str.split, lines), start=1):
            if len(words) > 5:
                yield number, [float(word) for word in words[1:]]
    except (DataError, ValueError):
        return  # told by line when it is read


def _find(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    told, folder = description(root), root.parent if root.is_file() else root
    parts = paired_folders(folder, "images", LABELS, wanted)
    parts = parts if any(has(part.labels, (".txt",)) for part in parts.values()) else {}
    if WHOLE in parts and not fits(parts[WHOLE], ".txt") and (apart := _search(folder, wanted)):
        parts = apart  # one of the two lies in folders of splits
    if told is None or not (told.splits or told.missing):
        return parts
    listed = {split: SplitFiles(folder, folder, places=places) for split, places in told.splits.items()}
    if told.file.suffix.lower() == ".txt" and not _has_labels(folder, listed["train"], told):
        return parts  # lists of another layout's pictures
    parts = {split: part for split, part in parts.items() if split in wanted or plain(split) not in {WHOLE, *listed}}
    lost = {split for split in told.missing if split != "test" and not _standing_in(split, parts)}
    return (
        parts | listed | {split: SplitFiles(told.file, told.file) for split in lost}  # to be refused where it is used
    )


def _has_labels(folder: Path, part: SplitFiles, told: Description) -> bool:
    try:
        return any(_Heap(folder, part, told).labels)
    except DataError:
        return False


def _standing_in(split: str, parts: Collection[str]) -> str | None:
    """The usual folders of a split whose places are not there."""
    usual = TRAIN if split == "train" else VAL
    return next((name for name in parts if plain(name) in usual and plain(name) != "test"), None)


def _find_outlines(
    root: Path, wanted: tuple[str, ...], *, find: Callable[[Path, tuple[str, ...]], dict[str, SplitFiles]]
) -> dict[str, SplitFiles]:
    """Nothing where all labels are boxes, or have keypoints."""
    told, folder = description(root), root.parent if root.is_file() else root
    if told is not None and told.keypoints:
        return {}
    parts = find(root, wanted)
    heaps = (_Heap(folder, part, told) for part in parts.values() if told is None or part.images != told.file)
    files = (file for heap in heaps for files in heap.labels for file in files)
    return parts if any(map(_has_outlines, itertools.islice(files, PROBED))) else {}


def _has_outlines(file: str) -> bool:
    try:
        lines = read_text(Path(file), most_bytes=MOST_BYTES).split("\n")
    except DataError:
        return False
    return any(len(words) > 6 and len(words) % 2 for words in map(str.split, lines))


def _search(root: Path, wanted: tuple[str, ...]) -> dict[str, SplitFiles]:
    def is_label(file: Path) -> bool:
        return not is_class_file(file.name) and _begins_as_labels(file) is True

    return paired_by_content(root, ".txt", wanted, is_label) if root.is_dir() else {}


def _begins_as_labels(file: Path) -> bool | None:
    """By its first line; None where there is none."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            words = opened.read(FIRST_LINE).split("\n")[0].split()
        return len([float(word) for word in words]) > 4 if words else None
    except (OSError, ValueError):
        return False


def _open(root: Path, parts: dict[str, SplitFiles], *, outlines: bool = False) -> Opened:
    told, folder = description(root), root.parent if root.is_file() else root
    if told is not None and len(rivals := rival_descriptions(root, told)) > 1:
        raise ConfigError(
            f"data=folder: {first_few(rivals)} describe data: which is meant? data.root={rivals[0]}, or another"
        )
    for split, part in parts.items():
        if told is not None and part.images == told.file:
            raise ConfigError(
                f"{told.file}: {split} is {told.missing[split]}, which is not there. Correct it: paths start from "
                f"{' or '.join(map(str, told.roots))}"
            )
    if told is not None and told.keypoints is None:
        raise ConfigError(
            f"{told.file}: kpt_shape needs two numbers: of keypoints, and 2 or 3 of each, such as [17, 3]"
        )
    heaps = {split: _Heap(folder, part, told) for split, part in parts.items()}
    if told is None or not told.keypoints:
        _check_outlines(file for heap in heaps.values() for files in heap.labels for file in files)
    places = [place for heap in heaps.values() for place in heap.folders]
    above = [parent for place in places for parent in place.parents if parent.is_relative_to(folder)]
    names = class_list([root]) if root.is_file() else None  # the user's own choice, whatever lies beside
    if names is None:
        described = [told.file] if told is not None and told.file.suffix.lower() != ".txt" else []
        names = class_list([*described, folder, *places, *above])
    if names is None:
        raise ConfigError(
            f"data=folder: {folder} holds YOLO labels, but no class list. Write {folder / 'classes.txt'} with one "
            f"class name a line, that of class 0 first; data.yaml with `names:` does too"
        )
    notes = [*(_told(told, parts, folder) if told else []), *(note for heap in heaps.values() for note in heap.notes)]
    keypoints = (told.keypoints if told else None) or 0
    if outlines:
        classes, value_of = with_background(names)

        def read(split: str) -> tuple[Records, list[Problem]]:
            records, problems = _read_outlines(heaps[split], len(names))
            return relabelled(records, value_of), problems

        return Opened(classes, read, notes, later_on_top=True)
    return Opened(names, lambda split: _read(heaps[split], len(names), keypoints), notes)


def _told(told: Description, parts: dict[str, SplitFiles], folder: Path) -> list[str]:
    taken = [split for split, part in parts.items() if part.places]
    notes = [f"{told.file.name}: {', '.join(map(told.told, taken))}"] if taken else []
    for split, said in told.missing.items():
        if split != "test" and (usual := _standing_in(split, parts)):
            notes.append(f"{told.file.name} says {split} is {said}, which is not there: {usual} taken")
    around = os.path.abspath(folder)
    outside = [p for split in taken for p in told.splits[split] if not Path(os.path.abspath(p)).is_relative_to(around)]
    notes += [f"outside of data.root, as {told.file.name} has it: {first_few(map(str, outside))}"] if outside else []
    if told.passed:
        said = f"{told.file.name} says {first_few(told.passed)}"
        notes.append(f"{said}: of the two that are there, that inside of {folder} is taken")
    return notes + ([f"{told.keypoints} numbers of keypoints for each box left out"] if told.keypoints else [])


class _Heap:
    """The pictures of a split, and the label files of each: one, or none for a picture without objects."""

    def __init__(self, folder: Path, part: SplitFiles, told: Description | None):
        self.part, self.notes = part, []
        if told is not None and part.places:
            self.pictures, self.notes = pictures_of(part.places, told.roots)
            self.labels, self.left, notes = _labels_of_places(self.pictures, folder, part.places)
            self.notes += notes
        else:
            self.pictures = pictures_below(part.images)[0]
            self.labels, self.left, self.notes = _labels_of_folder(self.pictures, part)
            if part.both:
                self.pictures = [file for file, labels in zip(self.pictures, self.labels) if labels]
                self.labels, self.left = [labels for labels in self.labels if labels], []
        around = {os.path.dirname(file) for files in (self.pictures, *self.labels) for file in files}
        self.folders = sorted({*map(Path, around), part.images, part.labels})  # where class lists may lie
        strange = [file for file in self.left if _begins_as_labels(Path(file)) is False]
        self.left = [file for file in self.left if file not in strange]
        if strange:
            files = f"{counted(len(strange), 'text file')} without labels left out"
            self.notes.append(f"{files}: {first_few(map(os.path.basename, strange), 3)}")


def _labels_of_folder(pictures: list[str], part: SplitFiles) -> tuple[list[list[str]], list[str], list[str]]:
    """Of each picture its label files; the label files that are left; and what to tell people."""
    texts = [
        f for f in files_below(part.labels) if f.lower().endswith(".txt") and not is_class_file(os.path.basename(f))
    ]
    paired = paired_by_name([place_below(file, part.images) for file in pictures], by_stem(texts, part.labels))
    return paired.labels, paired.left, found_note(paired.found)


def _labels_of_places(
    pictures: list[str], folder: Path, places: tuple[Path, ...]
) -> tuple[list[list[str]], list[str], list[str]]:
    """As Ultralytics finds them: in `labels` for `images`, or beside the picture; else wherever their names are."""
    own: dict[str, list[str]] = {}  # folder -> its pictures
    for file in pictures:
        own.setdefault(os.path.dirname(file), []).append(file)
    inside: dict[str, dict[str, list[str]]] = {}  # folder of pictures -> its label files by their names
    for place in own:
        options = [*_mirrored(Path(place)), Path(place)]
        inside[place] = next((texts for option in options if (texts := _texts_in(option))), {})
    paired = {place: paired_by_name(list(map(os.path.basename, own[place])), inside[place]) for place in own}
    if not any(files for pairs in paired.values() for files in pairs.labels):
        for part in _search(folder, ()).values():
            for place in own:
                if Path(place).is_relative_to(part.images):
                    inside[place] = _texts_in(part.labels / Path(place).relative_to(part.images))
        paired = {place: paired_by_name(list(map(os.path.basename, own[place])), inside[place]) for place in own}
    of = {file: labels for place, files in own.items() for file, labels in zip(files, paired[place].labels)}
    used = {file for labels in of.values() for file in labels}
    whole = [place for place in own if any(Path(place).is_relative_to(p) for p in places if p.is_dir())]
    left = sorted({file for place in whole for file in paired[place].left} - used)
    notes = found_note([name for pairs in paired.values() for name in pairs.found])
    return [of[file] for file in pictures], left, notes


def _mirrored(place: Path) -> Iterator[Path]:
    """a/images/train -> a/labels/train, from the last such folder on"""
    for number in range(len(place.parts) - 1, -1, -1):
        if place.parts[number].lower() in IMAGES and (beside := child(Path(*place.parts[:number]), LABELS)):
            yield beside.joinpath(*place.parts[number + 1 :])


def _texts_in(folder: Path) -> dict[str, list[str]]:
    return by_stem((str(file) for file in files_in(folder, ".txt") if not is_class_file(file.name)), folder)


def _read(heap: _Heap, num_classes: int, keypoints: int) -> tuple[Records, list[Problem]]:
    recorder, problems = Recorder(), []
    for image, file, path in _images(heap, recorder, problems):
        try:
            objects, faults = read_labels(path, num_classes, keypoints)
        except DataError as error:
            objects, faults = [], [str(error).removeprefix(f"{path}: ")]
        problems += [Problem(str(path), fault, "Correct or delete it", image) for fault in faults]
        width, height = _upright_size(file) if objects else (0, 0)
        for line, label, (x0, y0, x1, y1) in objects if width else []:
            recorder.box((x0 * width, y0 * height, x1 * width, y1 * height), label, box_id=line)
    return _with_lost(heap, recorder), problems


def _read_outlines(heap: _Heap, num_classes: int) -> tuple[Records, list[Problem]]:
    recorder, problems = Recorder(), []
    for image, file, path in _images(heap, recorder, problems, sized=True):
        try:
            objects, faults = read_outlines(path, num_classes)
        except DataError as error:
            objects, faults = [], [str(error).removeprefix(f"{path}: ")]
        width, height = _upright_size(file) if objects else (0, 0)
        for line, label, points in objects if width else []:
            corners = [value * side for value, side in zip(points, itertools.cycle((width, height)))]
            try:
                outline = compressed_outline([corners], (height, width))
            except DataError as error:
                faults.append(f"line {line} {error}")
                continue
            xs, ys = corners[::2], corners[1::2]
            recorder.box((min(xs), min(ys), max(xs), max(ys)), label, box_id=line, outline=outline)
        problems += [Problem(str(path), fault, "Correct or delete it", image) for fault in faults]
    return _with_lost(heap, recorder), problems


def _images(
    heap: _Heap, recorder: Recorder, problems: list[Problem], *, sized: bool = False
) -> Iterator[tuple[int, str, Path]]:
    """Record each image of a split, and give those that have labels: (index, picture, label file)."""
    owners: dict[str, list[str]] = {}
    for file, paths in zip(heap.pictures, heap.labels):
        for path in paths:
            owners.setdefault(path, []).append(file)
    for image, (file, paths) in enumerate(zip(heap.pictures, heap.labels)):
        width, height = _upright_size(file) if sized else (0, 0)
        recorder.image(file, size=(height, width))
        if not paths:
            continue  # an image without objects
        if len(paths) > 1 or len(owners[paths[0]]) > 1:
            both = (
                f"{first_few(paths)} are both its labels"
                if len(paths) > 1
                else f"{paths[0]} belongs to {' and to '.join(owners[paths[0]][:5])}"
            )
            problems.append(Problem(file, f"{both}: which one?", "Remove or rename the other", image))
            continue
        yield image, file, Path(paths[0])


def _with_lost(heap: _Heap, recorder: Recorder) -> Records:
    for path in heap.left:  # labels without an image: the file is missing, which verification reports
        name = stem(path, heap.part.labels) if Path(path).is_relative_to(heap.part.labels) else Path(path).stem
        recorder.image(str(heap.part.images / f"{name}.*"))
    return recorder.records()


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
data.yaml                  with `names:`, or classes.txt with a name a line; its `train:`, `val:`, `test:` count
images/train/*.jpg         labels/train/*.txt
images/val/*.jpg           labels/val/*.txt          or train/images/, train/labels/, or labels beside the pictures
obj.data, obj.names        train.txt, obj_train_data/          as CVAT exports it
""",
    find=_find,
    open=_open,
    search=_search,
    files=(".yaml", ".yml", ".data"),
)
YOLO_OUTLINES = Layout(
    title="YOLO txt with outlines",
    kind="segmentation",
    tree="""
the same files as for detection, with `class x y x y ...` a line: later lines lie on top of earlier ones, the rest is
background
""",
    find=partial(_find_outlines, find=_find),
    open=partial(_open, outlines=True),
    search=partial(_find_outlines, find=_search),
    files=YOLO.files,
)
