"""An annotation file in COCO's format -> records."""

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnv2_tasks.data.download.safe_names import path_within
from mnv2_tasks.data.images.decode import upright_size
from mnv2_tasks.data.images.limits import LONGEST_SIDE, MOST_PIXELS, too_many_pixels
from mnv2_tasks.data.reading.class_names import written
from mnv2_tasks.data.reading.marks import is_marked
from mnv2_tasks.data.reading.outlines import compressed_outline, outline_box
from mnv2_tasks.data.reading.problems import Problem
from mnv2_tasks.data.reading.records import Records, Texts
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import brief

SECTIONS = ("images", "annotations", "categories")
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")  # "01" may be another id than "1"
NO_JSON = "is not valid JSON"
OTHER_FILE = "Is this the file of another split or release?"


class CocoJson(NamedTuple):
    records: Records
    problems: list[Problem]
    categories: dict[int, str]  # {id: name} as the file lists them, in the order of ids


def read_coco_json(
    path: Path,
    pictures: Path | None,
    *,
    root: Path,
    outlines: bool,
    labels: Mapping[int, int] | None = None,
    elsewhere: Callable[[str], str | None] = lambda name: None,
    annotated: bool = True,
) -> CocoJson:
    """Images, boxes and, if asked for, outlines. Images without objects are kept.

    A missing `iscrowd` is 0, a missing `area` is that of the box. An annotation that cannot become a box of an image is
    a problem and not in the records. Where outlines are read, boxes are theirs, and it is the whole image that is bad:
    the pixels of an object that is left out would pass for background.

    Args:
        path: such as instances_val2017.json.
        pictures: the folder that `file_name` starts from; None: there is none, `elsewhere` knows each.
        root: of the data set, which no `file_name` leaves.
        outlines: read `segmentation`, which takes most of the file; the records' sizes are those of their pixels.
        labels: {category id: label}; objects of other categories are left out. By default the file's categories are
            numbered in the order of their ids.
        elsewhere: the name of a picture that does not lie within `root` -> the file that is meant, None for none.
        annotated: False: the images alone are read, as of a test set that is published without annotations.

    Raises:
        DataError: the file is not in COCO's format, is cut short, lists an image twice or a category that annotations
            use, names a picture outside of `root`, or has no annotations or, where they are asked for, outlines.
        ConfigError: none of its pictures is there.
    """
    content = _sections(path, outlines=outlines, labels=labels, annotated=annotated)
    categories = _categories(path, content["categories"], content["annotations"])
    label_of = labels if labels is not None else {number: label for label, number in enumerate(categories)}
    files, ids, sizes, problems = _images(path, content["images"], pictures, root, elsewhere)
    if not any(os.path.isfile(file) for file in files):  # ends with the first that is
        first = content["images"][0]["file_name"]
        raise ConfigError(f"{path}: none of its {len(files):,} pictures lies in {pictures}; the first is {first}")
    if outlines:
        sizes = [size if 0 not in size else _size_of(file) for file, size in zip(files, sizes)]
    boxes = _Boxes(path, ids, sizes, set(categories), label_of, outlines=outlines)
    for number, annotation in enumerate(content["annotations"], start=1):
        boxes.add(number, annotation)
    if outlines and boxes.without_outline and not boxes.outlines:
        raise DataError(
            f"{path}: none of its {boxes.without_outline:,} objects has an outline ('segmentation'): "
            f"it was made for boxes, segmentation cannot be learned from it"
        )
    records = boxes.records(Texts(files))
    return CocoJson(records, [*problems, *boxes.problems], categories)


def _sections(path: Path, *, outlines: bool, labels: Mapping[int, int] | None, annotated: bool) -> dict[str, list]:
    """The file's lists, none of them empty but the annotations of a set without."""
    content = parse(path, outlines=outlines, labels=labels) | ({} if annotated else {"annotations": []})
    missing = [section for section in SECTIONS if not isinstance(content.get(section), list)]
    if missing == ["annotations"]:
        raise DataError(f"{path}: has images but no 'annotations'; a test split is published without labels")
    if missing:
        raise DataError(
            f"{path}: is not in COCO's format, it lacks the lists {missing}; it has {brief(sorted(content))}"
        )
    for section in SECTIONS:
        if not content[section] and (annotated or section != "annotations"):
            raise DataError(f"{path}: its list of {section} is empty, there is nothing to learn or to evaluate")
    return content


def parse(path: Path, *, outlines: bool = False, labels: Mapping[int, int] | None = None) -> dict[str, Any]:
    """The file, without the outlines that nobody asked for: they would fill the memory.

    Raises:
        DataError: it cannot be opened, or is no JSON object.
    """
    wanted = None if labels is None else tuple(labels)

    def lean(record: dict[str, Any]) -> dict[str, Any]:
        if "segmentation" in record:
            if not outlines or (wanted is not None and _number(record.get("category_id")) not in wanted):
                del record["segmentation"]
        return record

    try:
        with path.open(encoding="utf-8-sig") as file:  # some tools begin it with a byte order mark
            content = json.load(file, object_hook=lean)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason}). Save it as UTF-8") from None
    except ValueError as error:  # of a number with more than 4,300 digits too
        raise DataError(f"{path}: {NO_JSON} ({error}); was it cut short?") from None
    except RecursionError:
        raise DataError(f"{path}: has lists and objects within each other, deeper than any annotation") from None
    except MemoryError:
        raise DataError(f"{path}: is too large for this machine's memory") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is a {type(content).__name__}, COCO's format is an object with {list(SECTIONS)}")
    return content


