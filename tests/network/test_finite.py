"""Outputs that are no numbers end in an error that names the first layer, wherever a network is used."""

import json

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Frames
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.export.export import export
from mnv2_tasks.network import finite
from mnv2_tasks.network.finite import FiniteWatch
from mnv2_tasks.network.network import Network, Views
from mnv2_tasks.prediction.predict import predict
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import save_weights

NAMES = {"classification": "abc", "ssdlite": "abc", "mobile_deeplabv3": "abc"}
IMAGES = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
FRAMES = Frames((64, 64), *(torch.tensor([[64, 64]] * 2) for _ in range(2)))


def network_of(task):
    config = compose("train", [f"task={task}", "width=0.35", "weights=none", "imgsz=64"])
    names = list(NAMES) if task == "multitask" else [task]
    return build_network(config, {name: list(NAMES[name]) for name in names}).eval()


@pytest.mark.parametrize("task", NAMES)
def test_nan_in_a_weight_names_its_layer_for_every_kind_of_task(task):
    network = network_of(task)
    network.predict(IMAGES, FRAMES)
    layer, convolution = [(n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)][3]
    with torch.no_grad():
        convolution.weight[:2, 0, 0, 0] = torch.tensor([torch.nan, torch.inf])
    message = rf"{task}: .*not finite.* first in {layer} \(Conv2d\), whose weight holds 2 such numbers of"
    with pytest.raises(ConfigError, match=message):
        network.predict(IMAGES, FRAMES)
    with pytest.raises(ConfigError, match=message):
        network.predict_task(task, IMAGES, FRAMES)
    if task == "mobile_deeplabv3":
        with pytest.raises(ConfigError, match=message):
            network.predict_task(task, IMAGES, FRAMES, Views((0.5, 1.0)))


def test_head_of_another_task_does_not_matter_to_the_one_that_is_asked_for():
    network = network_of("multitask")
    with torch.no_grad():
        network.tasks["classification"].head.linear.bias.fill_(torch.nan)
    network.predict_task("ssdlite", IMAGES, FRAMES)
    with pytest.raises(
        ConfigError, match=r"^classification: .*tasks\.classification\.head\.linear \(Linear\), whose bias"
    ):
        network.predict(IMAGES, FRAMES)


def test_input_and_numbers_that_are_too_large_are_told_from_weights():
    network = network_of("classification")
    network.std[:] = 0
    with pytest.raises(ConfigError, match=r"whose input is not finite either: see input\.mean and input\.std"):
        network.predict(IMAGES, FRAMES)
    network = network_of("classification")
    with torch.no_grad():
        [m for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1].bias.fill_(1)
        network.tasks["classification"].head.linear.weight.fill_(3e38)
    with pytest.raises(ConfigError, match=r"weights and input are finite: its results exceed float32"):
        network.predict(IMAGES, FRAMES)


@pytest.fixture
def broken(tmp_path):
    """Weights with one NaN."""
    config = compose("train", ["task=classification", *TINY])
    network = network_of("classification")
    with torch.no_grad():
        network.backbone.stem[0].weight[0, 0, 0, 0] = torch.nan
    names = {"classification": [f"class {i}" for i in range(3)]}
    save_weights(tmp_path / "broken.safetensors", network.state_dict(), make_passport(config, names, "a test"))
    for split in ("train", "val"):
        for name in names["classification"]:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / "data" / split / name / "a.png")
    return tmp_path / "broken.safetensors"


LAYER = r"first in backbone\.stem\.0 \(Conv2d\), whose weight holds 1 such number"


def test_eval_predict_and_export_refuse_weights_with_nan(broken, tmp_path):
    data = ["data=folder", f"data.root={tmp_path / 'data'}", "workers=0", "trainer.accelerator=cpu"]
    with pytest.raises(ConfigError, match=LAYER):
        evaluate(compose("eval", [f"weights={broken}", *data, f"out={tmp_path / 'eval'}"]))
    assert not (tmp_path / "eval" / "metrics.json").exists()
    picture = tmp_path / "data" / "val" / "class 0" / "a.png"
    with pytest.raises(ConfigError, match=LAYER):
        predict(compose("predict", [f"weights={broken}", f"source={picture}", f"out={tmp_path / 'seen'}"]))
    out = tmp_path / "model.pt2"
    with pytest.raises(ConfigError, match=LAYER):
        export(compose("export", [f"weights={broken}", "format=torch", f"out={out}", *data]))
    assert not out.exists()


