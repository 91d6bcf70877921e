"""One process at a time writes into a folder."""

import errno
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.whole_files import HOST, cannot_write, remove_parts

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a disk


@contextmanager
def written_alone(folder: Path) -> Iterator[None]:
    """Hold a folder while this process writes into it, and remove what a killed one had half written.

    The lock is the system's, so that it ends with its process, however that ends, and those that the process has forked
    do not hold it. Over NFS it reaches the other machines if the server has a lock service, as NFSv4 has.

    Raises:
        ConfigError: another process holds it.
    """
    path = folder / ".lock"
    if fcntl is None:
        lock = FileLock(path)  # whose file another process cannot read
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(f"{folder}: another process is writing there. Wait for it, or end it") from None
        try:
            yield
        finally:
            lock.release()
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        _lock(descriptor, folder)
        remove_parts(folder, locked=True)
        holder = {"process": os.getpid(), "host": HOST, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OSError):  # where the disk is full, what is to be written will tell
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):
                os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    assert fcntl is not None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            log.warning("%s: its disk has no locks (%s); see to it that no other run writes there", folder, error)
            return
        raise ConfigError(f"{folder}: {_holder(descriptor)} is writing there. Wait for it, or end it") from None


def _holder(descriptor: int) -> str:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {found['process']} on {found['host']}, since {found['since']},"
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        return "another process"
