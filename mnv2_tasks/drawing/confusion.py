"""A confusion matrix that can be read with two classes and with thousands."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.sparse import coo_array

from mnv2_tasks.wording import shortened, visible

MOST = 24  # rows and columns
DPI = 110


def condensed(counts: Any, most: int = MOST) -> tuple[np.ndarray, list[int | None]]:
    """The classes of the most frequent confusions, and in the last row and column all others together.

    Args:
        counts: (K, K) int, row the truth; an array, or a sparse one.

    Returns:
        at most (most, most) int64 that sum to the same; and the class of each row, None for the others together.
    """
    counts, num_classes = coo_array(counts), counts.shape[0]
    if num_classes <= most:
        return counts.toarray(), list(range(num_classes))
    wrong = counts.row != counts.col
    pairs = np.column_stack([counts.row, counts.col])[wrong][np.argsort(-counts.data[wrong], kind="stable")]
    chosen = sorted(list(dict.fromkeys([*pairs.ravel().tolist(), *range(num_classes)]))[: most - 1])
    group = np.full(num_classes, most - 1)
    group[chosen] = np.arange(most - 1)
    shown = coo_array((counts.data, (group[counts.row], group[counts.col])), shape=(most, most))
    return shown.toarray(), [*chosen, None]


def plot_confusion(counts: Any, names: Sequence[str], what: str, note: str = "") -> Figure:
    """A row for each true class, a column for each predicted one: the share of the row in per cent, and the count.

    Args:
        counts: as of `condensed`.
        names: of the K classes.
        what: is counted.
        note: which of them.
    """
    shown, classes = condensed(counts)
    others = len(names) - len(classes) + 1
    labels = [f"{others:,} others" if k is None else shortened(visible(names[k]), 20) for k in classes]
    total = shown.sum(axis=1, keepdims=True)
    shares = shown / np.maximum(total, 1)
    side = 1.6 + 0.52 * len(classes)
    figure = Figure(figsize=(max(side + 2, 5), max(side + 0.8, 4.2)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(shown > 0):
        share = shares[row, column]
        text = f"{100 * share:.0f} %\n" if share >= 0.005 else "<1 %\n"
        text += compact(int(shown[row, column]))
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if share > 0.6 else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    rows = [f"{label}  ({compact(int(number))})" for label, number in zip(labels, total[:, 0])]
    axes.set_yticks(range(len(labels)), rows, fontsize=9)
    axes.set(xlabel="prediction", ylabel=f"truth (and its {what})")
    title = f"of each true class: the share predicted so, and how many {what}" + (f"\n{note}" if note else "")
    if None in classes:
        title += f"\nthe {len(classes) - 1} classes confused most often, of {len(names):,}"
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the row", fraction=0.046)
    return figure


def compact(number: int) -> str:
    """At most five signs: 9,999, 12k, 4.6M, 120G."""
    if number < 10_000:
        return f"{number:,}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.2g}{unit}" if number < 10 * size else f"{number / size:,.0f}{unit}"
    raise AssertionError
