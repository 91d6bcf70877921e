"""How pictures are drawn: sizes at which text can be read, colours, text that fits."""

import colorsys
import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from mnv2_tasks.drawing.fonts import pieces
from mnv2_tasks.wording import shortened, visible

MIN_SIDE = 360  # pixels of a picture: smaller images are enlarged, so that text is legible on them
MAX_SIDE = 1280  # larger ones are reduced: pictures are for looking at, results.json is exact
DARK, PANEL, TRACK, GREY, LIGHT = (18, 18, 20), (34, 34, 38), (58, 58, 64), (150, 150, 156), (240, 240, 240)

AS_WRITTEN: dict[Any, Any] = {"text.parse_math": False}  # for matplotlib, to which a `$` in a name begins a formula

Colour = tuple[int, int, int]
GOLDEN = 0.618033988749895
TONES = [(0.8, 1.0), (0.45, 1.0), (1.0, 0.65), (0.6, 0.85)]  # saturation and value; the next after twelve hues


@cache
def class_colours(num: int) -> tuple[Colour, ...]:
    """RGB of each class. The colour of a class depends on its index alone.

    Hues advance by the golden ratio: neighbours lie far apart and no hue comes back.
    """
    colours = []
    for index in range(num):
        saturation, value = TONES[index // 12 % len(TONES)]
        red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN % 1, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colours)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out more (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def fit(image: np.ndarray) -> tuple[np.ndarray, float]:
    """A copy of a good size for looking at, and the picture's pixels per pixel of the image.

    Enlarged by a whole number or reduced, then widened at the right and at the bottom if it is still so narrow that
    no text would fit.
    """
    short, long = sorted(image.shape[:2])
    scale = MAX_SIDE / long if long > MAX_SIDE else max(1, min(math.ceil(MIN_SIDE / short), MAX_SIDE // long))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, scaled_size(image, scale), interpolation=method)
    return pad(resized, MIN_SIDE // 4, MIN_SIDE * 2 // 3), scale


def scaled_size(image: np.ndarray, scale: float) -> tuple[int, int]:
    """(width, height), as OpenCV wants it."""
    return max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))


def pad(picture: np.ndarray, height: int, width: int, colour: Colour = PANEL) -> np.ndarray:
    """At least this large, by a margin at the right and at the bottom."""
    below, right = max(0, height - picture.shape[0]), max(0, width - picture.shape[1])
    return cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT, value=colour)


def strip(height: int, width: int, colour: Colour = PANEL) -> np.ndarray:
    return np.full((1, width, 3), colour, np.uint8).repeat(height, axis=0)  # full() of colours is slow


class Canvas:
    """A picture to draw and write on, with text in proportion to its size."""

    def __init__(self, picture: np.ndarray, size: int | None = None):
        self.height, self.width = picture.shape[:2]
        self.text_size = size or text_size(picture)
        self.row = round(1.6 * self.text_size)  # height of a line of text
        self.line = max(3, round(0.004 * (self.height + self.width) / 2))
        self.image = Image.fromarray(picture)
        self.draw = ImageDraw.Draw(self.image)

    def array(self) -> np.ndarray:
        return np.array(self.image)

    def text_width(self, text: str, bold: bool = False) -> int:
        return _text_width(text, self.text_size, bold)

    def elide(self, text: str, width: int, bold: bool = False) -> str:
        """One line of text, or as much of its beginning as fits into `width` pixels, and an ellipsis."""
        text = shortened(visible(" ".join(text.split())), 400)  # no line of a picture holds more
        if self.text_width(text, bold) <= width:
            return text
        lengths = range(1, len(text))
        keep = bisect_right(lengths, width, key=lambda keep: self.text_width(text[:keep].rstrip() + "…", bold))
        return text[:keep].rstrip() + "…" if keep else ""

    def write(self, x: int, middle: float, text: str, colour: Colour, bold: bool = False, anchor: str = "l") -> None:
        """One line: its left end (or right end, anchor "r") at x, centred on the height `middle`."""
        letters, left, ascent = _letters(text, self.text_size, bold)
        start = x - self.text_width(text, bold) if anchor == "r" else x
        self.draw.bitmap((start - left, round(middle + 0.31 * self.text_size) - ascent), letters, fill=colour)


@lru_cache(10_000)  # names of classes come again with every picture
def _text_width(text: str, size: int, bold: bool) -> int:
    return math.ceil(sum(font.getlength(part) for part, font in pieces(text, size, bold)))


@lru_cache(1_000)
def _letters(text: str, size: int, bold: bool) -> tuple[Image.Image, int, int]:
    """How a line covers its pixels, 0 to 255, and where in that picture it begins: from the left, and its baseline."""
    left, ascent = size, 2 * size  # room for letters that reach beyond their place
    picture = Image.new("L", (left + _text_width(text, size, bold) + left, 3 * size))
    draw, place = ImageDraw.Draw(picture), float(left)
    for part, font in pieces(text, size, bold):
        draw.text((place, ascent), part, fill=255, font=font, anchor="ls")
        place += font.getlength(part)
    return picture, left, ascent


def legend(picture: np.ndarray, entries: Sequence[tuple[str, Colour]], nothing: str) -> np.ndarray:
    """The picture with a strip below it: a swatch and a text for each entry, in as many lines as needed.

    Args:
        nothing: what to say if there are no entries.
    """
    margin = size = text_size(picture)
    measure = Canvas(picture[:1], size)
    places, x, y = [], margin, size // 2
    for text, colour in entries:
        text = measure.elide(text, measure.width - 2 * margin - 2 * size)
        needed = 2 * size + measure.text_width(text)
        if x > margin and x + needed > measure.width - margin:
            x, y = margin, y + measure.row
        places.append((x, y + measure.row / 2, text, colour))
        x += needed + size
    canvas = Canvas(strip(y + measure.row + size // 2, picture.shape[1]), size)
    if not entries:
        canvas.write(margin, y + canvas.row / 2, canvas.elide(nothing, canvas.width - 2 * margin), GREY)
    for x, middle, text, colour in places:
        canvas.draw.rectangle((x, round(middle - 0.45 * size), x + size, round(middle + 0.45 * size)), fill=colour)
        canvas.write(x + round(1.5 * size), middle, text, LIGHT)
    return np.concatenate([picture, canvas.array()])


def text_size(picture: np.ndarray) -> int:
    """In pixels, between what can be read and what would be a headline."""
    return min(28, max(16, round(0.024 * (picture.shape[0] + picture.shape[1]) / 2)))
