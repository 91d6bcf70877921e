"""Files and folders that take their name whole: until all of one is on the disk, what had the name before keeps it.

Meanwhile it is a `.part` beside the name, called after its machine and process, so that no two processes write into
one; `remove_parts` takes away those of processes that were killed.
"""

import errno
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mnv2_tasks.errors import ConfigError

HOST = socket.gethostname()[:40]
PART = re.compile(r"\..+-\d+\.part$")  # of any machine
OWN_PART = re.compile(rf"\.{re.escape(HOST)}-(\d+)\.part$")
OURS = ".mnv2_tasks"  # a file in the folders that we make for the time being: no other is ever removed
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def written_whole(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file that appears under its name once all of it is written.

    Args:
        durable: wait for the disk, so that a power cut leaves it whole too; False where there may be thousands of
            files, which are quickly made again.

    Raises:
        ConfigError: it cannot be written, for example because the disk is full.
    """
    part = part_of(path)
    try:
        raw = _Part(str(part), "wb")
    except OSError as error:
        raise cannot_write(path, error) from None
    file = io.BufferedWriter(raw)
    try:
        yield file
        try:
            file.flush()
            if durable:
                os.fsync(raw.fileno())
            file.close()
            part.replace(path)
            if durable:
                _sync(path.parent)
        except OSError as error:
            raw.failure = error
            raise
    except BaseException:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            part.unlink()
        if raw.failure:  # whatever a library made of it
            raise cannot_write(path, raw.failure, raw.bytes) from None
        raise


class _Part(io.FileIO):
    failure: OSError | None = None
    bytes = 0  # that it was to hold so far

    def write(self, data: Any) -> int | None:
        try:
            written = super().write(data)
        except OSError as error:
            self.failure = error
            self.bytes += len(data)
            raise
        self.bytes += written or 0
        return written


def write_text(path: Path, text: str) -> None:
    with written_whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A new folder that is there once everything is in it; what is yielded is where it is made.

    Raises:
        ConfigError: it cannot be made, or something has the name by now.
    """
    with _workplace(folder) as place:
        content = place / folder.name
        content.mkdir()
        yield content
        _sync(*(path for path in content.rglob("*")), content)
        if os.path.lexists(folder):  # renaming would replace an empty one
            raise ConfigError(f"{folder}: was made by another meanwhile; nothing was overwritten")
        content.rename(folder)
        _sync(folder.parent)


@contextmanager
def made_together(path: Path) -> Iterator[Path]:
    """A file and what is written beside it, under `path.stem`; what is yielded stands for `path` while they are made.

    `path` takes its name last: who sees it has all of them. It is not there if an exception was raised.
    """
    with _workplace(path) as place:
        yield place / path.name
        made = sorted(file.name for file in place.iterdir() if file.name not in (OURS, path.name))
        _sync(*place.iterdir(), place)
        write_text(place / OURS, "\n".join([*made, path.name]))
        for name in [*made, path.name]:
            (place / name).replace(path.parent / name)
        _sync(path.parent)


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """A folder of our own beside a path, for a while."""
    place = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(path.parent)
        if (place / OURS).is_file():  # of an earlier process with our number
            shutil.rmtree(place)
        place.mkdir()
        (place / OURS).touch()
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        yield place
    except OSError as error:
        if Path(str(error.filename)).is_relative_to(place) or error.filename is None and error.errno in FULL:
            raise cannot_write(path, error) from None
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def part_of(path: Path) -> Path:
    """Where a file or a folder is made by this process."""
    name = os.fsencode(path.name)[:150].decode(errors="ignore")  # file systems take 255 bytes, of any value
    return path.with_name(f"{name}.{HOST}-{os.getpid()}.part")


def remove_parts(folder: Path, *, locked: bool = False) -> None:
    """Take away what processes that were killed had begun to write.

    Args:
        locked: nobody else writes into the folder or those within: all parts are such, those of other machines too.
    """
    found = folder.rglob("*.part") if locked else folder.glob("*.part")
    for part in list(found):
        own = OWN_PART.search(part.name)
        if not (PART.search(part.name) if locked else own and _has_ended(int(own[1]))):
            continue
        with suppress(OSError):
            if not part.is_dir():
                part.unlink()
            elif (part / OURS).is_file():
                for orphan in _moved_without_their_file(part):
                    orphan.unlink(missing_ok=True)
                shutil.rmtree(part)


def _moved_without_their_file(place: Path) -> Iterable[Path]:
    """What `made_together` had moved already when it was killed."""
    *others, last = (place / OURS).read_text().splitlines() or [""]
    if last and (place / last).is_file():
        for name in others:
            if Path(name).name == name and Path(name).stem == Path(last).stem and not (place / name).exists():
                yield place.parent / name


def _has_ended(process: int) -> bool:
    if os.name == "nt":  # where asking would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return False


def _sync(*paths: Path) -> None:
    """Have files and folders on the disk."""
    for path in paths:
        if os.name == "nt" and path.is_dir():  # cannot be opened
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(path: Path, error: OSError, needed: int = 0) -> ConfigError:
    """The error to raise: which file, why, what it takes.

    Args:
        needed: bytes at least, where that is known.
    """
    why = error.strerror or str(error)
    if error.errno in FULL:
        place = next(folder for folder in path.absolute().parents if folder.is_dir())
        needs = f"it needs more than {needed / 1e6:.1f} MB, " if needed else ""
        why += f": {needs}{shutil.disk_usage(place).free / 1e6:.1f} MB are free"
        remedy = "Make room there, or choose a folder on another disk"
    elif error.errno in FORBIDDEN:
        remedy = f"Allow writing into {path.parent}, or choose another folder"
    else:
        remedy = f"Look at {path.parent}, or choose another folder"
    return ConfigError(f"{path}: cannot be written ({why}). {remedy}; what had this name before is as it was")


def explained(error: OSError) -> Exception:
    """With what can be done about it, where the disk is full or something is not allowed."""
    if error.errno in (errno.EACCES, errno.EPERM) and error.filename:  # to read it, or to write it
        return ConfigError(f"{error.filename}: {error.strerror}. Change what is allowed there, or choose another place")
    if error.errno in (*FULL, *FORBIDDEN):
        if error.filename:
            return cannot_write(Path(error.filename), error)
        return ConfigError(f"{error.strerror}. Make room on the disk that is written to, or choose another")
    return error
