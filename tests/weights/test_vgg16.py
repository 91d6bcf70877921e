"""torchvision's VGG-16 as the start of SSD: a part of its fully connected layers becomes convolutions."""

import pytest
import torch
from torchvision.models import vgg16

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.initial_weights import start_from_weights
from mnv2_tasks.weights.find import manifest
from mnv2_tasks.weights.importers.recognise import recognise

NAMES = {"ssd": ["a", "b"]}


@pytest.fixture(scope="module")
def theirs():
    """A state_dict of few bytes: convolutions are filled with their number, row o, column i of a matrix is o + i."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in vgg16(weights=None).state_dict().items()}
    state = {}
    for number, (name, shape) in enumerate(shapes.items()):
        if len(shape) == 2:
            state[name] = torch.arange(float(sum(shape))).as_strided(shape, (1, 1))
        elif name.startswith("classifier"):
            state[name] = torch.arange(float(shape[0]))
        else:
            state[name] = torch.tensor(float(number)).expand(shape)
    return state


def detector(weights):
    config = compose("train", ["task=ssd", "data=voc", "recipe=ssd_voc_300", "data.root=x", f"weights={weights}"])
    return build_network(config, NAMES), config


def test_fully_connected_layers_become_convolutions_by_subsampling(theirs):
    imported = recognise(theirs, "file")
    assert "backbone=vgg16" in imported.overrides and imported.class_names["classification"][0] == "tench"
    assert {name.rpartition(".")[0] for name in imported.left_out} == {"classifier.6"}
    assert len(imported.state) + len(imported.left_out) == len(theirs)
    fc6, fc7 = imported.state["backbone.fc6.weight"], imported.state["backbone.fc7.weight"]
    assert fc6.shape == (1024, 512, 3, 3) and fc7.shape == (1024, 1024, 1, 1)
    for out, channel, y, x in [(0, 0, 0, 0), (1, 0, 0, 0), (5, 7, 1, 2), (1023, 511, 2, 2)]:
        assert fc6[out, channel, y, x] == 4 * out + 49 * channel + 7 * (3 * y) + 3 * x  # of their row and column
    assert fc7[3, 5, 0, 0] == 4 * 3 + 4 * 5
    assert imported.state["backbone.fc7.bias"][10] == imported.state["backbone.fc6.bias"][10] == 40


def test_ssd_starts_from_a_file_of_vgg16_and_the_scale_of_its_norm_anew(theirs, tmp_path):
    torch.save(theirs, tmp_path / "vgg16.pth")
    network, config = detector(tmp_path / "vgg16.pth")
    said = start_from_weights(network, config)
    assert "torchvision vgg16" in said and "backbone.conv4_3_norm.weight starts anew: the weights lack it" in said
    state = network.state_dict()
    assert (state["backbone.conv4_3_norm.weight"] == 20).all()
    assert (state["backbone.layers.28.weight"] == theirs["features.28.weight"].flatten()[0]).all()
    assert state["backbone.fc6.weight"][2, 3, 1, 1] == 8 + 49 * 3 + 21 + 3


def test_another_vgg16_is_refused(theirs):
    narrow = dict(theirs, **{"classifier.0.weight": theirs["classifier.0.weight"][:, : 512 * 25]})
    with pytest.raises(ConfigError, match=r"tensors are missing or of another shape, such as backbone.fc6.weight"):
        recognise(narrow, "file")


def test_published_weights_of_vgg16_are_the_ones_that_real_data_start_from():
    entry = manifest()["imagenet_vgg16"]
    assert entry["url"].endswith("/vgg16-397923af.pth") and {"coco", "voc"} <= set(entry["start_for"])
