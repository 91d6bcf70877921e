"""One annotation in PASCAL VOC's XML, as the challenge and many annotation tools write it."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mnv2_tasks.data.images.limits import LONGEST_SIDE, MOST_PIXELS, too_many_pixels
from mnv2_tasks.data.reading.class_names import written
from mnv2_tasks.data.reading.marks import is_marked
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import read_bytes
from mnv2_tasks.wording import brief

MOST_BYTES, MOST_TAGS = 4 << 20, 300_000  # of one picture: ten thousand objects
SIDES = ("xmin", "ymin", "xmax", "ymax")

Corners = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax


class VocObject(NamedTuple):
    name: str
    corners: Corners  # as written: `pixel_box` makes pixels of them
    difficult: bool  # hard to recognise: VOC's own evaluation counts it neither as a hit nor as a miss


class VocAnnotation(NamedTuple):
    file_name: str  # the picture's, "" where the file does not tell
    size: tuple[int, int]  # (height, width), (0, 0) where the file does not tell
    objects: list[VocObject]


def read_voc_xml(path: Path) -> VocAnnotation:
    """Everything that detection needs. Objects' parts (head, hand, foot) are left out.

    Raises:
        DataError: no XML, no <annotation>, or an object whose name or corners are missing or are no numbers; it starts
            with "<path>: " and says which object. Corners that are NaN or reversed are returned as they are.
    """
    try:
        content = read_bytes(path, most_bytes=MOST_BYTES)
    except ConfigError as error:
        raise DataError(str(error)) from None
    if b"<!DOCTYPE" in content or b"<\0!\0D" in content:  # the latter in UTF-16
        raise DataError(
            f"{path}: has a <!DOCTYPE>, whose entities can unpack without end; no annotation needs it. Delete it"
        )
    if content.count(b"<") > MOST_TAGS:
        raise DataError(f"{path}: has more than {MOST_TAGS:,} tags, which no picture needs")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter: an encoding that does not exist
        encoded = not isinstance(error, ElementTree.ParseError) or not _is_utf8(content)
        remedy = ". Save it as UTF-8, and say so in its first line" if encoded else "; was it cut short?"
        raise DataError(f"{path}: is not valid XML ({error}){remedy}") from None
    if root.tag != "annotation":
        raise DataError(f"{path}: begins with <{brief(root.tag)}>, a VOC annotation begins with <annotation>")
    size = root.find("size")
    sides = (0, 0) if size is None else (_pixels(path, size, "height"), _pixels(path, size, "width"))
    sides = (0, 0) if 0 in sides else sides
    objects = [_object(path, number, element) for number, element in enumerate(root.findall("object"), start=1)]
    if sides[0] * sides[1] > MOST_PIXELS:
        raise DataError(f"{path}: <size> has {too_many_pixels(sides)}")
    return VocAnnotation((root.findtext("filename") or "").strip(), sides, objects)


def corners_are_one_based(corners: Iterable[Corners]) -> bool:
    """Whether a whole data set counts its pixels from 1, as VOC does, or from 0, as many tools do in the same XML.

    One corner at 0 settles it. A data set without any is taken at the format's word: an error of one pixel at most.
    """
    return not any(xmin < 1 or ymin < 1 for xmin, ymin, _, _ in corners)


def pixel_box(corners: Corners, *, one_based: bool) -> Corners:
    """xyxy pixel edges. VOC's corners are the first and the last pixel inside, counted from 1."""
    xmin, ymin, xmax, ymax = corners
    return (xmin - 1, ymin - 1, xmax, ymax) if one_based else corners


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _object(path: Path, number: int, element: Element) -> VocObject:
    name = written((element.findtext("name") or "").strip())
    if not name:
        raise DataError(f"{path}: object {number} has no <name>")
    title = f"object {number} ({name})"
    box = element.find("bndbox")
    if box is None:
        raise DataError(f"{path}: {brief(title)} has no <bndbox>")
    xmin, ymin, xmax, ymax = (_number(path, title, box, side) for side in SIDES)
    return VocObject(name, (xmin, ymin, xmax, ymax), _mark(path, title, element, "difficult"))


def _mark(path: Path, title: str, parent: Element, tag: str) -> bool:
    try:
        return is_marked(parent.findtext(tag))
    except ValueError:
        text = (parent.findtext(tag) or "").strip()
        raise DataError(
            f"{path}: {brief(title)} has <{tag}>{brief(text)}</{tag}>; expected 0 or 1, true, false or Unspecified"
        ) from None


def _pixels(path: Path, size: Element, side: str) -> int:
    text = size.findtext(side)
    if text is not None and not text.strip():
        return 0  # not said
    number = _number(path, "<size>", size, side)
    if not 0 <= number <= LONGEST_SIDE or not number.is_integer():
        raise DataError(f"{path}: <size> has a {side} of {number:g}, expected whole pixels up to {LONGEST_SIDE:,}")
    return int(number)


def _number(path: Path, title: str, parent: Element, tag: str) -> float:
    text = parent.findtext(tag)
    if text is None:
        raise DataError(f"{path}: {brief(title)} has no <{tag}>")
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{path}: {brief(title)} has <{tag}>{brief(text)}</{tag}>, which is not a number") from None
