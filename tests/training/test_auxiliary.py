"""The auxiliary classifier: a help in training, of which nothing is left in what comes out."""

import csv

import pytest
import torch
import torch.nn.functional as F

from mnv2_tasks.build import build_network, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import ClassificationBatch, FeatureSpec, Frames
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.heads.auxiliary import AuxiliaryHead
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.training.auxiliary_loss import AuxiliaryLoss
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.weight_files import load_weights

NASNET = ["task=classification", "backbone=nasnet_mobile", "width=0.1", "imgsz=67"]


def network_of(*overrides):
    config = compose("train", [*NASNET, *overrides])
    names = {task: ["a", "b", "c"] for task in config.tasks}
    return build_network(config, names, further_taps=["auxiliary"])


def batch_of(images=2, side=67):
    sizes = torch.full((images, 2), side)
    pixels = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8)
    labels = torch.arange(images) % 3
    return {
        "classification": ClassificationBatch(pixels, labels, torch.arange(images), Frames((side, side), sizes, sizes))
    }


def test_head_has_the_size_of_slims():
    head = AuxiliaryHead(features={"auxiliary": FeatureSpec(528, 16)}, map_size=(14, 14), num_classes=1001)
    assert sum(p.numel() for p in head.parameters()) == 2_412_009
    assert head({"auxiliary": torch.randn(2, 528, 14, 14)}).shape == (2, 1001)


def test_loss_is_the_tasks_own_of_its_logits_and_reaches_the_cells_below_alone():
    network, batches = network_of("tasks.classification.label_smoothing=0.0"), batch_of()
    auxiliary = AuxiliaryLoss(network, weight=0.4, imgsz=67)
    _, features = network.outputs_and_features(batches)
    loss = auxiliary(network, features, batches)["classification"]
    logits = auxiliary.heads["classification"](features["classification"])
    torch.testing.assert_close(loss, 0.4 * F.cross_entropy(logits, batches["classification"].labels))
    loss.backward()
    reached = [any(p.grad is not None for p in cell.parameters()) for cell in network.backbone.cells]
    assert reached == [True] * 11 + [False] * 5


def test_a_run_trains_it_and_neither_network_nor_weights_hold_it(tiny, monkeypatch):
    seen, setup = [], TasksModule.configure_optimizers

    def configured(module):
        found = setup(module)
        trained = {id(p) for group in found["optimizer"].param_groups for p in group["params"]}
        seen.append(all(id(p) in trained for p in module.auxiliary.parameters()))
        return found

    monkeypatch.setattr(TasksModule, "configure_optimizers", configured)
    run = train(compose("train", [*tiny, *NASNET, "auxiliary=0.4"]))
    assert seen == [True]
    with (run / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    parts = float(row["train/class"]) + float(row["train/auxiliary"])
    assert float(row["train/loss"]) == pytest.approx(parts, rel=1e-5)

    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("auxiliary.heads.classification.") for name in checkpoint)
    plain = build_network(compose("train", NASNET), {"classification": list("abcdefgh")})
    for path in (run / "checkpoints" / "best.ckpt", run / "weights.safetensors"):
        assert load_weights(path).state.keys() == plain.state_dict().keys()
    network, _ = load_network(str(run))
    assert list(network.backbone.features) == ["final"]
    assert model_cost(network, 67) == model_cost(plain, 67)


def test_a_run_that_is_resumed_trains_it_on(tiny):
    class PowerCut(Exception):
        pass

    step = TasksModule.training_step

    def cut(self, batches, batch_index):
        if self.trainer.current_epoch == 1:
            raise PowerCut
        return step(self, batches, batch_index)

    settings = [*tiny, *NASNET, "auxiliary=0.4", "epochs=2", "data.source.train_size=8"]
    whole = train(compose("train", settings))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(TasksModule, "training_step", cut)
        train(compose("train", settings))
    (stopped,) = (run for run in whole.parent.iterdir() if run != whole)
    resumed = train(compose("train", [f"resume={stopped}"]))
    one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, resumed))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    assert all(torch.equal(tensor, two["state_dict"][name]) for name, tensor in one["state_dict"].items())
    assert (
        load_weights(whole / "weights.safetensors").state.keys()
        == load_weights(resumed / "weights.safetensors").state.keys()
    )


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["backbone=mobilenet_v2"], "auxiliary: MobileNetV2 has no auxiliary classifier; set auxiliary=0"),
        (["task=ssdlite"], "auxiliary=0.4: is for classification; ssdlite cannot use it"),
        (["freeze=[backbone]"], "auxiliary=0.4: helps the backbone alone, which is frozen"),
        (["imgsz=66"], "pools 5 x 5 cells, these images have 4 x 4; train at 67 px or more"),
        (["auxiliary=-1"], "auxiliary=-1: expected at least 0"),
    ],
)
def test_what_it_cannot_help_is_refused_before_anything_is_written(tiny, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train(compose("train", [*tiny, *NASNET, "auxiliary=0.4", *overrides]))
    assert not list(tmp_path.glob("*/*-nasnet*"))
