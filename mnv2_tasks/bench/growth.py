"""Time and memory of work that grows: curves, their slopes in log-log, a table and a plot."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from mnv2_tasks.drawing.table import Table

MEGA = 1e6
STEEP = 1.2  # a fitted slope above this is worse than linear; below, it may be the caches that large work outgrows


@dataclass
class Curve:
    """What one piece of work takes, over the axis of its `Growth`."""

    name: str
    amounts: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of processor time: other work on the machine counts little
    megabytes: list[float] = field(default_factory=list)  # or empty
    remark: str = ""


@dataclass
class Growth:
    """Curves over one axis. Amounts are such that work in proportion to them has the slope 1."""

    title: str
    axis: str  # with its unit
    curves: list[Curve]
    memory: str = ""  # what the megabytes are


def grow(
    name: str,
    amounts: Iterable[int],
    make: Callable[[int], Callable[[], Any]],
    *,
    repeats: int,
    megabytes: Callable[[int, Any], float] | None = None,
    remark: str = "",
) -> Curve:
    """Time `make(amount)` for each amount, the best of some repeats after one more.

    Args:
        megabytes: of (amount, what the call returned).
    """
    curve = Curve(name, remark=remark)
    for amount in amounts:
        work = make(amount)
        result = work()
        curve.amounts.append(amount)
        curve.seconds.append(min(_seconds(work) for _ in range(repeats)))
        if megabytes is not None:
            curve.megabytes.append(megabytes(amount, result))
    return curve


def _seconds(work: Callable[[], Any]) -> float:
    began, times = time.process_time(), 0
    while times == 0 or time.process_time() - began < 0.01:  # the clock's own step is a microsecond at best
        work()
        times += 1
    return (time.process_time() - began) / times


def slope(amounts: list[int], values: list[float]) -> float | None:
    """Of the upper half of the curve in log-log, where what is constant counts least; None without two points."""
    points = [(a, v) for a, v in zip(amounts, values) if a > 0 and v > 0]
    upper = points[min(len(points) // 2, max(len(points) - 3, 0)) :]
    if len(upper) < 2:
        return None
    amount, value = np.log(np.array(upper)).T
    return float(np.polyfit(amount, value, 1)[0])


def table_of(growth: Growth) -> Table:
    columns = ["work", "from", "to", "time, ms: from", "to", "slope", "memory, MB: from", "to", "slope", ""]
    table = Table(f"{growth.title}: {growth.axis}", columns)
    for curve in growth.curves:
        slopes = [slope(curve.amounts, values) for values in (curve.seconds, curve.megabytes)]
        steep = any(s is not None and s > STEEP for s in slopes)
        table.rows.append(
            [
                curve.name, curve.amounts[0], curve.amounts[-1],
                1e3 * curve.seconds[0], 1e3 * curve.seconds[-1], slopes[0],
                *((curve.megabytes[0], curve.megabytes[-1], slopes[1]) if curve.megabytes else (None,) * 3),
                curve.remark or ("worse than linear" if steep else ""),
            ]
        )  # fmt: skip
    table.notes = ["Slopes are those of the upper half of each curve in log-log; in proportion is 1, constant 0."]
    table.notes += [f"Memory: {growth.memory}."] if growth.memory else []
    return table


def draw(growth: Growth, out: Path) -> None:
    """Time, and memory where it was measured, over the axis, each beside a line in proportion."""
    panels: list[tuple[str, Callable[[Curve], list[float]]]] = [
        ("processor time (ms)", lambda curve: [1e3 * s for s in curve.seconds])
    ]
    if growth.memory:
        panels.append(("memory (MB)", lambda curve: curve.megabytes))
    figure = Figure(figsize=(5.5 * len(panels) + 2.5, 4.5), dpi=110, layout="constrained")
    figure.suptitle(growth.title)
    for axes, (label, values_of) in zip(np.atleast_1d(figure.subplots(1, len(panels), sharex=True)), panels):
        _panel(axes, growth, label, values_of)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right upper", frameon=False)
    figure.savefig(out)


def _panel(axes: Axes, growth: Growth, label: str, values_of: Callable[[Curve], list[float]]) -> None:
    highest = None
    for index, curve in enumerate(growth.curves):
        points = [(a, v) for a, v in zip(curve.amounts, values_of(curve)) if a > 0 and v > 0]
        if points:
            axes.loglog(*zip(*points), marker=".", color=f"C{index % 10}", label=curve.name)
            highest = max(highest or points, points, key=lambda line: line[-1][1])
    for line in _proportional(highest):
        axes.loglog(*line, color="grey", linestyle=":", label="in proportion (slope 1)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())  # they would overlap
    axes.set_xlabel(growth.axis)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _proportional(curve: list[tuple[int, float]] | None) -> Iterator[tuple[list[float], list[float]]]:
    """A line of slope 1 that ends a little above the end of this curve, over its last decades."""
    if curve:
        first, (last, value) = max(curve[0][0], curve[-1][0] / 30), curve[-1]
        yield [first, last], [1.5 * value * first / last, 1.5 * value]
