"""The trials of a search, drawn."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from mnv2_tasks.drawing.canvas import AS_WRITTEN
from mnv2_tasks.whole_files import written_whole

MARKS = {"done": ("o", "C0"), "stopped": ("x", "C1")}  # of trials, by their state
COLUMNS = 3


class TrialPoint(NamedTuple):
    """A trial that has a score."""

    number: int
    state: str  # done, or stopped
    score: float  # the best of its validations, a fraction
    values: dict[str, float | str]  # by key


class Scale(NamedTuple):
    """A key, as it is drawn."""

    key: str
    words: tuple[str, ...] | None  # of a list, in its order
    log: bool
    importance: float | None  # in [0, 1], of all keys together 1


@rc_context(AS_WRITTEN)
def plot_search(trials: Sequence[TrialPoint], scales: Sequence[Scale], out: Path) -> None:
    """Write a PNG: the scores in order with the best so far, and below them the scores against each key."""
    rows = math.ceil(len(scales) / COLUMNS)
    figure = Figure(figsize=(10, 3.4 + 2.8 * rows), dpi=110, layout="constrained")
    grid = figure.add_gridspec(1 + rows, COLUMNS, height_ratios=[1.2] + [1] * rows)
    above = figure.add_subplot(grid[0, :])
    _points(above, trials, [float(trial.number) for trial in trials])
    done = [trial for trial in trials if trial.state == "done"]
    best = [max(trial.score for trial in done[: index + 1]) for index in range(len(done))]
    above.step([trial.number for trial in done], best, where="post", color="C0", label="best so far")
    above.set_xlabel("trial")
    above.xaxis.set_major_locator(MaxNLocator(integer=True))
    above.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    for index, scale in enumerate(scales):
        axes = figure.add_subplot(grid[1 + index // COLUMNS, index % COLUMNS])
        values = [trial.values[scale.key] for trial in trials]
        _points(axes, trials, [float(scale.words.index(str(v)) if scale.words else v) for v in values])
        if scale.words:
            axes.set_xticks(range(len(scale.words)), scale.words, rotation=20 if len(scale.words) > 3 else 0)
            axes.set_xlim(-0.5, len(scale.words) - 0.5)
        elif scale.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # nothing here is set as mathematics
            axes.xaxis.set_minor_formatter(NullFormatter())
        share = "" if scale.importance is None else f"  (importance {scale.importance:.0%})"
        axes.set_xlabel(f"{scale.key}{share}")
    with written_whole(out) as file:
        figure.savefig(file, format="png")


def _points(axes: Axes, trials: Sequence[TrialPoint], across: Sequence[float]) -> None:
    for state, (marker, colour) in MARKS.items():
        found = [(x, trial.score) for x, trial in zip(across, trials) if trial.state == state]
        axes.plot([x for x, _ in found], [y for _, y in found], marker, color=colour, label=state)
    axes.set_ylabel("val/score")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
