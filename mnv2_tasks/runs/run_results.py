"""What a run leaves when it has ended, and whether it is all there."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file

from mnv2_tasks.metrics.outcomes import load_outcomes
from mnv2_tasks.stored.run_files import read_scores
from mnv2_tasks.weights.digest import check_digest


def _check_weights(path: Path) -> None:
    check_digest(path, load_file(path))


def _check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _check_text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("it was cut short")


CHECKS: dict[str, Callable[[Path], Any]] = {  # how each is read, which fails where it is damaged
    "weights.safetensors": _check_weights,
    "per_image.npz": load_outcomes,
    "plots/*.png": _check_picture,  # in folders of the tasks, too
    "samples/*.png": _check_picture,
    "model_card.md": _check_text,
    "metrics.json": read_scores,
}
# of runs before 0.2, which do not list what was written
FORMER = ("weights.safetensors", "per_image.npz", "plots/curves.png", "samples/validation.png", "metrics.json")


def written(run: Path) -> list[str]:
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    return [name for pattern in CHECKS for name in files if fnmatchcase(name, pattern)]


def faults(run: Path, names: Iterable[str]) -> dict[str, str]:
    """{result that a run lacks: what is wrong with it}

    Args:
        names: of what was `written` when it ended.
    """
    found = {}
    for name in names:
        check = next((check for pattern, check in CHECKS.items() if fnmatchcase(name, pattern)), None)
        if check is None:  # of another version
            continue
        try:
            check(run / name)
        except FileNotFoundError:
            found[name] = "is missing"
        except Exception as error:  # each format has errors of its own for a file that cannot be read
            found[name] = f"cannot be read ({error})" if (run / name).exists() else "is missing"
    return found
