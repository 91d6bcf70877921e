"""Charts of what an evaluation found. Each is a Figure, which `write_chart` draws and writes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mnv2_tasks.drawing.canvas import AS_WRITTEN
from mnv2_tasks.drawing.fonts import families
from mnv2_tasks.whole_files import written_whole
from mnv2_tasks.wording import shortened, visible

DPI = 110
COLOURED = 10  # more classes than matplotlib has colours are thin grey lines
NAMED = 60  # bars; of more classes the lowest are shown


def write_chart(path: Path, draw: Callable[[], Figure], class_names: Sequence[str]) -> None:
    """A PNG of what `draw` returns, with the letters of these names, in which a `$` is one."""
    with rc_context({**AS_WRITTEN, **families(class_names)}):
        figure = draw()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})


def class_lines(
    x: np.ndarray,
    of_classes: np.ndarray,
    mean: np.ndarray,
    names: Sequence[str],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """A line for each class, and their mean.

    Args:
        x: (S,) in [0, 1].
        of_classes: (S, K) in [0, 1]; a class that is NaN has none.
        mean: (S,).
        names: of the K classes, as the legend has them.
    """
    figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    present: list[int] = np.flatnonzero(~np.isnan(of_classes).all(axis=0)).tolist()
    if len(present) <= COLOURED:
        for index, k in enumerate(present):
            axes.plot(x, of_classes[:, k], color=f"C{index}", linewidth=1.2, label=_short(names[k]))
    else:
        axes.plot(x, of_classes[:, present], color="grey", linewidth=0.6, alpha=0.4)
        axes.plot([], [], color="grey", linewidth=0.6, label=f"each of {len(present):,} classes")
    if len(present):
        axes.plot(x, mean, color="black", linewidth=2.5, label="mean of the classes")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=9)
    else:
        _nothing(axes, "no objects")
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=10)
    _tidy(axes)
    return figure


def reliability(bins: Sequence[Mapping[str, Any]], error: float, *, score: str, right: str, what: str) -> Figure:
    """How often a score is right, beside what it says.

    Args:
        bins: of equal width, with bin_lower, bin_upper, avg_confidence, avg_accuracy and count.
        error: the expected calibration error.
        score, right, what: what the scores are, when one is right, and what is counted.
    """
    figure = Figure(figsize=(6, 6.5), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    lower, width = [of["bin_lower"] for of in bins], [of["bin_upper"] - of["bin_lower"] for of in bins]
    filled = [of for of in bins if of["count"]]
    above.bar(lower, [of["avg_accuracy"] for of in bins], width, align="edge", color="C0", edgecolor="white")
    above.plot([0, 1], [0, 1], "--", color="black", linewidth=1)
    above.plot([of["avg_confidence"] for of in filled], [of["avg_accuracy"] for of in filled], "o", color="black")
    above.set(ylim=(0, 1.02), ylabel=right)
    told = "dashed: scores that say how often they are right"
    above.set_title(f"expected calibration error {error:.3f}\n{told}", fontsize=10)
    below.bar(lower, [of["count"] for of in bins], width, align="edge", color="grey", edgecolor="white")
    below.set(xlim=(0, 1), xlabel=score, ylabel=f"{what} (logarithmic)")
    if filled:
        below.set_yscale("log")
        below.set_ylim(bottom=0.8)
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))  # its own one writes formulas
        below.yaxis.set_minor_formatter(NullFormatter())
    else:
        _nothing(above, f"no {what}")
    _tidy(above)
    _tidy(below)
    return figure


def class_bars(values: np.ndarray, names: Sequence[str], *, xlabel: str, mean: float) -> Figure:
    """A bar for each class that has a value, the greatest at the top.

    Args:
        values: (K,) in [0, 1], or NaN.
    """
    present = np.flatnonzero(~np.isnan(values))
    order: list[int] = present[np.argsort(-values[present], kind="stable")][-NAMED:].tolist()
    figure = Figure(figsize=(8, max(2.2, 1.2 + 0.24 * len(order))), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(order)), values[order], 0.75, color="C0")
    for row, k in enumerate(order):
        axes.text(float(values[k]) + 0.008, row, f"{values[k]:.3f}", va="center", fontsize=8)
    axes.set_yticks(range(len(order)), [_short(names[k]) for k in order], fontsize=9)
    axes.set(xlim=(0, 1.08), ylim=(max(len(order), 1) - 0.4, -0.6), xlabel=xlabel)
    axes.axvline(mean, color="black", linestyle="--", linewidth=1)
    hidden, absent = len(present) - len(order), len(values) - len(present)
    notes = [f"mean {mean:.3f} (dashed)"]
    notes += [f"the lowest {len(order)} of {len(present):,} classes"] if hidden else []
    notes += [f"{absent} without truth are left out"] if absent else []
    axes.set_title("; ".join(notes), fontsize=10)
    if not len(order):
        _nothing(axes, "no class has a value")
    _tidy(axes, "x")
    return figure


def paired_bars(rows: Mapping[str, tuple[float, float | None]], *, left: str, right: str, title: str) -> Figure:
    """Two numbers for each row, on axes of their own; None: it has no such number."""
    figure = Figure(figsize=(9, 1.3 + 0.38 * len(rows)), dpi=DPI, layout="constrained")
    places = range(len(rows))
    for axes, label, values, digits in zip(
        figure.subplots(1, 2, sharey=True), (left, right), zip(*rows.values()), (".3f", ",.0f")
    ):
        known = [0 if value is None else value for value in values]
        axes.barh(places, known, 0.7, color="C0" if label == left else "grey")
        axes.set_xlim(0, 1.2 * max(known) or 1)
        for row, value in enumerate(values):
            axes.text(
                0 if value is None else value,
                row,
                " –" if value is None else f" {value:{digits}}",
                va="center",
                fontsize=9,
            )
        axes.set_yticks(places, list(rows), fontsize=9)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _tidy(axes, "x")
    figure.suptitle(title, fontsize=10)
    return figure


def box_places(of_splits: Mapping[str, np.ndarray], cells: int = 40) -> Figure:
    """Where the boxes of each split lie, and how large they are.

    Args:
        of_splits: {split: (N, 4) xyxy fractions of the image}.
    """
    figure = Figure(figsize=(9, 0.4 + 4 * len(of_splits)), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(of_splits), 2, squeeze=False)
    for (split, boxes), (centres, sizes) in zip(of_splits.items(), panels):
        sides = boxes[:, 2:] - boxes[:, :2]
        for axes, points in ((centres, boxes[:, :2] + sides / 2), (sizes, sides)):
            counts = np.histogram2d(*points.T, bins=cells, range=[[0, 1], [0, 1]])[0].T
            shown = np.ma.masked_equal(counts, 0)  # none is white
            edges = np.linspace(0, 1, cells + 1)
            image = axes.pcolormesh(edges, edges, shown, cmap="viridis_r", vmin=1, vmax=max(2, counts.max()))
            figure.colorbar(image, ax=axes, label="boxes", fraction=0.046, ticks=MaxNLocator(6, integer=True))
            axes.set_aspect("equal")
            if not len(boxes):
                _nothing(axes, "no boxes")
        centres.set(xlabel="centre (fraction of the width)", ylabel="centre (fraction of the height)", ylim=(1, 0))
        sizes.set(xlabel="width (fraction of the image's)", ylabel="height (fraction of the image's)")
        centres.set_title(f"{split}: where {len(boxes):,} boxes lie", fontsize=10)
        sizes.set_title(f"{split}: their sizes", fontsize=10)
    return figure


def _short(name: str) -> str:
    return shortened(visible(name), 28)


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="grey")


def _tidy(axes: Axes, grid: Any = "both") -> None:
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
