"""The plots of a comparison, as PNG bytes on white."""

import io
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from mnv2_tasks.drawing.canvas import AS_WRITTEN
from mnv2_tasks.drawing.fonts import families
from mnv2_tasks.studies.compare.measure import MeasuredNetwork
from mnv2_tasks.studies.compare.subjects import ClassDifference, Entry
from mnv2_tasks.wording import shortened

BETTER, WORSE, UNSURE = "#1f6fb4", "#c4541c", "#b9b9b9"  # told apart by those who see no red or green as well
INK = "#222222"
WIDEST = 44  # letters of a name on an axis
ENDS = 12  # of more classes than twice this, the greatest wins and losses are shown
DPI = 150
RADII = (9, 16, 26, 38, 52, 68, 86, 106, 128)  # pixels at 100 dpi from a point to the nearest edge of its name
ANGLES = [math.radians(a) for a in (0, 180, 45, -45, 135, -135, 90, -90)]
POINT = 6  # pixels around a point that names keep off


@rc_context(AS_WRITTEN)
def plot_scores(entries: Sequence[Entry], names: Sequence[str], metric: str) -> bytes:
    """A row for each entry: mean, interval, and a dot for each seed."""
    figure = Figure(figsize=(7.6, 1.0 + 0.36 * len(entries)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for row, entry in enumerate(entries):
        if entry.interval:
            axes.plot(entry.interval, [row, row], color=BETTER, linewidth=2.2, solid_capstyle="butt", alpha=0.55)
        if len(entry.task_scores) > 1:
            scores = [one.score for one in entry.task_scores]
            axes.plot(scores, [row] * len(scores), ".", color=INK, markersize=4, alpha=0.7, zorder=3)
        axes.plot(entry.score, row, "o", color=BETTER, markersize=6, zorder=4, markeredgecolor="white")
    axes.axvline(entries[0].score, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yticks(range(len(entries)), [shortened(name, WIDEST) for name in names], fontsize=8)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlabel(f"{metric} (fraction)")
    _tidy(axes, "x")
    return _png(figure)


@rc_context(AS_WRITTEN)
def plot_pareto(entries: Sequence[Entry], names: Sequence[str], metric: str) -> bytes:
    """Score against each cost; a dashed line joins the entries that nobody beats in both.

    Args:
        names: written beside the points.
    """
    costs = [_costs(entry.group.network) for entry in entries]
    figure = Figure(figsize=(11.4, 7.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    figure.supylabel(f"{metric} (fraction)", fontsize=9)
    labels = []
    for axes, label in zip(panels.flat, costs[0], strict=True):
        known = [(value, entry, name) for cost, entry, name in zip(costs, entries, names) if (value := cost[label])]
        points = [(cost, entry.score) for cost, entry, _ in known]
        for cost, entry, _ in known:
            if entry.interval:
                axes.plot([cost, cost], entry.interval, color=BETTER, linewidth=1.4, alpha=0.35, zorder=2)
        axes.plot(*np.reshape(points, (-1, 2)).T, "o", color=BETTER, markersize=6, markeredgecolor="white", zorder=4)
        best = pareto_front(points)
        axes.plot(*np.reshape(best, (-1, 2)).T, "--", color=INK, linewidth=0.9, alpha=0.6, zorder=3)
        axes.set_xlabel(label)
        _widen(axes, points)
        _tidy(axes, "both")
        labels.append((axes, points, [name for _, _, name in known]))
        if not known:
            axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", va="center", color="0.5")
    figure.draw_without_rendering()  # the layout is final now
    figure.set_layout_engine("none")
    for axes, points, beside in labels:
        place_labels(axes, points, beside)
    return _png(figure)


def _costs(measured: MeasuredNetwork | None) -> dict[str, float | None]:
    """{axis label with its unit: value, None where it is not known}"""
    latency, exported = (measured.latency, measured.exported_latency) if measured else (None, None)
    return {
        "multiply-adds (G, one image)": measured.cost.madds / 1e9 if measured else None,
        "parameters (M)": measured.cost.params / 1e6 if measured else None,
        "latency p50 (ms, one image)": latency.p50 if latency else None,
        "exported p50 (ms, one image)": exported.p50 if exported else None,
    }


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, score) those for which nothing costs less and scores as much, cheapest first."""
    best, found = -math.inf, []
    for cost, score in sorted(points, key=lambda p: (p[0], -p[1])):
        if score > best:
            best = score
            found.append((cost, score))
    return found


@rc_context(AS_WRITTEN)
def plot_classes(differences: Sequence[ClassDifference], title: str, metric: str) -> bytes:
    """A bar for each class, the greatest win at the top; pale where the interval holds zero."""
    rcParams.update(families(item.name for item in differences))
    hidden = len(differences) - 2 * ENDS
    shown = [*differences[:ENDS], None, *differences[-ENDS:]] if hidden > 1 else list(differences)
    figure = Figure(figsize=(7.6, 1.2 + 0.2 * len(shown)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for row, item in enumerate(shown):
        if item is None:
            axes.text(0, row, f"{hidden} more", ha="center", va="center", fontsize=7, color="0.4")
            continue
        sure = item.interval is not None and item.interval.excludes_zero()
        colour = (BETTER if item.difference > 0 else WORSE) if sure else UNSURE
        axes.barh(row, item.difference, 0.72, color=colour)
        if item.interval:
            axes.plot(item.interval, [row, row], color=INK, linewidth=0.8)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(
        range(len(shown)), ["…" if item is None else shortened(item.name, 28) for item in shown], fontsize=7.5
    )
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"difference in {metric} (fraction)")
    axes.set_title(shortened(title, 90), fontsize=9, loc="left")
    _tidy(axes, "x")
    return _png(figure)


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write each name at the nearest place around its point where it lies on no other, on no point, and not outside.

    A thin line leads to a name that is far off. A name that finds no free place lies on as few others as can be.

    Args:
        axes: limits, scales and layout are final.
        points: in data coordinates.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    pixel, inside, to_axes = figure.dpi / 100, axes.get_window_extent(), axes.transAxes.inverted()
    places = [axes.transData.transform(point) for point in points]
    taken = [Bbox.from_bounds(x, y, 0, 0).padded(POINT * pixel) for x, y in places]

    def faults(candidate: tuple[int, Bbox]) -> int:
        box = candidate[1]
        return box.count_overlaps(taken) + (not (inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)))

    for (x, y), name in zip(places, names):
        text = axes.text(0, 0, name, fontsize=8, transform=axes.transAxes, va="bottom", zorder=5)
        width, height = text.get_window_extent().size
        around = [(radius, angle) for radius in RADII for angle in ANGLES]
        candidates = [(radius, _beside(x, y, width, height, radius * pixel, angle)) for radius, angle in around]
        radius, box = min(candidates, key=faults)  # the first of equals
        taken.append(box.padded(1.5 * pixel))
        left, bottom = to_axes.transform(box.p0)
        text.set_position((left, bottom))
        if radius > RADII[1]:
            ends = to_axes.transform([(x, y), np.clip((x, y), box.p0, box.p1)])
            axes.plot(*ends.T, transform=axes.transAxes, color="0.6", linewidth=0.6, zorder=1)


def _beside(x: float, y: float, width: float, height: float, gap: float, angle: float) -> Bbox:
    """A box of this size in a direction from a point, its nearest edge or corner that gap away."""
    dx, dy = math.cos(angle), math.sin(angle)
    left = x + gap * dx - width * (1 - dx) / 2
    bottom = y + gap * dy - height * (1 - dy) / 2
    return Bbox.from_bounds(left, bottom, width, height)


def _widen(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Room for names beside the outermost points; a logarithmic axis where costs differ by factors."""
    costs = [cost for cost, _ in points]
    if costs and max(costs) > 3 * min(costs):
        axes.set_xscale("log")
        factor = (max(costs) / min(costs)) ** 0.3
        axes.set_xlim(min(costs) / factor, max(costs) * factor)
        decades = math.log10(max(costs) / min(costs)) + 0.5
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif costs:
        margin = max(0.35 * (max(costs) - min(costs)), 0.15 * max(costs))
        axes.set_xlim(max(0, min(costs) - margin), max(costs) + margin)
    axes.margins(y=0.18)


def _tidy(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    axes.grid(alpha=0.25, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(9)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
