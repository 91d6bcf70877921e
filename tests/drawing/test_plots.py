import csv

import cv2
import pytest

from mnv2_tasks.drawing.curves import plot_curves
from mnv2_tasks.errors import DataError


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(epoch, **values):
    return {"epoch": epoch, "step": 10 * epoch, "seconds": 3, "images_per_second": 50, "lr": 0.1} | values


def plotted(tmp_path, rows):
    plot_curves(write_csv(tmp_path / "metrics.csv", rows), tmp_path / "plots" / "curves.png")
    return cv2.imread(str(tmp_path / "plots" / "curves.png"))


def test_curves_of_several_tasks_are_drawn_in_colour(tmp_path):
    losses = {"train/loss": 3.0, "train/ssdlite/box": 1.0, "train/ssdlite/class": 2.0}
    scores = {"val/ssdlite/AP": 0.2, "val/mobile_deeplabv3/mIoU": 0.4, "val/score": 0.3}
    picture = plotted(tmp_path, [row(i, **losses, **scores) for i in range(3)])
    assert picture.std() > 10
    assert (picture.max(2) - picture.min(2) > 100).sum() > 200


def test_one_epoch_is_enough(tmp_path):
    assert plotted(tmp_path, [row(0, **{"train/loss": 1.0, "train/class": 1.0, "val/top1": 0.5})]) is not None


def test_a_line_crosses_an_empty_cell(tmp_path):
    values = [0.1, "", 0.9]
    with_gap = plotted(tmp_path, [row(i, **{"train/loss": 1.0, "val/top1": v}) for i, v in enumerate(values)])
    values = [0.1, 0.5, 0.9]
    without = plotted(tmp_path, [row(i, **{"train/loss": 1.0, "val/top1": v}) for i, v in enumerate(values)])
    assert (with_gap != without).any(2).sum() < 200  # one marker


def test_a_loss_that_is_not_finite_leaves_a_gap(tmp_path):
    rows = [row(i, **{"train/loss": v, "val/top1": 0.1}) for i, v in enumerate([1.0, float("nan"), float("inf")])]
    assert plotted(tmp_path, rows) is not None


def test_a_run_without_an_epoch_is_an_error(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,lr\n")
    with pytest.raises(DataError, match="has no epochs"):
        plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
