"""Anchors are arguments of the head: weights keep theirs, and those of before 0.2, which do not say them, have TF's."""

import json

import pytest
import torch

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.build import build_network, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.initial_weights import start_from_weights
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import save_weights

NAMES = {"ssdlite": ["a", "b"]}
TALL = "tasks.ssdlite.head.anchor_ratios=[1.0,0.25,0.5,0.2,0.3]"  # as many as TF's, so that the tensors' shapes are too
GRIDS = [(6, 6), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1)]


def former_shapes(num_maps):
    """As 0.1 had them, in constants."""
    least, most = 0.2, 0.95
    step = (most - least) / (num_maps - 1)
    scales = [least + step * i for i in range(num_maps)] + [1.0]
    return [[(0.1, 1.0), (least, 2.0), (least, 0.5)]] + [
        [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)] + [((scale * following) ** 0.5, 1.0)]
        for scale, following in zip(scales[1:], scales[2:])
    ]


def detector(*overrides, task="ssdlite"):
    config = compose("train", [f"task={task}", "width=0.1", "imgsz=96", "weights=none", *overrides])
    torch.manual_seed(0)
    return build_network(config, {task: NAMES["ssdlite"]}).eval(), config


def anchors_of(network):
    [task] = network.tasks
    return network(torch.zeros(1, 3, 96, 96))[task].anchors


@pytest.fixture
def saved(tmp_path):
    """Weights of a detector of tall things; `keys=False`: as a version wrote them whose heads had no such keys."""

    def save(*overrides, keys=True):
        network, config = detector(*overrides)
        passport = json.loads(json.dumps(make_passport(config, NAMES, "test")))
        if not keys:
            head = passport["config"]["tasks"]["ssdlite"]["head"]
            passport["config"]["tasks"]["ssdlite"]["head"] = {k: v for k, v in head.items() if "anchor" not in k}
        save_weights(tmp_path / "weights.safetensors", network.state_dict(), passport)
        return tmp_path / "weights.safetensors"

    return save


@pytest.mark.parametrize("num_maps", [2, 3, 6, 7])
def test_tfs_anchors_are_to_the_bit_those_that_were_constants(num_maps):
    grids = [(19 - 2 * i, 20 - i) for i in range(num_maps)]
    assert torch.equal(ssd_anchors(grids), ssd_anchors(grids, former_shapes(num_maps)))


@pytest.mark.parametrize("task", ["ssd", "ssdlite"])
def test_the_configs_anchors_are_tfs(task):
    assert torch.equal(anchors_of(detector(task=task)[0]), ssd_anchors(GRIDS, former_shapes(6)))


def test_weights_bring_their_anchors_and_an_evaluation_takes_them(saved):
    path = saved(TALL)
    network, _ = load_network(str(path))
    assert torch.equal(anchors_of(network), anchors_of(detector(TALL)[0]))
    assert list(compose("eval", [f"weights={path}"]).tasks.ssdlite.head.anchor_ratios) == [1.0, 0.25, 0.5, 0.2, 0.3]


def test_weights_that_do_not_say_their_anchors_have_tfs_whatever_the_config_says_by_now(saved):
    path = saved(keys=False)
    assert torch.equal(anchors_of(load_network(str(path))[0]), ssd_anchors(GRIDS, former_shapes(6)))
    brought = compose("eval", [f"weights={path}"]).tasks.ssdlite.head
    assert brought == detector()[1].tasks.ssdlite.head


def test_a_head_for_other_anchors_starts_anew(saved):
    path = saved(keys=False)
    network, config = detector(f"weights={path}")
    assert "start anew" not in start_from_weights(network, config)
    network, config = detector(f"weights={path}", TALL)
    assert "of ssdlite start anew: other anchors" in start_from_weights(network, config)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("anchor_scales", "[0.5,0.9]", "expected 5, one for each map but the first"),
        ("anchor_scales", "[0.3,0.5,0.7,0.9,0]", "expected numbers above 0"),
        ("anchor_ratios", "[1.0,-2.0]", "expected numbers above 0"),
        ("first_map_anchors", "[]", r"expected \[scale, width / height\] of each"),
        ("first_map_anchors", "[0.1,0.2]", r"expected \[scale, width / height\] of each"),
    ],
)
def test_anchors_that_cannot_be_are_refused(key, value, message):
    with pytest.raises(ConfigError, match=message):
        detector(f"tasks.ssdlite.head.{key}={value}")
