"""trainer.compile=true changes how fast a run is and nothing else."""

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.compiled import CompiledNetwork, check_compiler
from mnv2_tasks.prediction.predictor import load_model
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.weight_files import load_weights

NAMES = {task: ["one", "two"] for task in ("classification", "ssdlite", "mobile_deeplabv3")}

# Dynamo looks at .grad of what the backbone hands to a head
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture
def graphs(monkeypatch):
    """What was compiled: by Dynamo, whose tracing and guards can go wrong; C++ would take minutes."""
    traced, compile_in_place = [], nn.Module.compile

    def backend(graph, inputs):
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compile_in_place(self, backend=backend))
    yield traced
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_under_the_same_names(tiny, lean, graphs, monkeypatch):
    monkeypatch.setattr("mnv2_tasks.training.prepared_run.check_compiler", lambda *_: None)
    words = ["task=multitask", "backbone=mobilenet_v1", *tiny, "data.source.train_size=8"]
    words += ["width=0.25", "imgsz=48"]
    eager, compiled = (train(compose("train", [*words, f"trainer.compile={wish}"])) for wish in ("false", "true"))
    before, after = (load_file(run / "weights.safetensors") for run in (eager, compiled))
    assert before.keys() == after.keys()
    assert before.keys() == load_weights(compiled / "checkpoints" / "last.ckpt").state.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, msg=name)
    # the backbone, three heads, and what follows SSD's anchors: none for validation
    assert len(graphs) == 5


@pytest.mark.parametrize("task", ["ssd", "deeplabv3"])
def test_the_other_heads_compile_too(graphs, task):
    network = build_network(compose("train", [f"task={task}", "width=0.1"]), {task: ["one", "two"]}).eval()
    head, specs = network.tasks[task].head, network.backbone.features
    features = {tap: torch.randn(1, spec.channels, 64 // spec.stride, 64 // spec.stride) for tap, spec in specs.items()}
    eager = head(features)
    head.compile()
    torch.testing.assert_close(head(features), eager)
    assert graphs


def test_prediction_compiled_is_the_same_from_the_folded_network(graphs):
    network = build_network(compose("train", ["task=multitask", "backbone=mobilenet_v1", "width=0.25"]), NAMES).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    compiled = CompiledNetwork(network)(images)
    for name, wanted in network(images).items():
        torch.testing.assert_close(compiled[name], wanted, rtol=1e-3, atol=1e-4)
    assert graphs


def test_an_exported_network_is_not_compiled_again(tmp_path):
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ConfigError, match="compile=true: an exported network is compiled already"):
        load_model(str(tmp_path / "model.onnx"), "cpu", compiled=True)


def test_a_compiler_that_works_is_not_complained_about():
    check_compiler("cpu")


def test_without_a_compiler_the_run_does_not_start(tiny, tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    torch._dynamo.reset()
    with pytest.raises(ConfigError, match=r"compile=true: .*No working C\+\+ compiler found.*Install .*g\+\+"):
        train(compose("train", ["task=ssdlite", *tiny, "trainer.compile=true"]))
    assert not (tmp_path / "ssdlite").exists()


def test_runs_from_before_there_was_compile_are_not_compiled(tmp_path):
    config = OmegaConf.to_container(compose("train", ["task=ssdlite"]))
    del config["trainer"]["compile"]
    OmegaConf.save(config, tmp_path / "config.yaml")
    assert compose("train", [f"resume={tmp_path}"]).trainer.compile is False
