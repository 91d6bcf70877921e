"""int8: equalisation, what each layer costs, the budget, and the file that comes out."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.build import load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.export.int8.correct_biases import biased, corrected_biases
from mnv2_tasks.export.int8.equalise import equalise, find_pairs
from mnv2_tasks.export.int8.layer_errors import layer_errors
from mnv2_tasks.export.int8.onnx_qdq import to_int8, with_biases
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.rounding import head_outputs, input_ranges, layers_of, rounded, sqnr, train_rounded
from mnv2_tasks.tasks.classification import ClassificationTask
from mnv2_tasks.training.train import train

pytestmark = pytest.mark.slow

SIDE = 64


class Pooled(nn.Module):
    taps = ("c2",)

    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(channels, 8)

    def forward(self, features):
        return self.linear(features["c2"].mean((2, 3)))


@pytest.fixture(scope="module")
def scenes():
    """(16, SIDE, SIDE, 3) uint8."""
    return np.stack([draw_scene(0, "train", index, SIDE).image for index in range(16)])


@pytest.fixture(scope="module")
def images(scenes):
    return torch.from_numpy(scenes).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def network(images):
    """Ten layers of MobileNetV2 with norms that have seen images."""
    torch.manual_seed(0)
    backbone = MobileNetV2(width=0.5, output_stride=32, taps=["c2"])
    task = ClassificationTask(
        head=Pooled(backbone.features["c2"].channels), class_names=list("abcdefgh"), label_smoothing=0.0
    )
    built = Network(backbone=backbone, tasks={"classification": task}, mean=[120.0] * 3, std=[60.0] * 3)
    for norm in built.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the plain mean of what it sees
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.uniform_(norm.bias, -0.5, 1.0)
    with torch.no_grad():
        built.train()(images)
    return built.eval()


@pytest.fixture(scope="module")
def folded(network):
    return fold_batch_norms(network)


@pytest.fixture(scope="module")
def uneven(folded, images):
    """The same, after every channel between two layers was made smaller by a factor of its own, up to a thousand."""
    generator = torch.Generator().manual_seed(0)
    built = fold_batch_norms(folded)
    with torch.no_grad():
        for first, second, _ in find_pairs(built, images[:1]):
            a, b = built.get_submodule(first), built.get_submodule(second)
            factor = 10 ** (-3 * torch.rand(a.out_channels, generator=generator))
            a.weight.mul_(factor.view(-1, 1, 1, 1))
            a.bias.mul_(factor)
            b.weight.div_(factor.view((-1, 1, 1, 1) if b.groups > 1 else (1, -1, 1, 1)))
    return built


def in_int8(network, images):
    ranges = input_ranges(network, images)
    with rounded(network, ranges, list(ranges)):
        return head_outputs(network, images)


def test_equalisation_leaves_the_results_as_they_are(folded, uneven, images):
    for network in (folded, uneven):
        torch.testing.assert_close(
            head_outputs(equalise(network, images), images), head_outputs(network, images), rtol=1e-4, atol=1e-4
        )


def test_equalisation_saves_a_network_whose_channels_differ_much(uneven, images):
    exact, even = head_outputs(uneven, images), equalise(uneven, images)
    assert sqnr(exact, in_int8(uneven, images)) < 10
    assert sqnr(exact, in_int8(even, images)) > 25


def test_corrected_biases_take_back_the_shift_of_every_channel(folded, images, monkeypatch):
    monkeypatch.setattr("mnv2_tasks.network.rounding.WEIGHT_LEVELS", 4)  # hard
    ranges, means = input_ranges(folded, images[:4]), {}
    biases = corrected_biases(folded, images[:4], ranges, list(ranges))
    assert set(biases) == set(layers_of(folded))

    def measure():
        def look(name):
            return lambda layer, inputs, output: means.setdefault(name, []).append(output.flatten(2).mean((0, 2)))

        handles = [m.register_forward_hook(look(n)) for n, m in layers_of(folded).items() if isinstance(m, nn.Conv2d)]
        results = head_outputs(folded, images[:4])
        for handle in handles:
            handle.remove()
        return results

    exact = measure()
    with rounded(folded, ranges, list(ranges)):
        shifted = measure()
        with biased(folded, biases):
            corrected = measure()
    for name, (before, wrong, right) in means.items():
        torch.testing.assert_close(right, before, rtol=1e-3, atol=1e-4, msg=name)
        assert not torch.allclose(wrong, before, rtol=1e-3, atol=1e-4), name
    assert sqnr(exact, corrected) > sqnr(exact, shifted) + 3
    torch.testing.assert_close(head_outputs(folded, images[:4]), exact, rtol=0, atol=0)


def test_only_layers_in_int8_have_their_biases_corrected(folded, images):
    ranges = input_ranges(folded, images)
    assert corrected_biases(folded, images, ranges, []) == {}
    assert set(corrected_biases(folded, images, ranges, ["backbone.stem.0"])) == {"backbone.stem.0"}


def test_only_layers_that_nothing_else_reads_are_paired(folded, images):
    pairs = [
        (first.removeprefix("backbone."), second.removeprefix("backbone."))
        for first, second, _ in find_pairs(folded, images[:1])
    ]
    assert ("stem.0", "blocks.0.depthwise.0") in pairs
    assert ("blocks.1.depthwise.0", "blocks.1.project.0") in pairs
    assert not any(first == "blocks.1.project.0" for first, _ in pairs)  # the shortcut of block 2 reads it, too


def test_rounding_lasts_as_long_as_its_context(folded, images):
    exact = head_outputs(folded, images)
    assert 10 < sqnr(exact, in_int8(folded, images)) < 60
    torch.testing.assert_close(head_outputs(folded, images), exact, rtol=0, atol=0)


def test_the_layer_with_a_spoilt_range_is_named_first(folded, images):
    ranges = input_ranges(folded, images)
    low, high = ranges["backbone.blocks.1.project.0"]
    ranges["backbone.blocks.1.project.0"] = (low, 100 * high)
    errors = layer_errors(folded, images, ranges)
    assert {error.name for error in errors} == set(layers_of(folded))
    assert errors[0].name == "backbone.blocks.1.project.0" and errors[0].kind == "1x1"
    assert errors[0].output < errors[1].output - 10
    assert {"3x3", "3x3 depthwise", "1x1", "linear"} == {error.kind for error in errors}


@pytest.fixture(scope="module")
def quantise():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from mnv2_tasks.export.quantise import quantise

    return quantise


def integer_layers(model):
    """Modules whose weights a model holds as 8-bit integers."""
    return {
        tensor.name.removeprefix("network.").removesuffix(".weight_quantized")
        for tensor in model.graph.initializer
        if tensor.data_type == 3 and tensor.name.endswith(".weight_quantized")
    }


def test_a_file_in_int8_recognises_what_the_network_does(quantise, uneven, scenes, images, tmp_path):
    from mnv2_tasks.runtimes.onnx import Session

    model, report = quantise(uneven, scenes, metadata={"precision": "int8"})
    assert integer_layers(model) == set(layers_of(uneven)) == {error.name for error in report.layers}
    assert report.chosen.startswith("equalised") and report.sqnr[report.chosen] == max(report.sqnr.values())
    assert report.sqnr["equalised"] > report.sqnr["as it is"] + 10
    assert report.keep_float == [] and f"The file is {report.chosen}." in report.table().to_markdown()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    session = Session(tmp_path / "model.onnx", threads=1)
    assert session.metadata["precision"] == "int8"
    exact = uneven(images)["classification"].softmax(1).detach().numpy()
    assert np.abs(session(scenes)[0] - exact).max() < 0.05


def test_a_file_gets_the_bias_of_each_layer_also_where_the_exporter_made_equal_ones_one(
    quantise, folded, scenes, images, tmp_path
):
    from mnv2_tasks.runtimes.onnx import Session, to_onnx

    even = copy.deepcopy(folded)
    for layer in layers_of(even).values():
        layer.bias.data.zero_()
    biases = {name: torch.rand(len(layer.bias)) - 0.5 for name, layer in layers_of(even).items()}
    model = with_biases(to_onnx(Graph(even), torch.from_numpy(scenes[:2])), biases)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with biased(even, biases), torch.no_grad():
        wanted = even(images)["classification"].softmax(1).numpy()
    np.testing.assert_allclose(Session(tmp_path / "model.onnx", threads=1)(scenes)[0], wanted, atol=1e-5)


def test_no_optimisation_of_the_runtime_rounds_a_layer_that_stays_in_float(quantise, uneven, scenes, tmp_path):
    import onnx
    import onnxruntime

    from mnv2_tasks.runtimes.onnx import to_onnx

    exact = to_onnx(Graph(uneven), torch.from_numpy(scenes[:2]))
    to_int8(exact, scenes, tmp_path / "mixed.onnx", keep_float=["backbone.blocks.1.depthwise.0"])
    assert len(integer_layers(onnx.load(tmp_path / "mixed.onnx"))) == len(layers_of(uneven)) - 1
    results = []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(tmp_path / "mixed.onnx", options, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"images": scenes})[0])
    np.testing.assert_allclose(*results, atol=0.01)


def score_by_layers(path):
    """1, less a twentieth for each layer in int8."""
    import onnx

    return {"classification": 1 - len(integer_layers(onnx.load(path))) / 20}


def test_as_many_layers_stay_in_float_as_the_budget_asks_for_and_no_more(quantise, network, scenes):
    model, report = quantise(network, scenes, budget=0.351, score=score_by_layers)
    assert len(report.keep_float) == 3
    assert report.keep_float == [error.name for error in report.layers[:3]]
    assert integer_layers(model) == {error.name for error in report.layers[3:]}
    assert [trial.float_layers for trial in report.trials] == [0, 1, 2, 4, 3]
    text = report.table().to_markdown()
    assert text.count("| float32 |") == 3 and "classification 0.6500 with 3 layers in float32" in text


def test_a_budget_that_cannot_be_met_is_an_error(quantise, network, scenes):
    with pytest.raises(ConfigError, match=r"loses more than 0.01 even with 5 of 10 layers in float32.*precision=fp16"):
        quantise(network, scenes, budget=0.01, score=score_by_layers)


def test_without_images_nothing_is_calibrated(quantise, network):
    with pytest.raises(ConfigError, match="no images to measure ranges on, say calibration="):
        quantise(network, np.zeros((0, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"expected \(N, H, W, 3\) uint8 images, not \(2, 3, 64, 64\) float32"):
        quantise(network, np.zeros((2, 3, SIDE, SIDE), np.float32))


def test_training_with_rounding_brings_int8_nearer_to_its_aim(network, images, monkeypatch):
    monkeypatch.setattr("mnv2_tasks.network.rounding.WEIGHT_LEVELS", 4)  # hard
    aim = network(images)["classification"].detach()
    student = copy.deepcopy(network)
    before = sqnr([aim], in_int8(fold_batch_norms(student), images))
    train_rounded(student)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    for _ in range(20):
        optimizer.zero_grad()
        (student(images)["classification"] - aim).square().mean().backward()
        optimizer.step()
    assert student.state_dict().keys() == network.state_dict().keys()
    trained = copy.deepcopy(network)
    trained.load_state_dict(student.state_dict())
    assert sqnr([aim], in_int8(fold_batch_norms(trained), images)) > before + 3


def test_a_network_trained_with_rounding_is_rounded_as_it_was_trained(quantise, network, scenes, images, monkeypatch):
    """Its aim are the rounded results, which corrected biases would take back to those of its weights in float32."""
    monkeypatch.setattr("mnv2_tasks.network.rounding.WEIGHT_LEVELS", 4)  # hard
    chosen = {qat: quantise(network, scenes, qat=qat)[1] for qat in (False, True)}
    assert "corrected" in chosen[False].chosen and chosen[True].chosen == "as it is"
    assert chosen[True].sqnr["as it is"] > chosen[False].sqnr["as it is"] + 6


@torch.no_grad()
def test_rounding_and_folding_norms_commute(network, images):
    training, part = copy.deepcopy(network), images[:4]  # as many as `rounded` takes at once
    train_rounded(training)
    exact, rounded_first = head_outputs(network, part), head_outputs(training, part)
    assert sqnr(in_int8(fold_batch_norms(network), part), rounded_first) > sqnr(exact, rounded_first) + 6


def test_training_in_int8_leaves_weights_that_any_network_loads(tiny, tmp_path):
    run = train(compose("train", ["task=classification", "qat=true", *tiny]))
    network, _ = load_network(str(run / "weights.safetensors"))
    assert not any(layer._forward_hooks for layer in layers_of(network).values())
    resumed = train(compose("train", [f"resume={run}", "epochs=2"]))
    assert resumed == run
