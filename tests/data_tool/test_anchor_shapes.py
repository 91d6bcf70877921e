import numpy as np
import pytest

from mnv2_tasks.__main__ import main
from mnv2_tasks.data_tool.anchor_shapes import cluster, in_cells, overlaps
from mnv2_tasks.errors import DataError


def test_clusters_of_boxes_are_found_again():
    rng = np.random.default_rng(1)
    centres = np.array([[1.0, 2.0], [4.0, 3.0], [9.0, 10.0]])
    boxes = np.concatenate([centre * rng.uniform(0.95, 1.05, (200, 2)) for centre in centres])
    found = cluster(boxes, 3)
    assert np.abs(found.shapes - centres).max() < 0.15
    assert found.mean_iou > 0.9 and found.shares == pytest.approx([1 / 3] * 3)


def test_more_anchors_overlap_better():
    boxes = np.random.default_rng(0).lognormal(size=(500, 2))
    scores = [cluster(boxes, k).mean_iou for k in (1, 3, 5, 9)]
    assert scores == sorted(scores) and scores[0] < scores[-1]


def test_a_box_overlaps_its_own_shape_fully():
    boxes = np.array([[1.0, 2.0], [3.0, 1.0]])
    assert overlaps(boxes, boxes) == pytest.approx(np.array([[1, 1 / 4], [1 / 4, 1]]))


def test_cells_are_of_the_input_squeezed_or_letterboxed():
    boxes, pictures = np.array([[0.0, 0.0, 100.0, 50.0]]), np.array([[200, 400]])
    assert in_cells(boxes, pictures, 320, letterbox=False) == pytest.approx(np.array([[2.5, 2.5]]))
    assert in_cells(boxes, pictures, 320, letterbox=True) == pytest.approx(np.array([[2.5, 1.25]]))


def test_fewer_shapes_than_anchors_are_refused():
    with pytest.raises(DataError, match="2 different shapes: k=3"):
        cluster(np.array([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]), 3)


def test_the_command_tells_what_to_train_with(capsys, tmp_path):
    main(["data", "anchors", "data=shapes", "data.source.train_size=40", "k=3", "imgsz=160", f"out={tmp_path / 'out'}"])
    told = capsys.readouterr().out
    assert "task=yolov2 imgsz=160 'tasks.yolov2.head.anchors=[[" in told and "mean IoU" in told
    assert (tmp_path / "out" / "anchors.png").stat().st_size > 5000


@pytest.mark.parametrize("override, message", [("k=0", "k=0"), ("fit=pad", "fit=pad: expected square or letterbox")])
def test_settings_that_cannot_be_are_refused(override, message, capsys):
    with pytest.raises(SystemExit, match=message):
        main(["data", "anchors", "data=shapes", override])
