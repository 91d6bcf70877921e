"""Unpacking what others packed: an archive is checked whole, and refused whole, before its first file is written.

The standard library's own filter of tar files refuses a member at its turn, when those before it are written.
"""

import contextlib
import copy
import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from rich.console import Console
from rich.filesize import decimal

from mnv2_tasks.data.download.fetch import byte_bar, require_space
from mnv2_tasks.data.download.safe_names import name_fault
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.whole_files import written_whole

CHUNK = 1 << 20
LONGEST_READ = 1 << 24  # bytes; those of files are read in chunks
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError)
HERE = PurePosixPath()
STAGING = ".unpacking"  # inside the target folder: beside it may be another disk


class Member(NamedTuple):
    """A file or folder of an archive, as it describes itself."""

    name: str
    size: int  # bytes when unpacked
    is_folder: bool
    fault: str | None  # why its kind is refused
    open: Callable[[], IO[bytes]]


class _File(NamedTuple):
    member: Member
    path: PurePosixPath  # below the target folder


def extract(archive: Path, folder: Path, *, console: Console) -> int:
    """Unpack a .zip, .tar, .tar.gz or .tgz.

    Files go to a folder of their own first and move into place when all are there. Files that lie in place already
    with the same size are left alone, so that an unpacking that was cut off can be repeated. Empty folders are
    left out.

    Returns:
        How many files were written.

    Raises:
        ConfigError: the archive is damaged; would write outside the folder; has links, devices or contradictory names;
            needs more disk than there is; or files of other sizes are in the way.
    """
    with _readable(archive), _opened(archive, folder) as members, byte_bar(console) as bar:
        task = bar.add_task(f"reading {archive.name}", total=None)
        files = _missing(_checked(members, str(archive)), folder, str(archive))
        total = sum(file.member.size for file in files)
        require_space(folder, total, f"unpacking {archive.name}")
        bar.update(task, description=f"unpacking {archive.name}", total=total)
        _write(files, folder, str(archive), lambda written: bar.advance(task, written))
        return len(files)


def extract_tar_of_tars(archive: Path, folder: Path, *, console: Console) -> int:
    """Unpack each member `<name>.tar` of a .tar into `<folder>/<name>/`, as ImageNet's training images come.

    As `extract`, member by member: what was unpacked before a damaged member stays.
    """
    with _readable(archive), _opened(archive, folder) as members, byte_bar(console) as bar:
        packs = _checked(members, str(archive))
        for pack in packs:
            # "...tar" would unpack into ".."
            if pack.path.suffix != ".tar" or len(pack.path.parts) > 1 or pack.path.stem.startswith("."):
                raise _refused(str(archive), pack.member.name, "is not a .tar, as all of this archive should be")
        new = [pack.member.size for pack in packs if not (folder / pack.path.stem).exists()]
        require_space(folder, sum(new), f"unpacking {archive.name}")
        task = bar.add_task(f"unpacking {archive.name}", total=sum(pack.member.size for pack in packs))
        written = 0
        for done, pack in enumerate(packs, start=1):
            where = f"{archive}: {pack.member.name}"
            with pack.member.open() as packed, _tar(packed) as tar:
                inside = _checked(_tar_members(tar, folder), where, below=PurePosixPath(pack.path.stem))
                files = _missing(inside, folder, where)
                require_space(folder, sum(file.member.size for file in files), f"unpacking {pack.path}")
                _write(files, folder, where, lambda _: None)
            written += len(files)
            bar.update(task, advance=pack.member.size, description=f"{archive.name} {done}/{len(packs)}")
        return written


def extract_member(archive: Path, name: str, path: Path, *, most_bytes: int) -> None:
    """Write one file of an archive to `path`. The others are left alone, and no name in the archive decides on a place.

    Args:
        name: of the file, in whatever folder of the archive.
        most_bytes: a larger one is refused.

    Raises:
        ConfigError: it has none or several of that name, one that is no plain file or too large; or it is damaged.
    """
    with _readable(archive, "Fetch it again"), _opened(archive, path.parent) as members:
        found = [member for member in members if PurePosixPath(member.name).name == name and not member.is_folder]
        if len(found) != 1:
            raise ConfigError(f"{archive}: holds {len(found) or 'no'} files called {name}, expected one")
        member = found[0]
        if member.fault:
            raise ConfigError(f"{archive}: {name} {member.fault}, expected a plain file")
        if member.size > most_bytes:
            raise ConfigError(f"{archive}: {name} has {decimal(member.size)}, more than {decimal(most_bytes)}")
        require_space(path.parent, member.size, f"unpacking {name}")
        with written_whole(path) as file:
            _copy(member, file, str(archive))


class _Limited:
    """A file for tarfile, which reads a header at once, whatever size the archive says that it has."""

    def __init__(self, file: Any):
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int) -> bytes:
        if size > LONGEST_READ:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)


def _tar(file: IO[bytes] | gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast(IO[bytes], _Limited(file)), mode="r:")


@contextlib.contextmanager
def _opened(archive: Path, folder: Path) -> Iterator[Iterator[Member]]:
    name = archive.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            yield _zip_members(zipped)
    elif name.endswith((".tar", ".tar.gz", ".tgz")):
        with archive.open("rb") if name.endswith(".tar") else gzip.open(archive) as file, _tar(file) as tar:
            yield _tar_members(tar, folder)
    else:
        raise ConfigError(f"{archive}: unknown kind of archive; .zip, .tar, .tar.gz and .tgz can be unpacked")


@contextlib.contextmanager
def _readable(archive: Path, remedy: str = "Delete it and fetch it again") -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise ConfigError(f"{archive}: is damaged or cut short ({error}). {remedy}") from None
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
        raise ConfigError(f"{archive}: cannot be unpacked ({reason})") from None