def test_training_from_weights_with_nan_and_predictions_of_such_leave_no_folder(broken, tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"weights=.*: .* holds numbers that are NaN or infinite"):
        train(compose("train", ["task=classification", *tiny, f"weights={broken}"]))
    with pytest.raises(ConfigError, match="not finite"):
        predict(compose("predict", [f"weights={broken}", "device=cpu", "source=shapes"]))
    assert not (tmp_path / "classification").exists() and not list((tmp_path / "runs" / "predict").iterdir())


def test_a_precision_to_train_in_that_does_not_exist_is_refused_before_data_are_read(broken):
    with pytest.raises(ConfigError, match="trainer.precision=7: expected auto, 32-true"):
        evaluate(compose("eval", [f"weights={broken}", "task=classification", "trainer.precision=7"]))


def test_exported_file_names_its_output(tmp_path, monkeypatch):
    config = compose("train", ["task=classification", *TINY])
    passport = make_passport(config, {"classification": ["a", "b"]}, "a test") | {"exported": True}

    class Session:
        metadata = {"passport": json.dumps(passport), "tasks": '{"classification": "classification"}'}

        def __init__(self, path, threads):
            pass

        def __call__(self, images):
            return [np.array([[0.5, np.nan]], np.float32)]

    monkeypatch.setattr("mnv2_tasks.runtimes.onnx.Session", Session)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ConfigError, match=r"model\.onnx: its output classification_probabilities is not finite"):
        Exported(tmp_path / "model.onnx").predict(IMAGES[:1], FRAMES)


def test_loss_that_is_not_finite_names_the_layer(tiny, monkeypatch):
    def features(self, images):
        return self.backbone(images * (torch.nan if self.training else 1.0))

    monkeypatch.setattr(Network, "features", features)
    with pytest.raises(DataError, match=r"the loss is not finite at step 0.*\n  first in backbone\.stem\.0 \(Conv2d\)"):
        train(compose("train", ["task=classification", *tiny]))


@pytest.fixture
def late(monkeypatch):
    """Flags are read a step later, as on a GPU."""
    monkeypatch.setattr(finite, "AT_ONCE", set())


def test_a_flag_is_read_at_the_next_one_or_when_it_is_asked_for_and_once(late):
    def tell(step):
        def raises():
            raise DataError(f"step {step}")

        return raises

    watch = FiniteWatch()
    watch.add(torch.tensor(False), tell(0))
    with pytest.raises(DataError, match="step 0"):
        watch.add(torch.tensor(True), tell(1))
    watch.add(torch.tensor(True), tell(2))
    watch.add(torch.tensor(False), tell(3))
    with pytest.raises(DataError, match="step 3"):
        watch.settle()
    watch.settle()


@pytest.mark.parametrize("bad", [2, 3])  # of four steps an epoch
def test_loss_that_is_not_finite_and_read_late_names_its_own_images_and_keeps_the_checkpoint_before(
    bad, late, tiny, tmp_path, monkeypatch
):
    seen, loss = [], Network.loss

    def poisoned(self, outputs, batches):
        seen.append(batches["classification"].image_ids.tolist())
        terms = loss(self, outputs, batches)
        if len(seen) == bad + 1:
            terms["classification"]["class"] = terms["classification"]["class"] * torch.nan
        return terms

    monkeypatch.setattr(Network, "loss", poisoned)
    with pytest.raises(DataError) as stop:
        train(compose("train", ["task=classification", *tiny, "trainer.save_every_steps=1"]))
    assert f"not finite at step {bad}: " in str(stop.value) and f"images {seen[bad]}" in str(stop.value)
    assert "first in" not in str(stop.value)  # every layer is, once the optimizer has made a step of it
    [checkpoint] = tmp_path.rglob("*.ckpt")  # last.ckpt, and no best.ckpt
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["global_step"] == bad and all(t.isfinite().all() for t in kept["state_dict"].values())
    assert not list(tmp_path.rglob("metrics.csv"))


def test_a_normalisation_of_whole_numbers_is_kept_as_float32():
    network = Network(backbone=torch.nn.Identity(), tasks={}, mean=[0, 0, 0], std=[255, 255, 255])
    assert network.mean.dtype == network.std.dtype == torch.float32
