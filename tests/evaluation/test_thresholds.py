"""What eval writes, predict takes: the threshold of each class's greatest F1."""

import json

import numpy as np
import pytest

import mnv2_tasks
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError

SMALL = {"data.source.val_size": 6, "workers": 0, "trainer.accelerator": "cpu"}


def test_thresholds_of_eval_are_those_that_predict_keeps_boxes_from(tmp_path, caplog):
    model = mnv2_tasks.load("multitask_shapes", device="cpu")
    caplog.set_level("INFO")
    model.evaluate(out=tmp_path / "eval", **SMALL)
    file = tmp_path / "eval" / "thresholds.json"
    content = json.loads(file.read_text())
    assert list(content) == ["ssdlite"] and content["ssdlite"]
    assert all(0 < score <= 1 for score in content["ssdlite"].values())
    (line,) = [record.getMessage() for record in caplog.records if "thresholds.json" in record.getMessage()]
    without = [name for name in model.names["ssdlite"] if name not in content["ssdlite"]]
    assert line == f"thresholds.json: ssdlite: none of {', '.join(without)}, of which no object is there or found"
    scene = draw_scene(0, "val", 0, 160).image
    every, kept = model(scene, min_score=0), model(scene, thresholds=file)
    least = np.array([content["ssdlite"].get(name, 0.4) for name in model.names["ssdlite"]], np.float32)
    assert (kept.boxes == every.boxes[every.scores >= least[every.labels]]).all() and len(kept.boxes)


def test_a_network_without_boxes_has_no_thresholds(tmp_path):
    model = mnv2_tasks.load("multitask_shapes", device="cpu")
    model.evaluate(out=tmp_path / "eval", task="classification", **SMALL)
    assert (tmp_path / "eval" / "metrics.json").is_file()
    assert not (tmp_path / "eval" / "thresholds.json").exists()
    with pytest.raises(ConfigError, match=r"thresholds\.json: cannot be opened"):
        model(np.zeros((8, 8, 3), np.uint8), thresholds=tmp_path / "eval" / "thresholds.json")