def _tar_members(tar: tarfile.TarFile, folder: Path) -> Iterator[Member]:
    for info in tar:
        yield Member(
            name=info.name,
            size=info.size,
            is_folder=info.isdir(),
            fault=_tar_fault(info, folder),
            open=lambda info=info: _open_tarred(tar, info),
        )
    # tarfile takes a damaged header for the end, in silence; the end is a block of zeros
    tar.fileobj.seek(tar.offset)
    if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no member starts at byte {tar.offset:,}")


def _open_tarred(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    assert file is not None, info  # None is for what _tar_fault refuses
    return file


def _tar_fault(info: tarfile.TarInfo, folder: Path) -> str | None:
    kinds = {
        "is a symbolic link": info.issym(),
        "is a hard link": info.islnk(),
        "is a device": info.ischr() or info.isblk(),
        "is a named pipe": info.isfifo(),
        "is of an unknown kind": not (info.isreg() or info.isdir()),
    }
    fault = next((kind for kind, holds in kinds.items() if holds), None)
    if fault is None:
        try:  # the standard library's own rules, in case ours have a hole; nothing lies in STAGING to mislead them
            tarfile.data_filter(info, str(folder / STAGING))
        except tarfile.FilterError as error:
            return f"is unsafe ({error})"
    return fault


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[Member]:
    for info in zipped.infolist():
        yield Member(
            name=info.orig_filename,  # `filename` is mended already: cut at a NUL, and turned to / on Windows
            size=info.file_size,
            is_folder=info.is_dir(),
            fault=_zip_fault(info),
            open=lambda info=info: _open_zipped(zipped, info),
        )


def _zip_fault(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or a named pipe"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {info.compress_type}; stored and deflated members can be unpacked"
    return None


def _open_zipped(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """zipfile stops at the declared size, whatever follows; allowed to go on, it shows a member that lies."""
    roomy = copy.copy(info)
    roomy.file_size += CHUNK
    return zipped.open(roomy)


def _checked(members: Iterable[Member], where: str, below: PurePosixPath = HERE) -> list[_File]:
    """The files among the members, with their places; a ConfigError for the first that is refused."""
    files: list[_File] = []
    folders: dict[str, bool] = {}  # path in lower case -> is it a folder; on some disks case does not count
    seen: set[PurePosixPath] = set()
    for member in members:
        fault = name_fault(member.name) or member.fault
        if fault:
            raise _refused(where, member.name, fault)
        path = below / member.name
        if path.parts[:1] == (STAGING,) or (path == below and not member.is_folder):
            raise _refused(where, member.name, "has a name that no file can have here")
        for place in (path, *path.parents):
            is_folder = member.is_folder or place != path
            if folders.setdefault(str(place).casefold(), is_folder) != is_folder:
                raise _refused(where, member.name, "is a file by one name and a folder by another")
        if not member.is_folder:
            if path in seen:
                raise _refused(where, member.name, "is in it twice")
            seen.add(path)
            files.append(_File(member, path))
    return files


def _refused(where: str, name: str, fault: str) -> ConfigError:
    return ConfigError(
        f"{where}: refused, nothing of it was unpacked: its member {name!r} {fault}. Get the archive from its publisher"
    )


def _missing(files: list[_File], folder: Path, where: str) -> list[_File]:
    """Those that do not lie in the folder; a ConfigError if something else is in the place of one."""
    missing, blocked = [], []
    for file in files:
        goal = folder / file.path
        try:
            status = goal.stat()
        except FileNotFoundError:
            missing.append(file)
        except NotADirectoryError:
            blocked.append(f"{goal} (a folder of it is a file)")
        else:
            if stat.S_ISDIR(status.st_mode):
                blocked.append(f"{goal} (is a folder)")
            elif status.st_size != file.member.size:
                blocked.append(f"{goal} ({status.st_size:,} bytes, in the archive {file.member.size:,})")
    if blocked:
        more = f" and {len(blocked) - 1:,} more" if len(blocked) > 1 else ""
        raise ConfigError(
            f"{where}: other files are where its own belong: {blocked[0]}{more}. Nothing was overwritten; "
            f"move them away and run this again"
        )
    return missing


def _write(files: list[_File], folder: Path, where: str, advance: Callable[[int], None]) -> None:
    if not files:
        return
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)  # of an unpacking that was killed
    staging.mkdir(parents=True)
    try:
        for file in files:
            _write_one(file, staging, where, advance)
        _merge(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_one(file: _File, staging: Path, where: str, advance: Callable[[int], None]) -> None:
    goal = staging / file.path
    goal.parent.mkdir(parents=True, exist_ok=True)
    with goal.open("xb") as target:  # "x": on a disk where case does not count, two names may meet in one file
        _copy(file.member, target, where, advance)


def _copy(member: Member, target: IO[bytes], where: str, advance: Callable[[int], None] = lambda _: None) -> None:
    written = 0
    with member.open() as source:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > member.size:
                raise _refused(where, member.name, f"holds more than the {member.size:,} bytes it declares")
            target.write(chunk)
            advance(len(chunk))
    if written < member.size:
        raise tarfile.ReadError(f"{member.name} ends after {written:,} of {member.size:,} bytes")


def _merge(source: Path, target: Path) -> None:
    """Whole folders where there is none, so that a folder is complete once it is there; else file by file."""
    for entry in source.iterdir():
        goal = target / entry.name
        if entry.is_dir() and goal.is_dir():
            _merge(entry, goal)
        else:
            shutil.move(entry, goal)  # copies where the user linked a folder to another disk
