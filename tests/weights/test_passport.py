"""What belongs to weights travels with them: a command cannot get it wrong, and the user can still change it."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from mnv2_tasks.build import build_network, load_network, load_strictly
from mnv2_tasks.config.compose import compose
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.training.train import train
from mnv2_tasks.weights import weight_files
from mnv2_tasks.weights.importers.family import Imported
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import load_weights, read_passport, save_weights


@pytest.fixture
def tf_like(tmp_path):
    """Weights of ours that were trained with TF's padding and input."""
    overrides = ["task=classification", "width=0.35", "imgsz=64", "backbone.padding=same", "backbone.norm_eps=0.001"]
    config = compose("train", [*overrides, "input.mean=[127.5,127.5,127.5]", "input.std=[127.5,127.5,127.5]"])
    names = {"classification": ["a", "b"]}
    torch.manual_seed(0)
    path = tmp_path / "tf_like.safetensors"
    save_weights(path, build_network(config, names).state_dict(), make_passport(config, names, "test"))
    return path


def test_evaluation_takes_network_and_input_from_the_weights(tf_like):
    config = compose("eval", [f"weights={tf_like}"])
    assert (config.backbone.padding, config.backbone.norm_eps) == ("same", 0.001)
    assert (config.width, config.backbone.width, config.imgsz) == (0.35, 0.35, 64)
    assert list(config.input.mean) == [127.5] * 3 and config.choices.task == "classification"


def test_limits_of_detections_travel_with_weights_that_say_them(tmp_path):
    config = compose("train", ["task=ssdlite", "data=coco", "width=0.35", "imgsz=96", "recipe=ssdlite_coco"])
    passport, path = make_passport(config, {"ssdlite": ["a"]}, "test"), tmp_path / "detector.safetensors"
    save_weights(path, {}, passport)
    task = compose("eval", [f"weights={path}"]).tasks.ssdlite
    assert (task.score_threshold, task.candidates, task.max_per_class, task.max_detections) == (1e-8, 2000, 100, 100)
    asked = compose("eval", [f"weights={path}", "tasks.ssdlite.score_threshold=0.3"]).tasks.ssdlite
    assert (asked.score_threshold, asked.candidates) == (0.3, 2000)
    del passport["config"]["tasks"]["ssdlite"]["max_per_class"]  # as before 0.2
    save_weights(tmp_path / "former.safetensors", {}, passport)
    task = compose("eval", [f"weights={tmp_path / 'former.safetensors'}"]).tasks.ssdlite
    assert (task.score_threshold, task.candidates, task.max_per_class) == (0.01, 400, None)


def test_the_command_line_still_wins_over_the_weights(tf_like):
    config = compose("eval", [f"weights={tf_like}", "backbone.padding=torch", "output_stride=16", "imgsz=96"])
    assert (config.backbone.padding, config.imgsz) == ("torch", 96)
    assert config.output_stride == config.backbone.output_stride == 16


def test_training_shares_padding_and_input_with_the_weights_that_it_starts_from(tf_like):
    config = compose("train", ["task=ssdlite", f"weights={tf_like}", "imgsz=96"])
    assert (config.backbone.padding, config.backbone.norm_eps) == ("same", 0.001)
    assert list(config.input.std) == [127.5] * 3 and config.imgsz == 96
    other = compose("train", ["task=ssdlite", f"weights={tf_like}", "backbone=resnet50"])
    assert list(other.input.mean) != [127.5] * 3


def test_passport_is_read_without_the_tensors(tf_like, tmp_path, monkeypatch):
    passport = load_weights(tf_like).passport
    torch.save({"state_dict": load_weights(tf_like).state, "passport": passport}, tmp_path / "of_a_run.ckpt")
    mapped, load = [], torch.load
    monkeypatch.setattr(
        weight_files, "_read", lambda path: pytest.fail("a .safetensors has its passport in its header")
    )
    assert read_passport(tf_like) == passport
    monkeypatch.undo()
    monkeypatch.setattr(torch, "load", lambda *args, mmap, **kw: mapped.append(mmap) or load(*args, mmap=mmap, **kw))
    assert read_passport(tmp_path / "of_a_run.ckpt") == passport and mapped == [True]


