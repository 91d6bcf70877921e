"""What stands beside a score: everything that moves it."""

from pathlib import Path

import pytest

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images.fit import MODES
from mnv2_tasks.evaluation.summary import conditions
from mnv2_tasks.weights.weight_files import Weights


@pytest.mark.parametrize("fit", MODES)
def test_every_fit_is_told_and_what_weights_were_left_out(fit):
    config = compose("eval", ["weights=multitask_shapes", f"input.fit={fit}", "imgsz=96"])
    weights = Weights({}, {"command": "imported"}, "TF", {"a": "a range", "b": "a range", "c": "a slot"})
    told = conditions(config, Path("x.pb"), weights, {}, "32-true")
    assert told[1:3] == ["weights: left out 2: a range", "weights: left out 1: a slot"]
    assert told[3].startswith("input: ") and "96" in told[3]
