"""trainer.compile=true changes how fast a run is and nothing else."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mnv2_tasks.build import build_network
from mnv2_tasks.checkpoint import load_weights
from mnv2_tasks.compiling import check_compiler
from mnv2_tasks.config import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training import train

# Dynamo looks at .grad of what the backbone hands to a head
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture
def graphs(monkeypatch):
    """What was compiled: by Dynamo, whose tracing and guards can go wrong; C++ would take minutes."""
    traced, compile_in_place = [], nn.Module.compile

    def backend(graph, inputs):
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_in_place(self, backend=backend))
    yield traced
    torch._dynamo.reset()


def test_a_compiled_run_learns_the_same_under_the_same_names(tiny, graphs, monkeypatch):
    for name in ("plot_curves", "report.save_samples", "report.print_metrics", "_banner", "check_compiler"):
        monkeypatch.setattr(f"mnv2_tasks.training.{name}", lambda *_, **__: None)
    words = ["task=multitask", "norm_statistics=per_task", "backbone=mobilenet_v1", *tiny, "data.source.train_size=8"]
    words += ["width=0.25", "imgsz=48"]
    eager, compiled = (train(compose("train", [*words, f"trainer.compile={wish}"])) for wish in ("false", "true"))
    before, after = (load_file(run / "weights.safetensors") for run in (eager, compiled))
    assert before.keys() == after.keys()
    assert before.keys() == load_weights(compiled / "checkpoints" / "last.ckpt").state.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, msg=name)
    # the backbone with each task's norms, three heads, and what follows SSD's anchors: none for validation
    assert len(graphs) == 7


@pytest.mark.parametrize("task", ["ssd", "deeplabv3"])
def test_the_other_heads_compile_too(graphs, task):
    network = build_network(compose("train", [f"task={task}", "width=0.1"]), {task: ["one", "two"]}).eval()
    head, specs = network.tasks[task].head, network.backbone.features
    features = {tap: torch.randn(1, spec.channels, 64 // spec.stride, 64 // spec.stride) for tap, spec in specs.items()}
    eager = head(features)
    head.compile()
    torch.testing.assert_close(head(features), eager)
    assert graphs


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


def test_runs_from_before_there_was_compile_are_not_compiled(tiny):
    config = compose("train", ["task=ssdlite", *tiny])
    assert config.trainer.compile is False
