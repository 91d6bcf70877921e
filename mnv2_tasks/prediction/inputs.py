"""What a user points at, `source=`, -> image files."""

import csv
import glob
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mnv2_tasks.data.reading.folders import PICTURES, files_below
from mnv2_tasks.errors import ConfigError

log = logging.getLogger(__name__)

VIDEO_EXTENSIONS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
IMAGES = (*PICTURES, ".gif")
ACCEPTED = "accepted: " + " ".join(IMAGES)
STDIN = "-"


def names_in(source: str) -> list[str]:
    """What `source` names one by one: a list in brackets, or what is piped in, `-`; else it is itself a name.

    In a list, a name with a comma stands in single quotes.

    Raises:
        ConfigError: nothing is piped in.
    """
    if os.path.lexists(source):
        return [source]
    if source == STDIN:
        return _piped()
    if source.startswith("[") and source.endswith("]"):
        names = next(csv.reader([source[1:-1]], quotechar="'", skipinitialspace=True), [])
        names = [name.strip() for name in names if name.strip()]
        if not names:
            raise ConfigError(f"source={source}: is an empty list; say source=[a.jpg,b.jpg]")
        return names
    return [source]


def _piped() -> list[str]:
    """One name a line; bytes, because a file's name need not be text."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            "source=-: reads paths and URLs, one a line, from what is piped in, and nothing is; such as "
            "find photos -name '*.jpg' | python tools/predict.py source=-"
        )
    lines = os.fsdecode(sys.stdin.buffer.read()).split("\n")
    names = [name for line in lines if (name := line.rstrip("\r"))]
    if not names:
        raise ConfigError("source=-: nothing came in; it reads paths and URLs, one a line")
    return names


def find_images(source: str) -> list[Path]:
    """Sorted image files of a file, a folder with all that lies below it, or a glob such as `photos/*.jpg`.

    Files of other kinds in a folder or a glob are skipped, and the log says how many.

    Raises:
        ConfigError: nothing is there, nothing of it is an image, or it is a video.
    """
    source = os.path.expanduser(source)
    path = Path(source)
    if path.is_file():
        return [_check_kind(path)]
    if path.is_dir():
        found, what = _files_below(path), "folder"
    elif any(sign in source for sign in "*?["):
        found, what = (Path(name) for name in glob.iglob(source, recursive=True)), "pattern"
    else:
        raise ConfigError(f"source={source}: no such file or folder (looked for {path.absolute()})")
    files = sorted(file for file in found if file.is_file())
    images = [file for file in files if file.suffix.lower() in IMAGES]
    if not images:
        others = f"only {_kinds(files)}" if files else "nor any files"
        if any(_is_video(file) for file in files):
            raise ConfigError(_video_hint(next(file for file in files if _is_video(file))))
        raise ConfigError(f"source={source}: the {what} has no images, {others} ({ACCEPTED})")
    if len(images) < len(files):
        others = sorted(set(files) - set(images))
        log.warning("source=%s: skipped files that are no images: %s", source, _kinds(others))
    return images


def _files_below(folder: Path) -> Iterable[Path]:
    """Without hidden files, such as the `._photo.jpg` that macOS leaves beside `photo.jpg`."""
    try:
        return [Path(file) for file in files_below(folder)]
    except OSError as error:
        raise ConfigError(f"source: the folder {error.filename} cannot be read ({error.strerror})") from None


def _check_kind(path: Path) -> Path:
    if _is_video(path):
        raise ConfigError(_video_hint(path))
    if path.suffix.lower() not in IMAGES:
        raise ConfigError(f"source={path}: {path.suffix or 'a name without extension'} is not an image ({ACCEPTED})")
    return path


def _kinds(files: list[Path]) -> str:
    """Such as "2 .json, 1 .txt"."""
    counts = Counter(file.suffix.lower() or "without extension" for file in files)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_EXTENSIONS


def _video_hint(path: Path) -> str:
    return (
        f"source={path}: is a video, which tools/predict.py takes one at a time, source=<its path>. In Python give its "
        "frames, model.predict(frames, stream=True), (H, W, 3) uint8 RGB"
    )
