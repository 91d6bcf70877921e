"""One file from a web server to disk: resumed, checked, and under its own name only once it is complete."""

import hashlib
import http.client
import shlex
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mnv2_tasks.errors import ConfigError

PAUSES = (1, 3, 10, 30)  # seconds before trying again; counted afresh whenever an attempt got further
TIMEOUT = 60  # seconds of silence; VOC's server is known to think for long
CHUNK = 1 << 20
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers that another attempt may change


def fetch(
    url: str,
    path: Path,
    *,
    size: int | None,
    checksum: str | None,
    console: Console,
    patient: bool = True,
    most_bytes: int | None = None,
) -> Path:
    """Download to `<path>.part`, which another call goes on with, and rename it to `path` when it proves right.

    A file at `path` that proves right already is not fetched again.

    Args:
        url: http or https.
        size: bytes, and
        checksum: "md5:<hexadecimal>" or "sha256:<...>", whose first digits are enough, of the file as it was
            published; None where that is not known.
        patient: try again for a minute when there is no connection, not only when one breaks.
        most_bytes: what is larger is refused; None: it may be of any size.

    Returns:
        path

    Raises:
        NotFetched: the file cannot be had, stored, or is not the published one.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url}: only http and https addresses can be fetched")
    with byte_bar(console) as bar:
        if path.exists():
            _require_published(path, "Delete it and run this again", size, checksum, bar)
            console.out(f"{path.name}: already there")
            return path
        transfer = _Transfer(url, path, size, console, bar, most_bytes)
        transfer.finish(len(PAUSES) if patient else 1)
        if checksum and (difference := _difference(transfer.part, checksum, bar)):
            transfer.part.unlink()
            raise transfer.refused(f"what arrived has {difference}; it was removed")
        transfer.part.replace(path)
    console.out(f"{path.name}: {decimal(path.stat().st_size)} fetched" + (", checksum verified" if checksum else ""))
    return path


def require_published(path: Path, remedy: str, *, size: int | None, checksum: str | None, console: Console) -> None:
    """Raise a ConfigError, which ends with the remedy, unless the file's size and checksum are the published ones."""
    with byte_bar(console) as bar:
        _require_published(path, remedy, size, checksum, bar)


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise a ConfigError unless the disk of a folder, which need not exist yet, has so many bytes free."""
    free = free_space(folder)
    if needed > free:
        raise ConfigError(
            f"{folder}: {purpose} needs {decimal(needed)}, the disk has {decimal(free)} free. "
            f"Make room, or choose a folder on another disk"
        )


def free_space(folder: Path) -> int:
    """Bytes."""
    folder = folder.absolute()
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def byte_bar(console: Console) -> Progress:
    """Shows size, speed and time left; nothing where the output is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def part_of(path: Path) -> Path:
    """Where the beginning of a file lies until the rest is fetched."""
    return path.with_name(f"{path.name}.part")


def _require_published(path: Path, remedy: str, size: int | None, checksum: str | None, bar: Progress) -> None:
    actual = path.stat().st_size
    if size is not None and actual != size:
        raise ConfigError(f"{path}: has {actual:,} bytes, published are {size:,}. {remedy}")
    if checksum and (difference := _difference(path, checksum, bar)):
        raise ConfigError(f"{path}: is damaged, it has {difference}. {remedy}")


def _difference(path: Path, checksum: str, bar: Progress) -> str:
    """How a file's checksum differs from the published one; "" where it does not."""
    algorithm, _, published = checksum.partition(":")
    with bar.open(path, "rb", description=f"checking {path.name}") as file:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    actual = digest.hexdigest()
    return "" if actual.startswith(published) else f"{algorithm} {actual}, published is {published}"


class NotFetched(ConfigError):
    """A file cannot be had, for this reason."""

    def __init__(self, url: str, path: Path, reason: str):
        command = f"curl -L -C - -o {shlex.quote(str(path))} {shlex.quote(url)}"
        super().__init__(
            f"{url} -> {path}: {reason}. It can be fetched by hand too, {command}, before running this again"
        )
        self.reason = reason


class _Dropped(Exception):
    """The connection failed in a way that another attempt may mend."""