def _categories(path: Path, rows: list, annotations: list) -> dict[int, str]:
    """Of categories that share an id or a name, those that annotations use: Roboflow puts one before, as a root."""
    listed: dict[tuple[int, str], None] = {}
    for row in rows:
        number = _number(row.get("id")) if isinstance(row, dict) else None
        if not isinstance(number, int) or not isinstance(row.get("name"), str):
            raise DataError(f"{path}: a category needs an id, a whole number, and a name: {brief(row)}")
        if not -(2**63) <= number < 2**63:
            raise DataError(f"{path}: category {brief(row)} has an id that 64 bits do not hold")
        if not row["name"].strip():
            raise DataError(f"{path}: category {number} has an empty name. Give it one: {brief(row)}")
        listed[number, written(row["name"])] = None
    ids, names = Counter(number for number, _ in listed), Counter(name for _, name in listed)
    if len(ids) == len(names) == len(listed):
        return dict(sorted(listed))
    used = {
        number
        for row in annotations
        if isinstance(row, dict) and type(number := _number(row.get("category_id"))) is int
    }
    kept: dict[int, str] = {}
    number_of: dict[str, int] = {}
    for number, name in sorted(listed, key=lambda category: category[0] not in used):  # those in use come first
        if number in kept and number in used:
            raise DataError(
                f"{path}: category {number} ({brief(kept[number])}, {brief(name)}) is listed twice, with two names: "
                f"which is its own? Delete the other, or give it another id"
            )
        if name in number_of and number in used:
            raise DataError(
                f"{path}: category {number} ({brief(name)}) is listed twice, also as {number_of[name]}, and "
                f"annotations use both ids. Rename one of the two, or give all their annotations one category_id"
            )
        if number not in kept and name not in number_of:
            kept[number] = name
            number_of[name] = number
    return dict(sorted(kept.items()))


def _number(said: Any) -> Any:
    """A number that some tools write as text, or tables as 7.0, as the whole number where it is one."""
    if isinstance(said, str) and WHOLE_NUMBER.fullmatch(said):
        return int(said)
    return int(said) if isinstance(said, float) and said.is_integer() and abs(said) < 2**53 else said


def _check_size(image: str, size: tuple[Any, Any], row: Any) -> None:
    if not all(isinstance(side, int) and 0 <= side <= LONGEST_SIDE for side in size):
        raise DataError(
            f"{image} needs whole numbers up to {LONGEST_SIDE:,} as height and width, or neither: {brief(row)}"
        )
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(f"{image} has {too_many_pixels(size)}: {brief(row)}")


def _images(
    path: Path, rows: list, pictures: Path | None, root: Path, elsewhere: Callable[[str], str | None]
) -> tuple[list[str], list[int], list[tuple[int, int]], list[Problem]]:
    """Files, ids, (height, width), and a problem for each file that is listed again."""
    files, ids, sizes, problems = [], [], [], []
    place_of_file: dict[str, int] = {}
    known: set[tuple[int, int]] = set()  # sizes that are right
    for place, row in enumerate(rows):
        try:
            file, number = row["file_name"], _number(row["id"])
            size = _number(row.get("height") or 0), _number(row.get("width") or 0)
            size = (0, 0) if 0 in size else size
        except (TypeError, KeyError, AttributeError):
            raise DataError(f"{path}: image number {place + 1} needs an id and a file_name: {brief(row)}") from None
        if not isinstance(file, str) or not isinstance(number, int) or not -(2**63) <= number < 2**63:
            raise DataError(
                f"{path}: image number {place + 1} needs a text as file_name and a whole number as id: {brief(row)}"
            )
        if type(size[0]) is not int or type(size[1]) is not int or size not in known:
            _check_size(f"{path}: image number {place + 1}", size, row)
            known.add(size)
        file = file.replace("\\", "/")  # as Windows writes it
        try:
            inside = path_within(root, pictures or root, file, f"{path}: image number {place + 1}")
            file = inside if pictures is not None else elsewhere(file) or inside
        except DataError:
            if (found := elsewhere(file)) is None:
                raise
            file = found
        first = place_of_file.setdefault(file, place)
        if first != place:
            what = f"{os.path.relpath(file, pictures or root)} is listed again, first as image {ids[first]}"
            problems.append(Problem(str(path), what, "Give all its annotations to one of them", place))
        files.append(file)
        ids.append(number)
        sizes.append(size)
    twice = [number for number, times in Counter(ids).items() if times > 1]
    if twice:
        raise DataError(
            f"{path}: lists image ids more than once, so their annotations cannot be told apart: {twice[:5]}; "
            f"were two files merged without giving new ids?"
        )
    return files, ids, sizes, problems