def test_files_of_torch_before_its_zip_format_are_read_too(tmp_path):
    state = torchvision.models.mobilenet_v2(weights=None, width_mult=0.35).state_dict()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_weights(tmp_path / "old.pth").state["backbone.stem.0.weight"], state["features.0.0.weight"])


def test_others_weights_bring_their_importers_overrides_as_far_as_the_user_leaves_them(tmp_path):
    torch.save(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35).state_dict(), tmp_path / "their.pth")
    assert isinstance(read_passport(tmp_path / "their.pth"), Imported)
    config = compose("eval", [f"weights={tmp_path}/their.pth", "data=folder", "imgsz=96"])
    assert config.choices == {"task": "classification", "data": "folder", "backbone": "mobilenet_v2"}
    assert (config.width, config.imgsz, config.input.fit, config.input.resize) == (0.35, 96, "centre_crop", 256)
    config = compose("train", ["task=ssdlite", f"weights={tmp_path}/their.pth", "input.mean=[1,2,3]"])
    assert config.backbone.padding == "torch" and list(config.input.mean) == [1, 2, 3] and config.input.fit == "square"


def test_the_recipes_groups_give_way_to_the_command_line():
    assert "poly" in compose("train", ["task=deeplabv3", "data=voc"]).schedule.shape._target_
    assert "cosine" in compose("train", ["task=deeplabv3", "data=voc", "schedule=cosine"]).schedule.shape._target_


@pytest.mark.parametrize("width", [0.35, 1.0])
def test_torchvision_weights_load_strictly_and_give_torchvisions_logits(width, tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=width).eval()
    for module in theirs.modules():  # statistics and affine parameters of a trained network, not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "mobilenet_v2.pth")
    network, passport = load_network(str(tmp_path / "mobilenet_v2.pth"))
    assert (
        passport["config"]["input"]["fit"] == "centre_crop" and len(passport["class_names"]["classification"]) == 1000
    )
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        difference = (network(images)["classification"] - theirs((images / 255 - mean) / std)).abs().max()
    assert difference <= 1e-5


def test_loading_back_keeps_the_normalisation_that_was_saved(tf_like):
    network, passport = load_network(str(tf_like))
    state = dict(load_weights(tf_like).state)
    assert network.mean.flatten().tolist() == [127.5] * 3
    load_strictly(network, {k: v for k, v in state.items() if k not in ("mean", "std")}, "test")
    assert network.mean.flatten().tolist() == [127.5] * 3


def test_own_pictures_train_from_folded_weights_evaluate_and_predict(tmp_path, caplog):
    """An ImageFolder from the first command to the last, starting from weights whose batch norms are folded."""
    caplog.set_level("INFO")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label, name in enumerate(("dark", "light")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 90, (40 + i, 50, 3)) + 150 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.jpg")
    (tmp_path / "photos" / "train" / "dark" / "broken.jpg").write_text("text")
    theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=0.35)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.normal_(0, 0.1)
    torch.save(theirs.state_dict(), tmp_path / "folded.pth")
    run = train(
        compose(
            "train",
            ["task=classification", "data=folder", f"data.root={tmp_path}/photos", "data.on_bad=skip", "width=0.35",
             f"weights={tmp_path}/folded.pth", "epochs=1", "batch=4", "imgsz=64", "input.resize=72", "workers=0",
             f"runs={tmp_path}/runs", "trainer.accelerator=cpu"],
        )
    )  # fmt: skip
    assert "batch norms are folded" in caplog.text and "1000 -> 2 classes" in caplog.text
    assert "ImageFolder, 2 classes, 16 / 8 images" in caplog.text
    assert "skipped in train: 1 of 17 images" in caplog.text
    metrics = evaluate(compose("eval", [f"run={run}"]))
    assert metrics["images"] == 8 and set(metrics["top1_per_class"]) == {"dark", "light"}
    network, passport = load_network(str(run / "weights.safetensors"))
    assert passport["class_names"] == {"classification": ["dark", "light"]}