class _Transfer:
    def __init__(self, url: str, path: Path, size: int | None, console: Console, bar: Progress, most_bytes: int | None):
        self.url, self.path, self.size, self.console, self.bar = url, path, size, console, bar
        self.most_bytes = most_bytes
        self.part = part_of(path)
        self.task: TaskID = bar.add_task(path.name, total=size)

    def refused(self, reason: str) -> NotFetched:
        return NotFetched(self.url, self.path, reason)

    def finish(self, attempts: int) -> None:
        """Attempts until `part` is complete, or until so many in a row got no further."""
        furthest, failures = self._there(), 0
        while True:
            try:
                return self._attempt()
            except _Dropped as dropped:
                there = self._there()
                failures = 0 if there > furthest else failures + 1
                furthest = max(furthest, there)
                if failures == attempts:
                    kept = f"; {decimal(there)} are kept, and another run goes on from there" if there else ""
                    row = f", {failures} attempts in a row" if failures > 1 else ""
                    raise self.refused(f"{dropped}{row}{kept}") from None
                self.console.out(f"{self.path.name}: {dropped} at {decimal(there)}; next try in {PAUSES[failures]} s")
            time.sleep(PAUSES[failures])

    def _there(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self) -> None:
        there = self._there()
        if self.size is not None and there > self.size:
            self._start_over("what is there already is longer than the published file")
            there = 0
        if self.size is not None and there == self.size:
            return
        with self._request(there) as response:
            if response.status != 206 and there:
                self.console.out(f"{self.path.name}: the server cannot resume; starting over")
                there = 0
            self._check_range(response, there)
            length = response.headers.get("Content-Length")
            total = self.size if length is None else there + int(length)
            if self.size is not None and total != self.size:
                raise self.refused(f"the server offers {total:,} bytes, published are {self.size:,}: another file")
            self._check_most(total or 0)
            if total is not None:
                require_space(self.path.parent, total - there, f"the rest of {self.path.name}")
            self.bar.update(self.task, total=total, completed=there)
            self._append(response, there)
        if total is not None and self._there() < total:
            raise _Dropped("the connection dropped")

    def _request(self, there: int) -> http.client.HTTPResponse:
        headers = {"User-Agent": "mnv2-tasks", **({"Range": f"bytes={there}-"} if there else {})}
        try:
            return urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and there:
                    self._start_over("the server has nothing after what is there already")
                if error.code in BUSY or (error.code == 416 and there):
                    raise _Dropped(f"the server answers {error.code} {error.reason}") from None
                raise self.refused(f"the server answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise self.refused(f"the server cannot prove who it is ({error.reason})") from None
            raise _Dropped(f"no connection ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Dropped(f"no answer ({error})") from None

    def _check_range(self, response: http.client.HTTPResponse, there: int) -> None:
        offered = response.headers.get("Content-Range", "")
        if response.status == 206 and not offered.startswith(f"bytes {there}-"):
            self._start_over(f"asked for bytes {there}- the server sends {offered or 'others'}")
            raise _Dropped("the server confuses ranges")

    def _check_most(self, there: int) -> None:
        if self.most_bytes is not None and there > self.most_bytes:
            raise self.refused(f"is larger than {decimal(self.most_bytes)}, the most that is fetched here")

    def _start_over(self, reason: str) -> None:
        self.console.out(f"{self.path.name}: {reason}; starting over")
        self.part.unlink(missing_ok=True)

    def _append(self, response: http.client.HTTPResponse, there: int) -> None:
        try:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            with self.part.open("ab" if there else "wb") as file:
                while chunk := _read(response):
                    there += len(chunk)
                    if self.size is not None and there > self.size:
                        raise self.refused(f"the server sends more than the {self.size:,} bytes that were published")
                    self._check_most(there)
                    file.write(chunk)
                    self.bar.advance(self.task, len(chunk))
        except OSError as error:  # the disk's: _read turned the network's into _Dropped
            raise self.refused(f"{self.part} cannot be written ({error.strerror})") from None


def _read(response: http.client.HTTPResponse) -> bytes:
    """What has arrived, at least one byte; none at the end, which may have come too early."""
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"the connection dropped ({error})") from None
