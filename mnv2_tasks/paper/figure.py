"""A figure of the paper drawn here: a picture, and what the paper says of it beside what came out."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from mnv2_tasks.whole_files import written_whole


class Claim(NamedTuple):
    paper: str  # what it says, and where
    ours: str  # what came out here


class DrawnFigure(NamedTuple):
    title: str
    write: Callable[[Path], None]  # the picture
    claims: list[Claim]


def write_figure(figure: Figure, path: Path) -> None:
    with written_whole(path) as file:
        figure.savefig(file, format="png")
