"""What lies in a folder, without what operating systems and tools leave there."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import counted

PICTURES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff")
JUNK = {  # what systems and tools leave beside the data, in lower case
    "__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle",
    "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip


def is_junk(name: str) -> bool:
    """Whether a file or folder is none of the data: hidden, such as `.ipynb_checkpoints`, or in `JUNK`."""
    return name.startswith(".") or name.lower() in JUNK


def folders(folder: Path) -> list[Path]:
    """Folders of data directly in a folder, by name."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not is_junk(entry.name)]
    return [folder / name for name in sorted(names)]  # Windows sorts paths, unlike names, without regard to case


def child(folder: Path, name: str) -> Path | None:
    """The folder of that name directly in a folder, whatever its case."""
    return next((found for found in folders(folder) if found.name.lower() == name.lower()), None)


def within_double(folder: Path) -> Path:
    """The folder, or the one of its own name that is all it holds, as archives unpack on Kaggle: train/train."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_junk(entry.name)]
    inside = folder / folder.name
    return within_double(inside) if names == [folder.name] and inside.is_dir() else folder


def files_below(folder: Path) -> Iterator[str]:
    """Files of data at any depth, unsorted: paths that begin with the folder's. Symbolic links are followed.

    Raises:
        ConfigError: links lead to a folder twice, as those do that lead to a folder around them.
    """
    waiting, seen = [str(folder)], {}
    while waiting:
        place = waiting.pop()
        status = os.stat(place)
        first = seen.setdefault((status.st_dev, status.st_ino), place)
        if first != place:
            raise ConfigError(f"{first}: is the same folder as {place}, by a symbolic link. Remove one of the two")
        with os.scandir(place) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                else:
                    yield entry.path


def files_in(folder: Path, suffix: str | tuple[str, ...]) -> list[Path]:
    """Visible files of that ending, in any case, directly in a folder, by name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(suffix) and not e.name.startswith(".")]
    return [folder / name for name in sorted(names)]


def by_stem(files: Iterable[str], folder: Path) -> dict[str, list[str]]:
    """{what a picture and its label file have in common: the files}, see `stem`."""
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        found.setdefault(stem(file, folder), []).append(file)
    return found


def has(folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file of this kind lies at any depth; stops at the first."""
    return any(file.lower().endswith(suffixes) for file in files_below(folder))


def pictures_below(folder: Path) -> tuple[list[str], Counter[str]]:
    """Sorted pictures at any depth, and how many files of each other ending lie among them."""
    pictures, others = [], Counter()
    for file in files_below(folder):
        if file.lower().endswith(PICTURES):
            pictures.append(file)
        else:
            others[os.path.splitext(file)[1].lower()] += 1
    return sorted(pictures, key=_posix), others


def stem(file: str, folder: Path) -> str:
    """What a picture and its label file have in common: the path below their folders, without the ending."""
    return os.path.splitext(place_below(file, folder))[0]


def place_below(file: str, folder: Path) -> str:
    return _posix(os.path.relpath(file, folder))


def spelled(name: str) -> str:
    """The same for all cases, and for accents of one character (Windows, Linux) or two (macOS)."""
    return unicodedata.normalize("NFC", name).casefold()


def _posix(path: str) -> str:
    """As lists of names write it, so that order and pairs are the same on every system."""
    return path.replace(os.sep, "/")


def left_out_note(others: Counter[str]) -> list[str]:
    """A note for people on files that were left out; none if there are none."""
    if not others:
        return []
    endings = " ".join(sorted(ending or "no ending" for ending in others))
    return [f"{counted(others.total(), 'file')} left out as no images ({endings})"]
