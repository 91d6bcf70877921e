"""`init_std`: kernels that no weights bring start from TF's truncated normal."""

import math

import pytest
import torch

from mnv2_tasks.build import build_network, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.initial_weights import draw_weights, start_from_weights
from mnv2_tasks.training.prepared_run import prepare
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import save_weights

TINY = ["task=ssdlite", "width=0.35", "imgsz=64", "data.source.train_size=8", "data.source.val_size=4", "batch=2"]
# of a normal of width 1 without what lies beyond 2: sqrt(1 - 2 * 2 * density(2) / share within)
SHARE = math.erf(2 / math.sqrt(2))
CUT_WIDTH = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / SHARE)


def network_of(*more):
    return build_network(compose("train", [*TINY, *more]), {"ssdlite": list("abc")})


def test_kernels_follow_the_truncated_normal_and_the_rest_stays():
    torch.manual_seed(0)
    network = network_of()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    draw_weights(network, {"backbone": 0.09, "tasks": {"ssdlite": {"head": {"class_predictors": 0.001}}}})
    after = network.state_dict()
    drawn = {name for name in before if not torch.equal(before[name], after[name])}
    kernels = {name for name, p in network.named_parameters() if p.ndim > 1}
    assert drawn == {n for n in kernels if n.startswith(("backbone.", "tasks.ssdlite.head.class_predictors."))}
    values = torch.cat([after[name].flatten() for name in drawn if name.startswith("backbone.")])
    assert CUT_WIDTH == pytest.approx(0.8796, abs=1e-4)
    assert values.std().item() == pytest.approx(0.09 * CUT_WIDTH, rel=0.01)
    assert values.abs().max().item() <= 0.18 and values.abs().max().item() > 0.179
    assert after["tasks.ssdlite.head.class_predictors.0.1.weight"].abs().max().item() <= 0.002


def test_nothing_is_drawn_unless_it_is_said():
    network, state = network_of(), torch.random.get_rng_state()
    draw_weights(network, {"backbone": None})
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_starts_from_them_and_weights_win():
    own = ["init_std.backbone=0.001", "+init_std.tasks.ssdlite.head=0.5"]
    scratch = prepare(compose("train", [*TINY, "weights=none", *own])).network
    assert max(p.abs().max().item() for p in scratch.backbone.parameters() if p.ndim > 1) <= 0.002
    copied = prepare(compose("train", [*TINY, "weights=shapes_backbone", *own])).network
    assert copied.backbone.stem[0].weight.abs().max().item() > 0.1
    assert copied.tasks["ssdlite"].head.extras[0][0][0].weight.std().item() == pytest.approx(0.5 * CUT_WIDTH, rel=0.05)


def test_weights_of_another_expansion_are_not_taken_and_asked_for_ones_are_an_error():
    config = compose("train", [*TINY, "backbone.expansion=4"])
    network = build_network(config, {"ssdlite": list("abc")})
    assert start_from_weights(network, config) == "weights: none, training starts from scratch"
    config.weights = "shapes_backbone"
    with pytest.raises(ConfigError, match="this is expansion 6.0; you asked for 4. Say backbone.expansion=6.0, or wei"):
        start_from_weights(network, config)


def test_weights_remember_their_expansion(tmp_path):
    config = compose("train", [*TINY, "backbone.expansion=3"])
    network, path = build_network(config, {"ssdlite": list("abc")}), tmp_path / "own.safetensors"
    save_weights(path, network.state_dict(), make_passport(config, {"ssdlite": list("abc")}, ""))
    loaded, _ = load_network(str(path))
    assert loaded.backbone.expansion == 3 and loaded.backbone.blocks[1].hidden == network.backbone.blocks[1].hidden
    assert compose("eval", [f"weights={path}"]).backbone.expansion == 3


@pytest.mark.parametrize(
    "widths, message",
    [({"bakbone": 0.1}, "init_std.bakbone: this network has no such part"),
     ({"tasks": {"ssdlite": 0.0}}, "init_std.tasks.ssdlite=0.0: expected a standard deviation above 0")],
)  # fmt: skip
def test_mistakes_are_named(widths, message):
    with pytest.raises(ConfigError, match=message):
        draw_weights(network_of(), widths)
