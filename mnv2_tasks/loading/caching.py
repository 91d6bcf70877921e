"""Which training pictures are kept decoded, and where: as it was asked for, within what is free."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from mnv2_tasks.data.download.fetch import free_space
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.picture_cache import PictureCache
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import counted

log = logging.getLogger(__name__)

PLACES = ("none", "ram", "disk", "auto")
OTHERWISE = "a smaller train_imgsz= keeps smaller pictures, data.cache=none decodes them in every epoch"


class Wanted(NamedTuple):
    source: FileSource  # verified
    least: int | None  # see `DataSource.sample`
    place: str  # of PLACES


class CachedPictures(NamedTuple):
    cache: PictureCache
    place: str  # "ram" | "disk"
    sources: list[FileSource]  # that read the same pictures


def choose_caches(
    wanted: Mapping[str, Wanted], *, most: float | None = None, processes: int = 1
) -> list[CachedPictures]:
    """What is kept where; nothing is read yet.

    Args:
        wanted: of each task that is trained.
        most: bytes of all caches together; None: as many as are free.
        processes: that train on this machine.

    Raises:
        ConfigError: what was asked for does not fit, or there is no such place.
    """
    chosen: dict[tuple[str, str], CachedPictures] = {}
    for task, (source, least, place) in sorted(wanted.items(), key=lambda item: item[1].place == "auto"):
        if place not in PLACES:
            raise ConfigError(f"data.cache={place}: expected {', '.join(PLACES)}")
        if place == "none":
            continue
        cache = source.picture_cache(least)
        key = cache.state(), "ram" if place == "auto" else place
        if key in chosen:
            chosen[key].sources.append(source)
            continue
        taken = [other for other in chosen.values() if other.place == key[1]]
        bytes_there = cache.num_bytes + sum(other.cache.num_bytes for other in taken)
        bytes_of_all = cache.num_bytes + sum(other.cache.num_bytes for other in chosen.values())
        if place == "auto":
            if why := _not_worth_it(bytes_there, bytes_of_all, most, processes):
                log.info("data.cache=auto: pictures of %s are decoded in every epoch, %s", task, why)
                continue
        else:
            if most is not None and bytes_of_all > most:
                raise ConfigError(
                    f"data.cache_gb={most / 1e9:g}: the decoded training pictures take {decimal(bytes_of_all)}; "
                    f"raise it, or {OTHERWISE}"
                )
            if place == "ram":
                _check_memory(bytes_there, processes)
            elif cache.unfit():
                unwritten = [other.cache.num_bytes for other in taken if other.cache.unfit()]
                _check_disk(cache.num_bytes + sum(unwritten), cache.path().parent)
        chosen[key] = CachedPictures(cache, key[1], [source])
    return list(chosen.values())


def fill_caches(chosen: list[CachedPictures]) -> None:
    """Decode the pictures, and have the sources take them from there.

    Raises:
        ConfigError: the disk is full after all.
        DataError: a picture cannot be read.
    """
    for cache, place, sources in chosen:
        if place == "ram":
            cache.fill_memory()
        else:
            cache.fill_file()
        log.info("%s in %s", counted(len(cache.files), "decoded picture"), "memory" if place == "ram" else cache.path())
        for source in sources:
            source.cache = cache


def _not_worth_it(bytes_there: int, bytes_of_all: int, most: float | None, processes: int) -> str | None:
    """Why memory is not the place for them; None if it is."""
    free = free_memory()
    if processes > 1:
        return f"as each of {processes} processes would hold a copy of its own: data.cache=disk is one for all"
    if free is None:
        return "as this system does not tell how much memory is free: data.cache=ram takes what it needs"
    if most is not None and bytes_of_all > most:
        return f"as they take {decimal(bytes_of_all)}, more than data.cache_gb={most / 1e9:g}"
    if bytes_there > free[0] // 2:
        return f"as they take {decimal(bytes_there)}, more than half of what is free: {decimal(free[0])} of {free[1]}"
    return None


def _check_memory(needed: int, processes: int) -> None:
    free = free_memory()
    if processes > 1:
        raise ConfigError(
            f"data.cache=ram: each of {processes} processes would hold a copy of its own; "
            f"data.cache=disk is one file for all, which stays in memory where there is room"
        )
    if free is not None and needed > free[0]:
        raise ConfigError(
            f"data.cache=ram: the decoded training pictures take {decimal(needed)}, and {decimal(free[0])} of "
            f"{free[1]} are free; data.cache=disk keeps them in a file, {OTHERWISE}"
        )


def _check_disk(needed: int, folder: Path) -> None:
    free = free_space(folder)
    if needed > free:
        raise ConfigError(
            f"data.cache=disk: the decoded training pictures take {decimal(needed)}, and the disk of {folder} has "
            f"{decimal(free)} free; MNV2_CACHE=<folder> is another place, {OTHERWISE}"
        )


def free_memory(*, shared: bool = True) -> tuple[int, str] | None:
    """Bytes that can be taken, and what bounds them; None where the system does not tell.

    Args:
        shared: with other processes.
    """
    try:
        words = Path("/proc/meminfo").read_text(encoding="utf-8").split()
        found = [(int(words[words.index("MemAvailable:") + 1]) * 1024, "memory")]
    except (OSError, ValueError):
        return None
    place = Path("/dev/shm")
    if shared and place.is_dir():
        found.append((shutil.disk_usage(place).free, "shared memory (/dev/shm, of a container: --shm-size)"))
    group = Path("/sys/fs/cgroup")
    try:  # of the container around us; it counts as taken what it would give back
        statistics = (group / "memory.stat").read_text(encoding="utf-8").split()
        given_back = int(statistics[statistics.index("inactive_file") + 1])
        bound, taken = (int((group / name).read_text(encoding="utf-8")) for name in ("memory.max", "memory.current"))
        found.append((max(0, bound - taken + given_back), "this container's memory"))
    except (OSError, ValueError):  # none, or unbounded
        pass
    return min(found)
