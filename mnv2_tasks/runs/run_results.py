"""What a run leaves when it has ended, and whether it is all there."""

from collections.abc import Callable, Container
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


RESULTS: dict[str, Callable[[Path], Any]] = {  # and how each is read, which fails where it is damaged
    "weights.safetensors": _check_weights,
    "per_image.npz": load_outcomes,
    "plots/curves.png": _check_picture,
    "samples/validation.png": _check_picture,
    "model_card.md": _check_text,
    "metrics.json": read_scores,
}


def written(run: Path) -> list[str]:
    return [name for name in RESULTS if (run / name).is_file()]


def faults(run: Path, names: Container[str]) -> dict[str, str]:
    """{result that a run lacks: what is wrong with it}

    Args:
        names: of what was `written` when it ended.
    """
    found = {}
    for name, check in RESULTS.items():
        if name not in names:
            continue
        try:
            check(run / name)
        except FileNotFoundError:
            found[name] = "is missing"
        except Exception as error:  # each format has errors of its own for a file that cannot be read
            found[name] = f"cannot be read ({error})" if (run / name).exists() else "is missing"
    return found
