"""The bytes behind a file's name: of a file, or of a member of a tar shard.

A member's name says where it lies, `<shard>.tar:<first byte>+<bytes>/<its own name>`, so that a list of members is a
list of files to all who only pass it on. The shard may be a URL: it is copied to this machine when it is first needed.
"""

import hashlib
import os
import re
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from mnv2_tasks.data.download.cache import cache_folder
from mnv2_tasks.data.download.fetch import TIMEOUT, fetch
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import read_bytes

WEB = ("http://", "https://")
MOST_BYTES = 1 << 31  # of a picture: more than the most pixels need, uncompressed
MEMBER = re.compile(r"(?P<shard>.+\.tar):(?P<start>\d{1,18})\+(?P<size>\d{1,18})/")


def content_of(file: str | Path) -> bytes:
    """All bytes of a file or member.

    Raises:
        DataError: it cannot be opened, is empty, or its shard is cut short.
    """
    member = MEMBER.match(str(file))
    try:
        content = read_bytes(file, most_bytes=MOST_BYTES) if member is None else _read(member)
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "it is too large for this machine's memory"
        raise DataError(f"{member['shard'] if member else file}: cannot be opened ({reason})") from None
    except ConfigError as error:
        raise error if member else DataError(str(error)) from None
    if not content:
        raise DataError(f"{file}: is empty (0 bytes)")
    return content


def size_of(file: str | Path) -> int:
    """Bytes of a file or member."""
    member = MEMBER.match(str(file))
    return os.stat(file).st_size if member is None else int(member["size"])


def file_with(file: str) -> str:
    """The file, or the shard of a member."""
    member = MEMBER.match(file)
    return file if member is None else member["shard"]


def is_remote(place: str) -> bool:
    return "://" in place


def read_remote(url: str) -> bytes:
    """Raises a ConfigError if it cannot be had."""
    try:
        if url.startswith(WEB):
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                return answer.read()
        _require_webdataset()
        from webdataset.gopen import gopen  # through a shell, see build_sources

        with gopen(url) as stream:
            return stream.read()
    except OSError as error:
        raise ConfigError(f"{url}: cannot be read ({error})") from None


def _read(member: re.Match[str]) -> bytes:
    size = int(member["size"])
    with open(_local(member["shard"]), "rb", buffering=0) as opened:
        opened.seek(int(member["start"]))
        content = opened.read(size)
    if len(content) < size:
        raise DataError(f"{member['shard']}: is cut short, {member.string} lies beyond its end. Copy the shard again")
    return content


def _local(shard: str) -> str:
    """The shard's path on this machine."""
    if not is_remote(shard):
        return shard
    folder = cache_folder() / "shards" / hashlib.sha256(os.path.dirname(shard).encode()).hexdigest()[:16]
    if not shard.startswith(WEB):
        _require_webdataset()
    try:
        if shard.startswith(WEB):
            return _fetched(shard, folder / os.path.basename(shard))
        from webdataset.cache import FileCache

        return FileCache(str(folder)).get_file(shard)
    except (OSError, ValueError) as error:
        raise DataError(f"{shard}: cannot be copied to {folder} ({error})") from None


def _fetched(shard: str, path: Path) -> str:
    """The copy of a shard, made by whichever of the loaders' processes comes first."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            fetch(shard, path, size=None, checksum=None, console=Console(quiet=True, markup=False))
    return str(path)


def _require_webdataset() -> None:
    if find_spec("webdataset") is None:
        raise ConfigError('shards at a URL need webdataset: pip install -e ".[streaming]"')
