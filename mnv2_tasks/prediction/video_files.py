"""Results of a video as files of one folder: the video with what was found drawn on it, and results.jsonl."""

import errno
import json
import threading
import time
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np

from mnv2_tasks.drawing.canvas import fit, pad, scaled_size
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.devices import num_helpers
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.prediction.video import Video, name_for_opencv, quiet
from mnv2_tasks.wording import counted

SAVED = ("pictures", "json")
WAITING = 4  # frames that may wait to be written, beside the batches


class _Drawn(NamedTuple):
    line: bytes
    picture: np.ndarray | None  # (H, W, 3) uint8 RGB


class VideoFiles:
    """
    Args:
        folder: is there, and empty.
        saved: of SAVED.
        video: whose frames the results are of, all of them in order.

    Attributes:
        written: frames so far.
    """

    def __init__(self, folder: Path, saved: Collection[str], video: Video):
        self.path, self.video, self.written = folder / f"{video.stem}.webm", video, 0
        self.seconds = 0.0  # spent so far on drawing and writing, in all threads together
        self._lines = open(folder / "results.jsonl", "ab", buffering=0) if "json" in saved else None
        self._draws = "pictures" in saved
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)  # width, height of the video
        self._drawers = ThreadPoolExecutor(num_helpers())
        self._waiting: deque[Future[_Drawn]] = deque()
        self._counting = threading.Lock()

    def write(self, result: Result, seconds: float) -> None:
        """Soon; those before it first.

        Args:
            seconds: when the frame is shown.
        """
        number = self.written + len(self._waiting) + 1
        self._waiting.append(self._drawers.submit(self._draw, result, number, seconds))
        while len(self._waiting) > WAITING:
            self._put(self._waiting.popleft().result())

    def finish(self) -> None:
        """What was given is written, and the video can be played.

        Raises:
            ConfigError: it cannot be, for example because the disk is full.
        """
        try:
            while self._waiting:
                self._put(self._waiting.popleft().result())
        finally:
            self._drawers.shutdown(cancel_futures=True)
            if self._lines:
                self._lines.close()
                if not self.written:
                    Path(self._lines.name).unlink()
            if self._writer:
                self._writer.release()
        if self._writer:
            self._check()

    def _draw(self, result: Result, number: int, seconds: float) -> _Drawn:
        began = time.perf_counter()
        content = result.to_dict() | {"file": self.video.name}
        entry = {"file": content.pop("file"), "frame": number, "time": round(seconds, 4)} | content
        text = json.dumps(entry, ensure_ascii=False) + "\n"
        picture = video_picture(result) if self._draws else None
        self._spend(began)
        return _Drawn(text.encode(errors="backslashreplace"), picture)

    def _put(self, drawn: _Drawn) -> None:
        began = time.perf_counter()
        if drawn.picture is not None:
            if self._writer is None:
                self._size = drawn.picture.shape[1], drawn.picture.shape[0]
                self._writer = open_writer(self.path, self.video.rate, self._size)
            width, height = self._size
            page = pad(drawn.picture, height, width)[:height, :width]
            self._writer.write(cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
        if self._lines:
            self._write_line(drawn.line)
        self.written += 1
        self._spend(began)

    def _write_line(self, line: bytes) -> None:
        """All of it, or nothing."""
        assert self._lines
        whole = self._lines.tell()
        if self._lines.write(line) != len(line):
            self._lines.truncate(whole)
            raise OSError(errno.ENOSPC, "No space left on device", self._lines.name)

    def _check(self) -> None:
        """OpenCV does not say so when the disk is full, and then cannot write the end."""
        with quiet():
            capture = cv2.VideoCapture(name_for_opencv(self.path), cv2.CAP_FFMPEG)
        there = round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if there < self.written - max(1, self.written // 50):  # the number is computed from the duration
            raise ConfigError(
                f"{self.path}: {there:,} of {counted(self.written, 'frame')} could be written. Make room on the disk, "
                "or choose a folder on another with out="
            )

    def _spend(self, began: float) -> None:
        with self._counting:
            self.seconds += time.perf_counter() - began


def video_picture(result: Result) -> np.ndarray:
    """What of a result is shown in a video: (H, W, 3) uint8 RGB with even sides, as VP8 has them.

    Boxes, which have their classes beside them, are on the frame in its own size. Of other tasks, and of several, it is
    the picture that `Result.drawn` gives, with room for a line more below: the legend grows with what is seen.
    """
    drawn = result.drawn()
    height, width = result.image.shape[:2]
    if len(result.tasks) == 1 and all("boxes" in task.fields for task in result.tasks.values()):
        drawn_width, drawn_height = scaled_size(result.image, fit(result.image)[1])
        even = max(2, width // 2 * 2), max(2, height // 2 * 2)
        return cv2.resize(drawn[:drawn_height, :drawn_width], even, interpolation=cv2.INTER_AREA)
    room = drawn.shape[0] + drawn.shape[0] // 12
    return pad(drawn, room + room % 2, drawn.shape[1] + drawn.shape[1] % 2)


def open_writer(path: Path, rate: float, size: tuple[int, int]) -> cv2.VideoWriter:
    """VP8 in WebM, which OpenCV's own FFmpeg can write and browsers play.

    Args:
        size: (width, height), even.

    Raises:
        ConfigError: this OpenCV cannot, or the file cannot be made.
    """
    with quiet():  # it complains of the code VP80 in WebM, and writes it
        writer = cv2.VideoWriter(name_for_opencv(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), rate, size)
    if not writer.isOpened():
        raise ConfigError(
            f"{path}: OpenCV {cv2.__version__} cannot write VP8 video here. Install opencv-python-headless, which "
            "can, or say save=json"
        )
    return writer


def check_writer() -> None:
    """Raise a ConfigError where `open_writer` would."""
    with TemporaryDirectory() as folder:
        open_writer(Path(folder) / "try.webm", 25.0, (64, 64)).release()
