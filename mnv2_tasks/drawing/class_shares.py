"""How often each class occurs in the splits of a data set."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mnv2_tasks.wording import shortened, visible

NAMED = 100  # more classes than this fit no axis
SKEWED = 20  # times as many of one class as of another: a linear axis would show the one only


def class_shares(
    amounts: Mapping[str, np.ndarray], class_names: Sequence[str], what: str, named_in: str = ""
) -> Figure:
    """A bar for each class and split, most frequent first: the share of all `what`, so that splits can be compared.

    Args:
        amounts: {split: (K,) int of each class}.
        what: is counted: "images", "boxes" or "pixels".
        named_in: where the names are, if the classes are more than fit an axis.
    """
    shares = [amount / max(amount.sum(), 1) for amount in amounts.values()]
    order: list[int] = np.argsort(-shares[0], kind="stable").tolist()
    named = len(order) <= NAMED
    height = min(max(2.5, 1.2 + 0.09 * (1 + len(amounts)) * len(order)), 40) if named else 7
    figure = Figure(figsize=(9, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(amounts)
    for i, (split, share) in enumerate(zip(amounts, shares)):
        places = np.arange(len(order)) + (i - (len(amounts) - 1) / 2) * thickness
        label = f"{split}: {amounts[split].sum():,} {what}"
        if named:
            axes.barh(places, share[order], thickness, label=label, color=f"C{i}")
        else:
            axes.plot(share[order], ".", markersize=3, label=label, color=f"C{i}")
    if named:
        value_axis = axes.xaxis
        axes.set_yticks(np.arange(len(order)), [shortened(visible(class_names[i]), 28) for i in order], fontsize=8)
        axes.set_ylim(len(order) - 0.4, -0.6)  # the most frequent at the top
        axes.set_xlabel(f"share of the split's {what}")
    else:
        value_axis = axes.yaxis
        names = f" (names: {named_in})" if named_in else ""
        axes.set_xlabel(f"{len(order):,} classes, most frequent in {next(iter(amounts))} first{names}")
        axes.set_ylabel(f"share of the split's {what}")
    there = np.concatenate(shares)
    there = there[there > 0]
    if len(there) and there.max() > SKEWED * there.min():
        (axes.set_xscale if named else axes.set_yscale)("log")
        value_axis.label.set_text(f"{value_axis.label.get_text()} (logarithmic: none is no bar)")
    value_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="x" if named else "y", which="both")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=len(amounts), frameon=False)  # bars may be everywhere in the axes
    return figure
