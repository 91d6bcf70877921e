"""What the pixels of mask files say: class indices, colours, or black and white -> class indices."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.images.decode import read_colours, read_mask

STRAY = 254  # of a colour that no map lists; more classes than that a mask cannot have
WHITE = 128  # grey value from which a pixel is white
SHOWN = 8
FORMS = ("index", "colour", "white")


class MaskValues(NamedTuple):
    """The default: a pixel's value is its class, and `IGNORE` none."""

    form: str = "index"  # or "colour", or "white": black is class 0, white is class 1
    classes: tuple[tuple[int, int], ...] = ()  # (value, or 0xRRGGBB, its class or IGNORE), where that is not the value

    def read(self, path: str | Path) -> np.ndarray:
        """(H, W) uint8 class indices of a file."""
        return self.classes_of(self.pixels(path))

    def pixels(self, path: str | Path) -> np.ndarray:
        """(H, W) int values, or 0xRRGGBB, as the file has them.

        Raises:
            DataError: it cannot be read, or holds no such values.
        """
        if self.form == "index":
            return read_mask(path, known=tuple(value for value, _ in self.classes))
        rgb = read_colours(path)
        if self.form == "white":
            return rgb.max(axis=2)
        red, green, blue = rgb.astype(np.int32).transpose(2, 0, 1)
        return red << 16 | green << 8 | blue

    def classes_of(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W) uint8; values that are no class stay beyond the classes."""
        if self.form == "colour":
            return _table_of_colours(self.classes)[pixels]
        table = np.arange(256, dtype=np.uint8)
        if self.form == "white":
            table = (table >= WHITE).astype(np.uint8)
        for value, label in self.classes:
            if 0 <= value < 256:
                table[value] = label
        return pixels if self == INDICES else table[pixels]

    def strays(self, pixels: np.ndarray, num_classes: int) -> str:
        """What is no class and not `IGNORE`, for people, the first few."""
        if self.form == "colour":
            labels = self.classes_of(pixels)
            codes = np.unique(pixels[labels == STRAY]).tolist()
            return ", ".join(f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in codes[:SHOWN])
        values = np.unique(pixels)
        labels = self.classes_of(values)
        return ", ".join(map(str, values[(labels >= num_classes) & (labels != IGNORE)].tolist()[:SHOWN]))


INDICES = MaskValues()


@cache
def _table_of_colours(classes: tuple[tuple[int, int], ...]) -> np.ndarray:
    table = np.full(1 << 24, STRAY, np.uint8)
    for code, label in classes:
        table[code] = label
    return table
