"""Training pictures that are decoded once: pixels in memory or in a file, one copy for all processes that load them.

Each is kept at no more than training can use, its shorter side of `least` pixels, larger ones averaged over areas, and
with its mask, if it has one. The layout follows from the pictures' sizes: pixels of one after those of the other. A
file says before them of which state of which pictures it is, and takes its name when all are in it. Pictures that have
not changed since an older file are taken from that one.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from filelock import FileLock
from rich.filesize import decimal
from rich.progress import track

from mnv2_tasks.data.download.cache import cache_folder, make_cache
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.reading.file_stamps import stamps
from mnv2_tasks.data.reading.picture_file import ENTRY, FORMAT, HEADER, OURS, KeptPictures, entries_of, header_of
from mnv2_tasks.data.reading.records import Texts
from mnv2_tasks.errors import DataError
from mnv2_tasks.whole_files import written_whole
from mnv2_tasks.wording import counted, duration

log = logging.getLogger(__name__)

AHEAD = 256  # pictures that are decoded before they are written, at most
CHANGED = "some pictures have changed since"


class Masks(NamedTuple):
    read: Callable[[int], np.ndarray]  # index -> (H, W) uint8, of the picture's size
    states: Callable[[], Iterator[bytes]]  # of each, changes when it does


class PictureCache:
    """
    Args:
        files: n paths.
        sizes: (n, 2) height and width in whose pixels their annotations are.
        least: pixels that the shorter side needs; None: each picture is kept in full.
        white: of 16-bit pictures, see `read_image`.
        name: what sets a file apart from those of other data sets with pictures at the same place.
        masks: of pictures that are kept in full; None: they have none.
    """

    def __init__(
        self, files: Texts, sizes: np.ndarray, *, least: int | None, white: int, name: str, masks: Masks | None = None
    ):
        self.files, self.annotated, self.least, self.white, self.name = files, sizes, least, white, name
        self.masks = masks
        self.sizes = kept_sizes(sizes, least)
        channels = 3 if masks is None else 4
        self.starts = np.concatenate([[0], np.cumsum(channels * self.sizes.astype(np.int64).prod(axis=1))])
        self._held: torch.Tensor | Path | None = None
        self._pixels: np.ndarray | None = None  # of what is held, as this process sees it

    def __getstate__(self) -> dict[str, Any]:
        """A tensor in shared memory is passed on as such, and a file by its name."""
        return {**self.__dict__, "_pixels": None, "masks": None}  # which only the filling reads

    @property
    def num_bytes(self) -> int:
        return int(self.starts[-1])

    def picture(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB that cannot be written to: it is every process's."""
        height, width = self.sizes[index].tolist()
        return self._kept(index)[: 3 * height * width].reshape(height, width, 3)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) uint8 that cannot be written to, where there are masks."""
        height, width = self.sizes[index].tolist()
        return self._kept(index)[3 * height * width :].reshape(height, width)

    def _kept(self, index: int) -> np.ndarray:
        if self._pixels is None:
            self._pixels = self._opened()
        return self._pixels[self.starts[index] : self.starts[index + 1]]

    def fill_memory(self) -> None:
        """Decode all pictures into shared memory, which is given back when the last process that has it ends.

        Raises:
            DataError: one of them cannot be read.
        """
        pixels = torch.empty(self.num_bytes, dtype=torch.uint8).share_memory_()
        places = iter(np.split(pixels.numpy(), self.starts[1:-1]))

        def put(image: np.ndarray) -> None:
            next(places)[:] = image

        self._fill(put, "memory")
        self._held = pixels

    def fill_file(self) -> None:
        """Decode all pictures into a file, unless it has them from an earlier run or another process.

        Raises:
            ConfigError: it cannot be written.
            DataError: a picture cannot be read.
        """
        path = self.path()
        make_cache(path.parent)
        with FileLock(f"{path}.lock"):
            keys = self._keys()
            header = header_of(keys)
            if why := self.unfit(header):
                if path.is_file():
                    log.info("%s: %s", path, f"{why}; {'what has' if why == CHANGED else 'it'} is made anew")
                    if why != CHANGED:
                        path.unlink()
                with written_whole(path) as file, path.open("rb") if why == CHANGED else nullcontext() as older:
                    file.write(header)
                    file.write(entries_of(keys, self.starts[:-1]).data)
                    kept = KeptPictures(older, keys) if older else None
                    self._fill(lambda image: file.write(image.data), str(path), kept)
        self._held = path

    def path(self) -> Path:
        """One file for a data set at its place, so that a changed one replaces it."""
        folder = os.path.dirname(os.path.commonprefix([os.path.abspath(file) for file in self.files]))
        digest = hashlib.sha256(f"{self.name} {self.least} {folder}".encode(errors="surrogateescape"))
        return cache_folder() / "pictures" / digest.hexdigest()[:16]

    def unfit(self, header: bytes | None = None) -> str | None:
        """Why the file cannot be used; None if it can."""
        path, header = self.path(), header or header_of(self._keys())
        try:
            with path.open("rb") as file:
                found, size = file.read(HEADER), os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return "is not there"
        if not found.startswith(FORMAT + b" "):
            return "was written by another version" if found.startswith(OURS) else "is damaged"
        if found != header:
            return CHANGED
        return None if size == self.first + self.num_bytes else "is damaged"

    def state(self) -> str:
        """Changes when a picture, its annotated size, or what is made of it does."""
        return hashlib.sha256(self._keys().tobytes()).hexdigest()

    def _keys(self) -> np.ndarray:
        """(n, 2) uint64: a digest of the same of each picture."""
        keys = bytearray()
        masks = self.masks.states() if self.masks else repeat(b"")
        for stamp, size, mask in zip(stamps(self.files), self.annotated.tolist(), masks):
            made = f"{self.least} {self.white} {size}\n".encode()
            keys += hashlib.blake2b(made + stamp + mask, digest_size=16).digest()
        return np.frombuffer(bytes(keys), "<u8").reshape(-1, 2)

    @property
    def first(self) -> int:
        """Where in a file the pixels begin."""
        return HEADER + len(self.files) * ENTRY.itemsize

    def _opened(self) -> np.ndarray:
        """(bytes,) uint8"""
        assert self._held is not None, "it is filled first"
        if isinstance(self._held, Path):
            return np.asarray(np.memmap(self._held, np.uint8, "r", self.first))  # np.memmap's own slices are slow
        pixels = self._held.numpy()
        pixels.flags.writeable = False
        return pixels

    def _fill(self, put: Callable[[np.ndarray], Any], where: str, kept: KeptPictures | None = None) -> None:
        began = time.perf_counter()
        number = len(self.files) - (len(kept) if kept else 0)
        log.info("decoding %s into %s, %s", counted(number, "picture"), where, decimal(self.num_bytes))
        title, shown = "decoding pictures (once)", os.isatty(1)
        for image in track(self._decoded(kept), title, total=len(self.files), transient=True, disable=not shown):
            put(image)
        log.info("decoded in %s", duration(time.perf_counter() - began))

    def _decoded(self, kept: KeptPictures | None) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the interpreter's lock
            for start in range(0, len(self.files), AHEAD):
                ahead = range(start, min(len(self.files), start + AHEAD))
                decoded = pool.map(self._decode, [index for index in ahead if kept is None or index not in kept])
                for index in ahead:
                    if kept is not None and index in kept:
                        yield kept.pixels(index, int(self.starts[index + 1] - self.starts[index]))
                    else:
                        yield next(decoded)

    def _decode(self, index: int) -> np.ndarray:
        """(bytes,) uint8: the picture, and its mask."""
        picture = self._decoded_picture(index)
        if self.masks is None:
            return picture.reshape(-1)
        mask = self.masks.read(index)
        if mask.shape != picture.shape[:2]:
            height, width = picture.shape[:2]
            found = f"{mask.shape[1]} x {mask.shape[0]}"
            raise DataError(f"{self.files[index]}: its mask has {found} pixels, it has {width} x {height}")
        return np.concatenate([picture.reshape(-1), mask.reshape(-1)])

    def _decoded_picture(self, index: int) -> np.ndarray:
        file, (height, width) = self.files[index], self.sizes[index].tolist()
        annotated = (int(self.annotated[index, 0]), int(self.annotated[index, 1]))
        image = read_image(file, annotated, least=self.least, white=self.white)
        if image.shape[:2] == (height, width):
            return np.ascontiguousarray(image)
        if self.least is None or image.shape[0] < height or image.shape[1] < width:
            found = f"{image.shape[1]} x {image.shape[0]}"
            raise DataError(f"{file}: has {found} pixels, it had {annotated[1]} x {annotated[0]} when it was verified")
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def kept_sizes(sizes: np.ndarray, least: int | None) -> np.ndarray:
    """(n, 2) int32 height and width: the shorter side of `least` pixels where it has more."""
    if least is None:
        return sizes
    shorter = sizes.min(axis=1, keepdims=True, initial=np.iinfo(np.int32).max)
    return np.where(shorter > least, np.rint(sizes * (least / shorter)), sizes).astype(np.int32)
