"""A video file or a camera -> its frames, one after the other."""

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np

from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.inputs import IMAGES, VIDEO_EXTENSIONS
from mnv2_tasks.prediction.sources import Input
from mnv2_tasks.wording import counted

RATE = 25.0  # frames per second where neither file nor camera says it
HIGHEST_RATE = 240.0  # beyond, it is the unit of time of a file without a rate
STARTS = (b"\x1a\x45\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"\x30\x26\xb2\x75")  # Matroska, MPEG twice, WMV
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # of MP4 and QuickTime
STILL = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # brands of MP4 that are pictures


def find_video(source: str) -> "Video | None":
    """What `source` names, if it is a video file, by its name or by its content, or the index of a camera.

    Raises:
        ConfigError: there is no such camera.
        DataError: no frame of the file can be read.
    """
    if source.isascii() and source.isdecimal() and not os.path.lexists(source):
        return Video(_camera(source), f"camera-{source}", source, live=True)
    path = os.path.expanduser(source)
    suffix = Path(path).suffix.lower()
    if suffix in IMAGES or not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        is_video = _begins_as_video(file.read(12))
    if is_video:
        return Video(_file(path), Path(path).stem, path)
    if suffix in VIDEO_EXTENSIONS:
        what = "holds something else" if os.path.getsize(path) else "is empty (0 bytes)"
        raise DataError(f"{path}: is no video, it {what}. Look whether it was copied whole")
    return None


class Video:
    """
    Args:
        capture: open.
        stem: of the files that are written of it.
        name: of the file, or the index of the camera.
        live: a camera, which goes on until somebody ends it.

    Attributes:
        rate: frames per second.
        total: frames that there should be; None where nobody knows.
        times: seconds of the frames that were read, until their results are taken.
    """

    def __init__(self, capture: cv2.VideoCapture, stem: str, name: str, *, live: bool = False):
        self.stem, self.name, self.live = stem, name, live
        self._capture, self._began = capture, time.perf_counter()
        rate, total = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if 0 < rate <= HIGHEST_RATE else RATE
        self.total = round(total) if not live and 0 < total < 1e9 else None
        self.times: deque[float] = deque()
        self._read = 0
        self._first = self._next()
        if self._first is None:
            _no_frame(name, live)

    def frames(self) -> Iterator[Input]:
        """Once, and each frame when it is asked for. One of another size than the first is the last; it is refused."""
        try:
            image, self._first = self._first, None
            size = image.shape if image is not None else None
            while image is not None:
                self._read += 1
                name = f"{self.name}, frame {self._read}"
                self.times.append(self._seconds())
                if image.shape != size:
                    yield Input(name, _Refusal(name, image, size))
                    return
                yield Input(name, lambda white=255, image=image: image)
                image = self._next()
        finally:
            self._capture.release()

    def missing(self) -> str:
        """What to say once all frames were read, where the file promised more; else ""."""
        if self.live:
            return f"camera {self.name}: gives no more pictures"
        if not self.total or self.total - self._read <= max(1, self.total // 50):
            return ""  # some headers know a duration alone, from which the number is computed
        return (
            f"{self.name}: ends after {counted(self._read, 'frame')} of the {self.total:,} that its header promises; "
            "it may be cut. Those before are done"
        )

    def _next(self) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB."""
        there, image = self._capture.read()
        if not there:
            return None
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)

    def _seconds(self) -> float:
        if self.live:
            return time.perf_counter() - self._began
        return max(0.0, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)


class _Refusal:
    """Reads a frame that does not fit into the video."""

    def __init__(self, name: str, image: np.ndarray, size: tuple[int, ...] | None):
        assert size is not None
        (height, width), (first_height, first_width) = image.shape[:2], size[:2]
        self.error = DataError(
            f"{name}: has {width}x{height} pixels, those before it {first_width}x{first_height}. "
            f"One video has one size: ffmpeg -i <file> -vf scale={first_width}:{first_height} again.mp4 makes it so"
        )

    def __call__(self, white: int) -> NoReturn:
        raise self.error


def _begins_as_video(head: bytes) -> bool:
    """By content: FFmpeg would take texts too, playlists that name other files and addresses."""
    in_boxes = head[4:8] in BOXES and head[8:12] not in STILL
    return in_boxes or head.startswith(STARTS) or head[:4] == b"RIFF" and head[8:12] == b"AVI "


def _file(path: str) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # of damaged frames it would tell in several lines each
    with quiet():
        return cv2.VideoCapture(name_for_opencv(path), cv2.CAP_FFMPEG)


def name_for_opencv(path: str | Path) -> str:
    """Absolute, so that FFmpeg takes no part of it for a protocol.

    Raises:
        ConfigError: it is no UTF-8; OpenCV would crash.
    """
    name = os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name}: OpenCV takes names in UTF-8 alone. Rename it, or the folder that it is in"
        ) from None
    return name


def _camera(index: str) -> cv2.VideoCapture:
    capture = None
    if len(index) < 4:
        with quiet():
            capture = cv2.VideoCapture(int(index))
    if capture is None or not capture.isOpened():
        here = ", ".join(sorted(str(device) for device in Path("/dev").glob("video*"))) or "none in /dev"
        raise ConfigError(
            f"source={index}: no camera {index} can be opened (here: {here}). Plug it in, end what else uses it, "
            "or name another index or a file"
        )
    return capture


def _no_frame(name: str, live: bool) -> NoReturn:
    if live:
        raise ConfigError(f"source={name}: the camera gives no picture. End what else uses it, or name another index")
    raise DataError(
        f"{name}: OpenCV reads no frame of it: it is cut, or its codec is one that OpenCV lacks. Copy it anew, or try "
        "ffmpeg -i <file> -c:v libx264 -pix_fmt yuv420p again.mp4, then source=again.mp4"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Around what OpenCV's libraries write to standard error by themselves, and cannot be asked not to."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
