"""By what it is noticed that files have changed since they were last looked at, without reading them."""

import os
from collections.abc import Iterable, Iterator

from mnv2_tasks.data.images.file_bytes import file_with


def stamps(files: Iterable[str]) -> Iterator[bytes]:
    """A line for each file or member of a shard: its place, size in bytes and time; or that it is missing."""
    return map(_stamp, files)


def _stamp(file: str) -> bytes:
    try:
        status = os.stat(file_with(file))
        return os.fsencode(f"{os.path.abspath(file)} {status.st_size} {status.st_mtime_ns}\n")
    except OSError:
        return os.fsencode(f"{file} is missing\n")
