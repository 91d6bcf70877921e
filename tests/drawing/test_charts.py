"""Charts can be read with one class and with a thousand, and where nothing was found."""

from functools import partial

import cv2
import numpy as np
import pytest
from scipy.sparse import csr_array

from mnv2_tasks.drawing.charts import NAMED, box_places, class_bars, class_lines, paired_bars, reliability, write_chart
from mnv2_tasks.drawing.confusion import MOST, compact, condensed, plot_confusion

AXES = {"title": "title", "xlabel": "score", "ylabel": "F1"}


def drawn(path, draw, names=()):
    """The chart as (H, W, 3), which is no blank page."""
    write_chart(path / "plots" / "chart.png", draw, names)
    picture = cv2.imread(str(path / "plots" / "chart.png"))
    assert picture.std() > 5 and min(picture.shape[:2]) > 150
    return picture


def confusions(seed, num_classes):
    return np.random.default_rng(seed).integers(0, 4, (num_classes, num_classes))


@pytest.mark.parametrize("num_classes", [1, 2, MOST, MOST + 1, 300])
def test_a_condensed_matrix_counts_all_that_the_whole_one_does(num_classes):
    counts = confusions(num_classes, num_classes)
    shown, classes = condensed(counts)
    assert shown.sum() == counts.sum() and len(shown) == len(classes) == min(num_classes, MOST)
    kept = [k for k in classes if k is not None]
    assert (shown[: len(kept), : len(kept)] == counts[np.ix_(kept, kept)]).all()
    assert (shown[: len(kept)].sum(axis=1) == counts[kept].sum(axis=1)).all()
    of_sparse, same = condensed(csr_array(counts))
    assert (of_sparse == shown).all() and same == classes


def test_the_classes_that_are_confused_most_are_shown_side_by_side():
    counts = np.diag(np.full(1000, 50))
    counts[7, 993], counts[500, 2] = 30, 20
    shown, classes = condensed(counts)
    assert {7, 993, 500, 2} <= set(classes) and shown[classes.index(7), classes.index(993)] == 30


@pytest.mark.parametrize("number, text", [(0, "0"), (9_999, "9,999"), (64_321, "64k"), (4_600_000, "4.6M")])
def test_counts_are_told_in_five_signs(number, text):
    assert compact(number) == text


@pytest.mark.parametrize("num_classes", [1, 2, 1000])
def test_a_row_of_the_matrix_is_named_by_its_class_and_its_number(num_classes, tmp_path):
    names = [f"${k}$ class" for k in range(num_classes)]  # no formula
    figure = plot_confusion(csr_array(np.diag(np.full(num_classes, 12))), names, "images", "note")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[0] == "$0$ class  (12)" and len(labels) == min(num_classes, MOST)
    assert figure.axes[0].get_xlabel() == "prediction" and "note" in figure.axes[0].get_title()
    drawn(tmp_path, partial(plot_confusion, np.diag(np.full(num_classes, 12)), names, "images"), names)


@pytest.mark.parametrize("num_classes", [1, 3, 80])
def test_lines_are_named_while_colours_can_be_told_apart(num_classes, tmp_path):
    x, values = np.linspace(0, 1, 11), np.linspace(1, 0, 11)[:, None] * np.linspace(0.2, 1, num_classes)
    values[:, 0] = np.nan if num_classes > 1 else 0.5  # a class without objects
    names = [f"class {k}" for k in range(num_classes)]
    draw = partial(class_lines, x, values, np.nanmean(values, axis=1), names, **AXES)
    legend = [text.get_text() for text in draw().axes[0].get_legend().get_texts()]
    assert legend[-1] == "mean of the classes" and ("class 0" in legend) == (num_classes == 1)
    assert len(legend) == {1: 2, 3: 3, 80: 2}[num_classes]
    drawn(tmp_path, draw, names)


def test_charts_of_nothing_say_so(tmp_path):
    nothing = np.full((11, 3), np.nan)
    lines = partial(class_lines, np.linspace(0, 1, 11), nothing, np.zeros(11), ["a", "b", "c"], **AXES)
    bins = [
        {"bin_lower": k / 2, "bin_upper": (k + 1) / 2, "avg_confidence": 0, "avg_accuracy": 0, "count": 0}
        for k in range(2)
    ]
    words = {"score": "score", "right": "right", "what": "boxes"}
    for draw, text in (
        (lines, "no objects"),
        (partial(reliability, bins, 0.0, **words), "no boxes"),
        (partial(class_bars, nothing[0], ["a", "b", "c"], xlabel="IoU", mean=0.0), "no class has a value"),
        (partial(box_places, {"val": np.zeros((0, 4))}), "no boxes"),
    ):
        assert text in [written.get_text() for axes in draw().axes for written in axes.texts]
        drawn(tmp_path, draw)
    drawn(tmp_path, partial(paired_bars, {"a": (0.0, 0), "b": (0.0, None)}, left="l", right="r", title="t"))


def test_of_many_classes_the_bars_of_the_lowest_are_drawn():
    values = np.linspace(0, 1, 150)
    axes = class_bars(np.append(values, np.nan), [f"class {k}" for k in range(151)], xlabel="IoU", mean=0.5).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == NAMED and names[-1] == "class 0"
    assert axes.get_title() == "mean 0.500 (dashed); the lowest 60 of 150 classes; 1 without truth are left out"


def test_boxes_are_counted_where_their_centres_are_and_by_their_sizes():
    boxes = np.array([[0, 0, 0.2, 0.1], [0, 0, 0.2, 0.1], [0.75, 0.6, 1, 1]])
    centres, sizes = box_places({"val": boxes}, cells=10).axes[:2]
    for axes, cells in ((centres, {(0, 1): 2, (8, 8): 1}), (sizes, {(1, 2): 2, (4, 2): 1})):
        counts = np.ma.filled(axes.collections[0].get_array(), 0).reshape(10, 10)  # row: y, column: x
        assert {place: counts[place] for place in zip(*np.nonzero(counts))} == cells
