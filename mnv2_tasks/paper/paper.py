"""paper(config): the paper's figures that can be drawn without training, and a page with its claims beside ours."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig
from rich.console import Console

from mnv2_tasks.drawing.table import Table, markdown_text
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.paper.figure import DrawnFigure
from mnv2_tasks.paper.figure_1 import draw_figure_1
from mnv2_tasks.paper.figure_7 import check_figure_7, draw_figure_7
from mnv2_tasks.paper.figure_8 import check_figure_8, draw_figure_8
from mnv2_tasks.paper.frontier import draw_frontier
from mnv2_tasks.paper.material import Material, read_material
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.whole_files import write_json, write_text
from mnv2_tasks.wording import brief, visible


class OfMaterial(NamedTuple):
    """A figure that is drawn of weights and pictures."""

    check: Callable[[Material], None]
    draw: Callable[[Material], DrawnFigure]


FIGURES: dict[int, Callable[[], DrawnFigure] | OfMaterial] = {
    1: draw_figure_1,
    5: draw_frontier,
    7: OfMaterial(check_figure_7, draw_figure_7),
    8: OfMaterial(check_figure_8, draw_figure_8),
}
BLOCKS = "is a drawing of blocks"
NOT_DRAWN = dict.fromkeys((2, 3, 4), BLOCKS) | {6: "is of trained networks: python tools/study.py study=ablations"}
ELSEWHERE = {
    "figure 5, trained": "python tools/study.py study=widths",
    "figure 6, bottlenecks and shortcuts": "python tools/study.py study=ablations",
    "section 4, expansion factors": "python tools/study.py study=expansion",
    "table 5, SSD and SSDLite": "python tools/study.py study=ssd_vs_ssdlite",
    "table 7, output strides and ASPP": "python tools/study.py study=output_stride",
    "tables 3 to 7, sizes and costs": "python tools/scorecard.py",
}


def paper(config: DictConfig) -> None:
    """Write paper.md, paper.json and a picture of each figure into the folder `config.out`.

    Raises:
        ConfigError: there is no such figure, or it cannot be drawn of these weights or pictures.
        DataError: a picture or a mask cannot be read.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    asked = _asked(config.figures)
    material: Any = None
    left_out: dict[int, str] = {}
    if any(isinstance(FIGURES[number], OfMaterial) for number in asked):
        material = read_material(config)
        left_out = _left_out(asked, material, named=config.figures is not None)
    out = _folder(config.out)  # before minutes of computing
    drawn: dict[int, DrawnFigure] = {}
    for number in asked:
        figure: Any = FIGURES[number]
        if number in left_out:
            console.print(f"figure {number}: not drawn, {visible(left_out[number])}")
            continue
        drawn[number] = figure.draw(material) if isinstance(figure, OfMaterial) else figure()
        console.print(f"figure {number}: {drawn[number].title}")
        for claim in drawn[number].claims:
            console.print(f"  paper: {claim.paper}\n  here:  {claim.ours}")
        drawn[number].write(out / f"figure_{number}.png")  # at once: what the next one fails at costs only itself
    write_json(out / "paper.json", [_as_dict(number, figure) for number, figure in drawn.items()])
    write_text(out / "paper.md", page(drawn, left_out))
    console.print(f"Written to {out}: paper.md, paper.json and {len(drawn)} pictures")


def page(drawn: dict[int, DrawnFigure], left_out: dict[int, str]) -> str:
    """Each picture with a table of what the paper says and what came out here, in Markdown."""
    parts = ["# Figures of the MobileNetV2 paper, drawn here\n"]
    for number, figure in drawn.items():
        rows = [[claim.paper, claim.ours] for claim in figure.claims]
        parts += [f"## Figure {number}: {figure.title}\n", f"![figure {number}](figure_{number}.png)\n"]
        parts.append(Table("", ["the paper says", "came out here"], rows, text_columns=2).to_markdown())
    parts += [f"Figure {number} is not drawn: {markdown_text(reason)}\n" for number, reason in left_out.items()]
    rows = [[what, as_called_here(command)] for what, command in ELSEWHERE.items()]
    parts.append(Table("What other commands do", ["of the paper", "command"], rows, text_columns=2).to_markdown())
    return "\n".join(parts)


def _folder(out: Any) -> Path:
    if out in (None, ""):
        raise ConfigError(f"out={brief(out)}: expected a folder, such as out=runs/paper")
    folder = Path(os.path.expanduser(str(out)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out}: cannot be made a folder ({error.strerror}). Choose another") from None
    return folder


def _asked(figures: Any) -> list[int]:
    """The numbers that `figures=` names, in order; null: all."""
    if figures is None:
        return list(FIGURES)
    numbers = list(figures) if isinstance(figures, ListConfig) else [figures]
    for number in numbers:
        if type(number) is not int or number not in FIGURES:
            why = NOT_DRAWN.get(number, "the paper has figures 1 to 8")
            known = ", ".join(map(str, FIGURES))
            raise ConfigError(f"figures={number}: {why}. Those to draw are {known}, such as figures=[1,7]")
    if not numbers:
        raise ConfigError("figures=[]: names none; leave it out for all of them")
    return sorted(set(numbers))


def _left_out(asked: list[int], material: Material, *, named: bool) -> dict[int, str]:
    """{figure: why these weights or pictures cannot give it}

    Args:
        named: they were asked for by number, and then it is an error.
    """
    reasons = {}
    for number in asked:
        figure = FIGURES[number]
        try:
            if isinstance(figure, OfMaterial):
                figure.check(material)
        except (ConfigError, DataError) as error:
            if named:
                raise
            reasons[number] = str(error)
    return reasons


def _as_dict(number: int, figure: DrawnFigure) -> dict[str, Any]:
    claims = [claim._asdict() for claim in figure.claims]
    return {"figure": number, "title": figure.title, "picture": f"figure_{number}.png", "claims": claims}
