"""Figure 5 of the paper, and the same of its detectors: scores in print against multiply-adds as we count them."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnv2_tasks.scorecard.paper_number import PaperNumber
from mnv2_tasks.scorecard.writing import best
from mnv2_tasks.whole_files import written_whole

CURVES = {"TF slim": "MobileNetV2", "TF slim, V1": "MobileNetV1"}  # tables whose rows are called <width>_<side>


class PublishedScore(NamedTuple):
    table: str
    name: str
    madds: float
    score: float  # percent


def points_of(card: Iterable[PaperNumber], score: str) -> list[PublishedScore]:
    """Of the networks whose multiply-adds are counted and whose `score`, such as "top-1", is in print."""
    points = []
    for (table, name), group in groupby(card, key=lambda row: (row.table, row.row)):
        rows = list(group)
        madds = best(rows, "MAdds")
        scores = [row.paper for row in rows if row.quantity.startswith(score)]
        if scores and madds and madds.ours:
            points.append(PublishedScore(table, name, madds.ours, scores[0]))
    return points


def plot_figure_5(card: Sequence[PaperNumber], path: Path) -> None:
    """Classifiers with MobileNetV2's widths as a curve for each input size, and detectors."""
    figure = Figure(figsize=(13, 5.5), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    classifiers = points_of(card, "top-1")
    for (table, network), line in zip(CURVES.items(), ("o-", "s:")):
        curves = [(point, int(point.name.partition("_")[2])) for point in classifiers if point.table == table]
        for side in sorted({side for _, side in curves}):
            curve = sorted(((p.madds / 1e6, p.score) for p, of in curves if of == side))
            left.plot(*zip(*curve), line, alpha=0.6, label=f"{network}, {side} px")
    _mark(left, [point for point in classifiers if point.table not in CURVES], 1e6)
    left.set_xlabel("multiply-adds of one image (millions, logarithmic)")
    left.set_ylabel("ImageNet top-1, %, as published")
    _mark(right, points_of(card, "AP, test-dev"), 1e9)
    right.set_xlabel("multiply-adds of one image (billions, logarithmic)")
    right.set_ylabel("COCO test-dev AP, %, as published")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    with written_whole(path) as file:
        figure.savefig(file, format="png")


def _mark(axes: Axes, points: Sequence[PublishedScore], unit: float) -> None:
    """One mark for each name: the paper of MobileNetV3 prints a network of this one again."""
    for index, point in enumerate({point.name: point for point in reversed(points)}.values()):
        mark = "sDv^P*X"[index % 7]
        axes.plot(point.madds / unit, point.score, mark, markersize=8, color=f"C{index % 10}", label=point.name)