def _size_of(file: str) -> tuple[int, int]:
    """(height, width) from the picture's header, where the annotations do not say; 0 if it has none."""
    try:
        return upright_size(file)
    except DataError:
        return 0, 0


class _Boxes:
    """Annotations, collected column by column: a Python object for each of a million would take a gigabyte."""

    def __init__(
        self,
        path: Path,
        ids: list[int],
        sizes: list[tuple[int, int]],
        categories: set[int],
        label_of: Mapping[int, int],
        *,
        outlines: bool,
    ):
        self.path, self.ids, self.sizes = path, ids, sizes
        self.place_of = {number: place for place, number in enumerate(ids)}
        self.categories, self.label_of, self.with_outlines = categories, label_of, outlines
        self.owner, self.label, self.number = array("q"), array("q"), array("q")
        self.corners, self.area, self.crowd = array("d"), array("d"), array("b")
        self.outlines: list[str] = []
        self.without_outline = 0
        self.problems: list[Problem] = []

    def add(self, number: int, annotation: Any) -> None:
        """`number` counts the annotations, for those that have no id."""
        try:
            place, category = self.place_of[_number(annotation["image_id"])], _number(annotation["category_id"])
            if category not in self.categories:
                raise KeyError(category)
            if category not in self.label_of:
                return
            outline = self._outline(annotation, place) if self.with_outlines else None
            bbox = outline_box(outline, self.sizes[place]) if outline is not None else annotation["bbox"]
            x, y, width, height = (float(value) for value in bbox)
            area, crowd = annotation.get("area"), is_marked(annotation.get("iscrowd"))
            crowd = crowd or is_marked(annotation.get("ignore"))  # as mmdetection writes what is difficult
            area = width * height if area is None else float(area)
            said = _number(annotation.get("id"))  # LabelMe and others have texts
            self.number.append(
                said if isinstance(said, int) else number
            )  # at last: it refuses what 64 bits do not hold
        except DataError as error:
            self._report(number, annotation, str(error), "Correct or delete it")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self._report(number, annotation, *self._fault(annotation))
        else:
            self.owner.append(place)
            self.label.append(self.label_of[category])
            self.corners.extend((x, y, x + width, y + height))
            self.area.append(area)
            self.crowd.append(crowd)
            if outline is not None:
                self.outlines.append(outline)

    def _outline(self, annotation: dict[str, Any], place: int) -> str:
        if not annotation.get("segmentation"):
            self.without_outline += 1
        if 0 in self.sizes[place]:
            raise DataError("has an outline, and its image no height and width")
        return compressed_outline(annotation.get("segmentation"), self.sizes[place])

    def _report(self, number: int, annotation: Any, what: str, remedy: str) -> None:
        known = isinstance(annotation, dict)
        name = annotation.get("id", f"number {number}") if known else f"number {number}"
        image = _number(annotation.get("image_id")) if self.with_outlines and known else None
        place = self.place_of.get(image) if isinstance(image, int) else None
        title = name if isinstance(name, int | str) and len(str(name)) < 40 else brief(name)
        self.problems.append(Problem(str(self.path), f"annotation {title} {what}", remedy, place))

    def _fault(self, annotation: Any) -> tuple[str, str]:
        """(what, remedy) of an annotation that could not be read."""
        correct = "Correct or delete it"
        if not isinstance(annotation, dict):
            return f"is {brief(annotation)}", correct
        for key in ("image_id", "category_id", "bbox"):
            if annotation.get(key) is None:
                return f"has no {key}", correct
        image, category = _number(annotation["image_id"]), _number(annotation["category_id"])
        if not isinstance(image, int) or image not in self.place_of:
            return f"belongs to image {brief(image)}, absent from 'images'", OTHER_FILE
        if not isinstance(category, int) or category not in self.categories:
            return f"has category {brief(category)}, absent from 'categories'", OTHER_FILE
        shown = {key: annotation.get(key) for key in ("id", "bbox", "area", "iscrowd")}
        return f"needs numbers, and as bbox x, y, width, height: {brief(shown)}", correct

    def records(self, files: Texts) -> Records:
        """Boxes in the order of their images."""
        owner = np.array(self.owner, np.int64)
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=len(self.ids))
        return Records(
            files=files,
            ids=np.array(self.ids, np.int64),
            sizes=np.array(self.sizes, np.int32).reshape(-1, 2),
            labels=np.zeros(0, np.int64),
            masks=Texts(),
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=np.array(self.corners, np.float64).reshape(-1, 4)[order],
            box_labels=np.array(self.label, np.int64)[order],
            box_ids=np.array(self.number, np.int64)[order],
            areas=np.array(self.area, np.float64)[order],
            crowd=np.array(self.crowd, bool)[order],
            outlines=Texts(self.outlines[i] for i in order) if self.with_outlines else Texts(),
        )
