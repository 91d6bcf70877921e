"""The curves of a run, from its metrics.csv."""

import csv
import math
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnv2_tasks.drawing.canvas import AS_WRITTEN
from mnv2_tasks.errors import DataError
from mnv2_tasks.whole_files import written_whole

# of the many numbers of a validation, those that are plotted; all are fractions
SCORES = ("top1", "top5", "AP", "AP50", "AP75", "mIoU", "pixel_accuracy")


@rc_context(AS_WRITTEN)
def plot_curves(metrics_csv: Path, out: Path) -> None:
    """Write a PNG with the loss terms, the validation scores and the learning rate of every epoch.

    Args:
        metrics_csv: a row per epoch with the columns epoch, lr, train/<term> and val/<score>; cells may be empty.

    Raises:
        DataError: there is no epoch to plot.
    """
    try:
        with metrics_csv.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        columns = {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else ())}
        epochs = [int(row["epoch"]) + 1 for row in rows]  # the log counts from 1
        rates = columns["lr"] if rows else []
    except (OSError, csv.Error, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{metrics_csv}: is not the table of a run's epochs, or damaged ({error})") from None
    if not rows:
        raise DataError(f"{metrics_csv}: has no epochs, so there is nothing to plot")
    losses = {name.removeprefix("train/"): v for name, v in columns.items() if name.startswith("train/")}
    if len(losses) == 2:
        losses.pop("loss", None)  # the only term is the total
    scores = {name.removeprefix("val/"): v for name, v in columns.items() if name.startswith("val/")}
    scores = {name: values for name, values in scores.items() if name.split("/")[-1] in SCORES}

    figure = Figure(figsize=(9, 9), dpi=110, layout="constrained")
    above, middle, below = figure.subplots(3, sharex=True, height_ratios=[3, 3, 1.6])
    _draw(above, epochs, losses, "training loss")
    _draw(middle, epochs, scores, "validation score (fraction)")
    middle.set_ylim(-0.02, 1.02)
    _draw(below, epochs, {"": rates}, "learning rate")
    below.set_xlabel("epoch")
    below.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as file:
        figure.savefig(file, format="png")


def _draw(axes: Axes, epochs: list[int], curves: dict[str, list[float]], label: str) -> None:
    """Lines through the recorded points, with a legend beside the axes, where it hides no data."""
    for index, (name, values) in enumerate(sorted(curves.items())):
        points = [(epoch, value) for epoch, value in zip(epochs, values) if math.isfinite(value)]
        colour, text = ("black", "total") if name == "loss" else (f"C{index % 10}", name)
        style = "-" if index < 10 else "--"
        x, y = [epoch for epoch, _ in points], [value for _, value in points]
        axes.plot(x, y, style, label=text, color=colour, marker=".", linewidth=1.5)
    axes.axhline(0, color="grey", linewidth=0.5)  # so that zero is in view
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if not curves:
        axes.text(0.5, 0.5, "none recorded", transform=axes.transAxes, ha="center", va="center", color="grey")
    elif len(curves) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)


def _number(cell: str | None) -> float:
    """An empty cell is an epoch without this value: one before a resumed run added the column, say."""
    return float(cell) if cell else math.nan
