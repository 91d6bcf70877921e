"""Figures 5 and 6 of the paper, of the runs of a study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from scipy.stats import t

from mnv2_tasks.metrics.bootstrap import COVERAGE, standard_deviation
from mnv2_tasks.whole_files import written_whole

MARKERS = "osD^vPX*<>"  # a width each


class Summary(NamedTuple):
    mean: float
    margin: float  # half of the interval of the mean; NaN of fewer than two values
    std: float  # of a sample; NaN of fewer than two values
    count: int


@dataclass
class Point:
    width: float
    size: int  # pixels
    madds: int
    scores: list[float]  # one per seed
    ablation: str = ""

    @property
    def curve(self) -> str:
        return ", ".join(filter(None, (f"{self.size} px", self.ablation)))


def summary_of(scores: Sequence[float]) -> Summary:
    """Mean and its 95 % interval by Student's t; scores that are NaN do not count."""
    values = [score for score in scores if math.isfinite(score)]
    count, std = len(values), standard_deviation(values)
    mean = sum(values) / count if count else math.nan
    margin = float(t.ppf(0.5 + COVERAGE / 2, count - 1)) * std / math.sqrt(count) if count > 1 else math.nan
    return Summary(mean, margin, std, count)


def plot_variants(scores: Mapping[str, Sequence[float]], score: str, out: Path) -> None:
    """Figure 6: for each variant every seed as a dot, and the mean with its interval.

    Args:
        scores: {variant: a score per seed}; may be empty.
    """
    figure = Figure(figsize=(7, 1.4 + 0.55 * len(scores)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for row, values in enumerate(scores.values()):
        found = summary_of(values)
        if found.count == 0:
            axes.text(0.5, row, "no run", transform=axes.get_yaxis_transform(), ha="center", va="center", color="grey")
            continue
        margin = None if math.isnan(found.margin) else found.margin
        axes.errorbar(found.mean, row, xerr=margin, fmt="o", color=f"C{row % 10}", capsize=5, markersize=7, linewidth=2)
        axes.plot(values, [row + 0.22] * len(values), ".", color="grey", markersize=5)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.5, -0.5)  # the first variant on top
    axes.set_xlabel(f"{score} (fraction); circle: mean and its 95 % interval, dots: seeds")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with written_whole(out) as file:
        figure.savefig(file, format="png")


def plot_widths(points: Sequence[Point], score: str, out: Path) -> None:
    """Figure 5: score against multiply-adds on a logarithmic axis; colours are curves, markers widths."""
    figure = Figure(figsize=(8, 5.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    curves, widths = list(dict.fromkeys(point.curve for point in points)), sorted({point.width for point in points})
    for index, name in enumerate(curves):
        curve = sorted((p for p in points if p.curve == name), key=lambda p: p.madds)
        axes.plot([p.madds / 1e6 for p in curve], [summary_of(p.scores).mean for p in curve], color=f"C{index % 10}")
        for point in curve:
            found = summary_of(point.scores)
            axes.errorbar(
                point.madds / 1e6, found.mean, yerr=None if math.isnan(found.margin) else found.margin,
                marker=MARKERS[widths.index(point.width) % len(MARKERS)], color=f"C{index % 10}", capsize=3,
            )  # fmt: skip
    axes.set_xscale("log", base=2)
    ticks = _ticks([point.madds / 1e6 for point in points])
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("multiply-adds of one image (millions, logarithmic)")
    axes.set_ylabel(f"{score} (fraction)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    names = [Line2D([], [], color=f"C{index % 10}", label=name) for index, name in enumerate(curves)]
    names += [
        Line2D([], [], color="grey", linestyle="", marker=MARKERS[index % len(MARKERS)], label=f"width {width:g}")
        for index, width in enumerate(widths)
    ]
    axes.legend(handles=names, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    with written_whole(out) as file:
        figure.savefig(file, format="png")


def _ticks(values: Sequence[float]) -> list[float]:
    """The paper's: 7.5, 15, 30 ... as far as the values go."""
    low = math.floor(math.log2(min(values) / 7.5))
    high = math.ceil(math.log2(max(values) / 7.5))
    return [7.5 * 2.0**power for power in range(low, high + 1)]
