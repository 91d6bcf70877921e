"""Tar shards -> pictures: what `source=` names where it names shards, and the pictures of one, in its order.

A shard is any tar of pictures: of webdataset's layout, as `tools/data.py pack` writes it, or plain. What it says is
data: the names of its members are words about pictures, never places on a disk.
"""

import glob
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import product
from math import prod
from operator import add
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from mnv2_tasks.data.images.file_bytes import MOST_BYTES, WEB
from mnv2_tasks.data.images.page_files import PAGED
from mnv2_tasks.data.shards import packed_shards
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.inputs import ACCEPTED, IMAGES, STDIN, names_in
from mnv2_tasks.prediction.sources import DEMO, Input, encoded, pictures_in_bytes
from mnv2_tasks.wording import counted, first_few

ENDING = ".tar"
MOST_NAME_BYTES = 1 << 20  # of a header that holds the name of the next member, or more about it
NAMING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
NUMBERS = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}")
MOST_SHARDS = 1_000_000  # that one name stands for
MASK = ".mask"  # before the ending of what `pack` writes beside a picture
END = bytes(tarfile.BLOCKSIZE)
PIECE = 1 << 20  # bytes, of what is read to see that only zeros follow
# of tarfile, with what a stranger wrote
FAULTS = (tarfile.TarError, OSError, ValueError, LookupError, OverflowError, MemoryError, RecursionError)


class CheckedMember(tarfile.TarInfo):
    """What tarfile believes, though nothing but a fault or malice says so, is refused."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "CheckedMember":
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:  # the next one would be this one again
            raise tarfile.HeaderError(f"a member of {member.size:,} bytes")
        if member.type in NAMING and member.size > MOST_NAME_BYTES:  # which would be read at once
            raise tarfile.HeaderError(f"a name of {member.size:,} bytes")
        return member


def find_shards(source: str) -> list[Path] | None:
    """Tar files, in order, that a folder, a name, a list, a glob or numbers such as {000000..000099} stand for.

    A folder is one of shards if it holds some, and neither pictures nor folders beside them.

    Returns:
        None where `source` names no shards.

    Raises:
        ConfigError: one is missing, two are called alike, or other things are named beside them.
    """
    if source in (STDIN, DEMO):
        return None
    named = {name: _named(name) for name in names_in(source)}
    if all(shards is None for shards in named.values()):
        return None
    if others := [name for name, shards in named.items() if shards is None]:
        raise ConfigError(f"source={source}: names shards and others, {first_few(others)}. Predict them by themselves")
    shards = [shard for of_name in named.values() for shard in of_name or ()]
    if missing := [str(shard) for shard in shards if not shard.is_file()]:
        raise ConfigError(
            f"source={source}: {len(missing)} of {counted(len(shards), 'shard')} are not there: {first_few(missing)}"
        )
    if not shards:
        raise ConfigError(f"source={source}: no shard is called so")
    twins = [name for name, count in Counter(shard.stem for shard in shards).items() if count > 1]
    if twins:
        raise ConfigError(
            f"source={source}: several shards are called {first_few(twins)}. Predict each folder by itself"
        )
    return shards


def _named(name: str) -> list[Path] | None:
    name = os.path.expanduser(name)
    if os.path.isdir(name):
        return _in_folder(Path(name))
    if not name.endswith(ENDING) or name.startswith(WEB):
        return None
    if os.path.lexists(name):
        return [Path(name)]
    names = _numbered(name)
    if any(sign in name for sign in "*?["):
        names = sorted(found for pattern in names for found in glob.glob(pattern, recursive=True))
    return [Path(name) for name in names]


def _in_folder(folder: Path) -> list[Path] | None:
    """What was packed there, also what is missing of it."""
    if packed := packed_shards(folder):
        return [folder / name for name in packed]
    with os.scandir(folder) as entries:
        shown = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    if any(is_dir or name.lower().endswith(IMAGES) for name, is_dir in shown):
        return None
    return [folder / name for name, _ in sorted(shown) if name.endswith(ENDING)] or None


def _numbered(name: str) -> list[str]:
    """train-{08..10}.tar -> train-08.tar, train-09.tar, train-10.tar."""
    *pieces, last_text = NUMBERS.split(name)
    texts, firsts, lasts = pieces[::3], pieces[1::3], pieces[2::3]
    spans = [range(int(first), int(last) + 1) for first, last in zip(firsts, lasts)]
    if (count := prod(map(len, spans))) > MOST_SHARDS:
        raise ConfigError(f"source={name}: stands for {count:,} shards, at most {MOST_SHARDS:,} at once. Name fewer")
    if not count:  # of {5..3}
        return []
    digits = [[f"{number:0{len(first)}d}" for number in span] for first, span in zip(firsts, spans)]
    return ["".join(map(add, texts, numbers)) + last_text for numbers in product(*digits)]


def pictures_in(shard: Path) -> Iterator[Input]:
    """Each is called `<shard>/<name of the member>`. Of a damaged shard comes one more, with its name, that refuses.

    Masks that `pack` wrote beside pictures are passed by, and so are hidden files.
    """
    count = 0
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:", tarinfo=CheckedMember) as opened:
            tar: Any = opened  # whose list of members types do not know
            while member := tar.next():
                tar.members.clear()  # which would grow with the shard
                if member.size < 0 or tar.offset < member.offset_data:  # as PAX headers, which come later, may say
                    raise tarfile.ReadError(f"a member of {member.size:,} bytes")
                if not member.isdir() and _is_picture(member.name):
                    count += 1
                    yield from _pictures(shard, member)
            _check_end(file, tar.offset)
    except FAULTS as error:
        reason = getattr(error, "strerror", None) or error
        text = f"is damaged or cut short ({reason}) after {counted(count, 'picture')}. Copy it again, or pack again"
        yield _refused(str(shard), text)
    else:
        if not count:
            yield _refused(str(shard), f"has no pictures ({ACCEPTED})")


def _check_end(file: BinaryIO, start: int) -> None:
    """Raise a ReadError unless zeros alone follow: tarfile takes whatever it cannot read, or one zeroed header, for
    the end."""
    file.seek(start)
    if file.read(len(END)) != END:
        raise tarfile.ReadError(f"neither a member nor the end is at byte {start:,}")
    while piece := file.read(PIECE):
        if piece.count(0) < len(piece):
            raise tarfile.ReadError(f"more than zeros follow the end at byte {start:,}")


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGES and PurePosixPath(path.stem).suffix != MASK and not path.name.startswith(".")


def _pictures(shard: Path, member: tarfile.TarInfo) -> list[Input]:
    name = f"{shard}/{member.name}"
    if not member.isreg() or member.issparse() or member.size > MOST_BYTES:
        return [_refused(name, "is no plain file in its shard, or too large for one. Pack it as a file")]
    content = partial(_content, shard, member.offset_data, member.size, name)
    if PurePosixPath(member.name).suffix.lower() not in PAGED:
        return [Input(name, lambda white: encoded(content(), name, white))]
    try:
        return pictures_in_bytes(content(), name)
    except DataError as error:
        return [_refused(name, error)]


def _content(shard: Path, start: int, size: int, name: str) -> bytes:
    """By whichever thread reads the picture."""
    try:
        with open(shard, "rb", buffering=0) as file:
            file.seek(start)
            content = file.read(size)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    if len(content) < size:
        raise DataError(f"{name}: is cut short with its shard")
    return content


def _refused(name: str, why: str | DataError) -> Input:
    error = why if isinstance(why, DataError) else DataError(f"{name}: {why}")

    def read(white: int) -> np.ndarray:
        raise error

    return Input(name, read)
