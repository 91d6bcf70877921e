"""mnv2 checks: what is installed here, on what it computes, and what of its room is left; a block for bug reports."""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from mnv2_tasks import __version__
from mnv2_tasks.data.download.cache import cache_folder
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.caching import free_memory
from mnv2_tasks.network.machine import machine
from mnv2_tasks.runs.run_folder import git_commit
from mnv2_tasks.shipped import CHECKOUT, shipped
from mnv2_tasks.wording import visible

NAME = "mnv2-tasks"
ALSO = ("numpy", "opencv-python-headless")  # which others bring
MISSING = " is missing"
FOR_DEVELOPERS = ("test", "dev", "docs", "browser")
VARIABLES = ("MNV2_", "OMP_", "MKL_", "GOMP_", "CUDA_VISIBLE", "KMP_", "SLURM_JOB_ID", "PYTHONPATH", "LD_PRELOAD")
SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")


def from_command_line(arguments: Sequence[str]) -> None:
    """Print the block; there is nothing to choose."""
    if arguments and arguments != ["--help"]:
        raise ConfigError(f"{arguments[0]}: mnv2 checks takes no arguments; it shows what is installed and found here")
    rows = [*_software(), *_hardware(), *_extras(), *_room(), *_variables()]
    width = max(len(label) for label, _ in rows)
    print("```")
    for label, value in rows:
        print(f"{label:{width}}  {visible(value)}")
    print("```")


def _software() -> Iterator[tuple[str, str]]:
    place = f"checkout {_short(CHECKOUT)}, commit {git_commit() or 'unknown'}" if CHECKOUT else "installed"
    yield "mnv2_tasks", f"{__version__}, {place}"
    yield "system", f"{platform.platform()}, Python {platform.python_version()} in {_short(Path(sys.prefix))}"
    yield "packages", ", ".join(_found(one) for one in [*_required(None), *map(Requirement, ALSO)])
    yield "configs", f"{_short(shipped('conf'))}, weights {_short(shipped('weights'))}"


def _hardware() -> Iterator[tuple[str, str]]:
    import torch

    yield "machine", machine()
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        yield f"cuda:{index}", f"{about.name}, {_size(free)} of {_size(total)} free, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        yield "mps", "available"
    if memory := free_memory():
        yield "memory", f"{_size(memory[0])} free, bounded by {memory[1]}"


def _extras() -> Iterator[tuple[str, str]]:
    """Each extra, and what of it is missing."""
    for extra in importlib.metadata.metadata(NAME).get_all("Provides-Extra") or []:
        if extra in FOR_DEVELOPERS:
            continue
        found = [_found(one) for one in _required(extra)]
        lacks = any(one.endswith(MISSING) for one in found)
        remedy = f": pip install '{NAME}[{extra}]'" if lacks else ""
        yield f"[{extra}]", ", ".join(found) + remedy


def _required(extra: str | None) -> list[Requirement]:
    """What this package asks for, or what one of its extras does beside that."""
    try:
        needed = [Requirement(line) for line in importlib.metadata.requires(NAME) or []]
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"{NAME} is not installed in {sys.prefix}, only found beside: pip install -e {CHECKOUT or '<its folder>'}"
        ) from None
    alone = {one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})}
    if extra is None:
        return [one for one in needed if one.name in alone and (not one.marker or one.marker.evaluate({"extra": ""}))]
    return [
        one for one in needed
        if one.name not in alone and one.marker and one.marker.evaluate({"extra": extra}) and one.name != NAME
    ]  # fmt: skip


def _found(one: Requirement) -> str:
    try:
        version = importlib.metadata.version(one.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{one.name}{MISSING}"
    wanted = "" if one.specifier.contains(version, prereleases=True) else f" (needs {one.specifier})"
    return f"{one.name} {version}{wanted}"


def _room() -> Iterator[tuple[str, str]]:
    cache = cache_folder()
    kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) if cache.is_dir() else 0
    yield "cache", f"{_short(cache)}, {_size(kept)}"
    for label, folder in (("here", Path.cwd()), ("temporary", Path(tempfile.gettempdir()))):
        yield label, f"{_short(folder)}, {_size(shutil.disk_usage(folder).free)} free"


def _variables() -> Iterator[tuple[str, str]]:
    for name in sorted(os.environ):
        if name.startswith(VARIABLES):
            yield name, "(set)" if any(word in name for word in SECRET) else os.environ[name]


def _short(path: Path | None) -> str:
    """Without the name of the user, where it is in their home."""
    text, home = str(path), str(Path.home())
    return f"~{text.removeprefix(home)}" if text.startswith(home + os.sep) else text


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
