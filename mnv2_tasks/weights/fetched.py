"""Files of weights that others publish: fetched once into the cache, and taken from there, offline, from then on.

The sha256 of what is used is kept beside it: of many of these files nobody else says one.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

from filelock import FileLock  # torch requires it
from rich.console import Console

from mnv2_tasks.data.download.cache import cache_folder, make_cache
from mnv2_tasks.data.download.fetch import fetch, require_published
from mnv2_tasks.data.download.safe_names import name_fault
from mnv2_tasks.data.download.unpack import extract_member
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_start
from mnv2_tasks.runtimes.contents import FORMATS_HELD, kind_of
from mnv2_tasks.weights.weight_files import NOT_READ
from mnv2_tasks.whole_files import write_text
from mnv2_tasks.wording import brief

MOST_BYTES = 1_000_000_000  # five times the largest that is published for our networks
LOOKED_AT = 200  # bytes of a text
SUFFIXES = (".tar.gz", ".tgz", ".zip", ".tar")
CHECKSUM = "sha256="  # behind the # of an address


class Published(NamedTuple):
    """A file of weights at an address, or in an archive that lies there."""

    url: str
    checksum: str | None = None  # of the file at the address: "sha256:<hexadecimal>" or "sha384:<...>", or their start
    size: int | None = None  # bytes of that
    member: str | None = None  # name of the file in the archive, in whatever folder of it

    @property
    def place(self) -> Path:
        """The file in the cache."""
        name, folder = self.url.rsplit("/", 1)[1], cache_folder() / "weights"
        if self.member is None:
            return folder / name
        stem = next(name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix))
        return folder / stem / self.member


def fetched_from(address: str) -> Path:
    """The file at any address, https://host/weights.pth#sha256=<hexadecimal>; what stands behind the # may be missing.

    Raises:
        ConfigError: it cannot be had, is no file of weights, or another one than the digits say.
    """
    url, fragment = urldefrag(address)
    digits = fragment.removeprefix(CHECKSUM).lower()
    if fragment and (not fragment.startswith(CHECKSUM) or len(digits) < 8 or set(digits) - set("0123456789abcdef")):
        raise ConfigError(f"{address}: behind # stand {CHECKSUM} and at least 8 hexadecimal digits, or nothing")
    name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    if not name or name_fault(name):
        name = "weights"
    # files at different addresses are called alike
    folder = cache_folder() / "weights" / hashlib.sha256(url.encode()).hexdigest()[:16]
    return fetched(Published(url, f"sha256:{digits}" if digits else None), folder / name)


def fetched(published: Published, path: Path) -> Path:
    """`path`, which is fetched if it is not there, and is nothing but the file that was published or fetched at first.

    Raises:
        ConfigError: it cannot be had, is no file of weights, or has changed.
    """
    console = Console(stderr=True, markup=False, soft_wrap=True)
    if path.is_file():
        _check(published, path, console)
        return path
    make_cache(path.parent)
    with FileLock(f"{path}.lock"):  # the processes of a run, and runs at once, would write into each other's file
        if not path.is_file():
            _fetch(published, path, console)
    return path


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(published: Published, path: Path, console: Console) -> None:
    remedy = "Delete it and run this again"
    if published.checksum and not published.member:
        return require_published(path, remedy, size=None, checksum=published.checksum, console=console)
    digest, before = sha256(path), _kept(path)
    if before and digest != before:
        raise ConfigError(
            f"{path}: is not the file that was fetched: its sha256 is {digest}, and was {before}. {remedy}"
        )
    if not before:  # laid there by hand
        write_text(_note(path), f"{digest}\n")


def _fetch(published: Published, path: Path, console: Console) -> None:
    name = published.url.rsplit("/", 1)[1] if published.member else path.name
    arrived = path.parent / "arriving" / name
    make_cache(arrived.parent)  # the message says to fetch it by hand to there
    known: dict[str, Any] = {"size": published.size, "checksum": published.checksum, "most_bytes": MOST_BYTES}
    fetch(published.url, arrived, **known, console=console, patient=False)
    found = arrived
    try:
        if published.member:
            found = arrived.with_name(published.member)
            extract_member(arrived, published.member, found, most_bytes=MOST_BYTES)
        if fault := _fault(found):
            raise ConfigError(f"{published.url}: what arrived {fault}")
        _accept(found, path, published, console)
    finally:
        for file in {found, arrived}:
            file.unlink(missing_ok=True)


def _accept(found: Path, path: Path, published: Published, console: Console) -> None:
    """Let a file take its place, unless another one did so before; the place is taken last."""
    digest, before = sha256(found), _kept(path)
    if before and before != digest and (published.member or not published.checksum):
        raise ConfigError(
            f"{published.url}: what arrived is another file than before: its sha256 is {digest}, and was {before}. It "
            f"was removed; to take it, delete {_note(path)}"
        )
    write_text(_note(path), f"{digest}\n")
    found.replace(path)
    if not published.checksum:
        console.out(f"{path.name}: no sha256 is known of it; the one it has, {digest}, is kept and checked from now on")


def _fault(path: Path) -> str:
    """Why a file can be no weights and no exported network; "" where it may be."""
    kind = kind_of(path)
    if kind in NOT_READ and kind not in FORMATS_HELD:
        return NOT_READ[kind]
    start = read_start(path, LOOKED_AT)
    if not kind and not any(byte < 32 and byte not in b"\t\n\r" or byte > 126 for byte in start):
        return f"is a text, such as a server's answer: {brief(start.decode())}. Take the link of the file itself"
    return ""


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _kept(path: Path) -> str:
    """The sha256 of the file that was fetched first; "" where none was."""
    note = _note(path)
    return note.read_text(encoding="utf-8").strip() if note.is_file() else ""
