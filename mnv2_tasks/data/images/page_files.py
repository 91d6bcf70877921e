"""Files of several pictures: the pages of a TIFF, the frames of an animated GIF, WebP or PNG."""

import io
import re
import threading
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from mnv2_tasks.data.images.decode import FORMATS, from_pillow, is_deep, opened
from mnv2_tasks.data.images.deep import FULL, eight_bits
from mnv2_tasks.data.images.file_bytes import content_of
from mnv2_tasks.data.images.limits import MOST_PIXELS, too_many_pixels
from mnv2_tasks.data.images.unwarned import unwarned
from mnv2_tasks.errors import DataError

PAGED = (".gif", ".tif", ".tiff", ".webp", ".png")
MOST_PAGES = 20_000
SUBFILE, NO_PAGE = 254, 0b101  # TIFF's tag; it says that this is a smaller copy of a page, or its mask
NAME = re.compile(r"(?P<file>.+), (?:page|frame) (?P<number>\d+)", re.DOTALL)


class Pages:
    """The pictures of one file, of which one is in memory at a time. Several threads may read them.

    In their order is cheapest: a frame of an animation is drawn over those before it. The file's bytes are kept from
    the first picture to the last.

    Args:
        file: its path, or its bytes.
        name: what errors call it.

    Raises:
        DataError: it cannot be opened, or has more than MOST_PAGES.
    """

    def __init__(self, file: Path | bytes, name: str):
        self._file, self._name, self._alone = file, name, threading.Lock()
        self._content: bytes = b""  # while it is read, as the next
        self._image: Image.Image | None = None
        with opened(file if isinstance(file, Path) else io.BytesIO(file), name) as image:
            self._word = "page" if isinstance(image, TiffImageFile) else "frame"
            self.numbers = _numbers(image, name)
            """From 1."""

    def name_of(self, number: int) -> str:
        return f"{self._name}, {self._word} {number}"

    def read(self, number: int, white: int = FULL) -> np.ndarray:
        """(H, W, 3) uint8 RGB, as `read_image` makes it of a file of its own.

        Raises:
            DataError: this one is damaged, or of a kind that cannot be read.
        """
        with self._alone:
            try:
                return self._read(number - 1, self.name_of(number), white)
            finally:
                if number == self.numbers[-1]:
                    self._content, self._image = b"", None

    def _read(self, index: int, name: str, white: int) -> np.ndarray:
        if not self._content:
            self._content = content_of(self._file) if isinstance(self._file, Path) else self._file
        try:
            with unwarned():
                if self._image is None or index < self._image.tell():  # Pillow loses its way back in a PNG
                    self._image = Image.open(io.BytesIO(self._content), formats=FORMATS)
                self._image.seek(index)
        except Exception as error:  # as of `opened`
            raise DataError(f"{name}: is damaged or cut short ({error})") from None
        image = self._image
        if image.width * image.height > MOST_PIXELS:  # TIFF's pages have sizes of their own
            raise DataError(f"{name}: has {too_many_pixels((image.height, image.width))}")
        deep = is_deep(image) and not image.mode.startswith("I;16")
        pixels = from_pillow(image, name, white=white)
        return eight_bits(self._deep(index, pixels), white) if deep else pixels

    def _deep(self, index: int, halved: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint16 of colours with 16 bits, which Pillow halves."""
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        try:
            _, found = cv2.imdecodemulti(np.frombuffer(self._content, np.uint8), flags, range=(index, index + 1))
        except cv2.error:
            found = ()
        if len(found) == 1 and found[0].dtype == np.uint16:
            return cv2.cvtColor(found[0], cv2.COLOR_BGR2RGB)
        return 257 * halved.astype(np.uint16)


def _numbers(image: Image.Image, name: str) -> list[int]:
    if not isinstance(image, TiffImageFile):
        count = getattr(image, "n_frames", 1)
        _check(count, name)
        return list(range(1, count + 1))
    numbers: list[int] = []
    index = 0
    try:
        while True:
            _check(index + 1, name)
            image.seek(index)
            kind = image.tag_v2.get(SUBFILE, 0)
            if not (isinstance(kind, int) and kind & NO_PAGE):
                numbers.append(index + 1)
            index += 1
    except EOFError:
        return numbers or [1]
    except DataError:
        raise
    except Exception:  # the chain of pages is broken here: told when this one is read
        return [*numbers, index + 1]


def _check(count: int, name: str) -> None:
    if count > MOST_PAGES:
        raise DataError(f"{name}: has more than {MOST_PAGES:,} pages; split it into several files")
