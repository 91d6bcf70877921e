"""The project's folders: within the installed package, as pyproject.toml places them, or beside it in a checkout."""

import re
import sysconfig
import traceback
from pathlib import Path

from mnv2_tasks.errors import ConfigError

PACKAGE = Path(__file__).parent
INSTALLED_AS = {"conf": "conf", "weights": "shipped_weights"}  # mnv2_tasks/weights/ is a room of the code


def checkout_of(package: Path) -> Path | None:
    """The checkout in which the package lies. Beside an installed one, pyproject.toml and conf/ are others'."""
    try:
        project = (package.parent / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return None
    return package.parent if 'name = "mnv2-tasks"' in project else None


CHECKOUT = checkout_of(PACKAGE)


def shipped(folder: str) -> Path:
    """The project's conf/ or weights/.

    Raises:
        ConfigError: it is missing.
    """
    place = CHECKOUT / folder if CHECKOUT else PACKAGE / INSTALLED_AS[folder]
    if not place.is_dir():
        raise broken_installation(f"{place} is missing")
    return place


def broken_installation(symptom: str) -> ConfigError:
    """The error to raise where a part of the project is missing."""
    if CHECKOUT:
        remedy = f"`git status` in {CHECKOUT} shows files that are missing, `pip install -e .` there brings packages"
    else:
        remedy = "install it anew: pip install --force-reinstall <the project's folder or wheel>"
    return ConfigError(f"this installation of mnv2_tasks is broken: {symptom}; {remedy}")


def module_missing(error: ModuleNotFoundError) -> ConfigError:
    """The error to raise where something imports what is not there: a part of the project, or the user's own module."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    ours = [PACKAGE, *(Path(place) for place in sysconfig.get_paths().values())]
    if not frames or any(Path(frames[-1].filename).is_relative_to(place) for place in ours):
        return broken_installation(str(error))
    return ConfigError(
        f"{frames[-1].filename}, line {frames[-1].lineno}: {error}. Install it, or name the folder that it lies in by "
        f"the environment variable PYTHONPATH"
    )


def as_called_here(text: str) -> str:
    """A message as this installation needs it: only a checkout has tools/, every one has the command."""
    return text if CHECKOUT else re.sub(r"(python )?tools/(\w+)\.py", r"mnv2 \2", text)
