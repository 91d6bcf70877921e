import json

import pytest

from mnv2_tasks import checkpoint
from mnv2_tasks.build import build_network, build_source, class_names_of, load_network, start_from_weights
from mnv2_tasks.checkpoint import find_weights, load_weights, manifest, sha256
from mnv2_tasks.config import compose
from mnv2_tasks.errors import ConfigError


def network_of(*overrides):
    config = compose("train", list(overrides))
    return build_network(config, class_names_of(build_source(config), config)), config


@pytest.mark.parametrize("name", manifest())
def test_shipped_weights_rebuild_their_network(name):
    network, passport = load_network(name)
    assert not network.training
    assert set(passport["class_names"]) == set(network.tasks)
    assert passport["command"].startswith("python tools/train.py task=")
    assert json.dumps(passport)  # plain
    assert {"file", "sha256", "licence", "source", "metrics"} <= set(manifest()[name])


def test_shipped_weights_are_small():
    assert sum(find_weights(name).stat().st_size for name in manifest()) <= 8_000_000


def test_detection_and_segmentation_start_from_the_shipped_backbone():
    for task in ("ssdlite", "deeplabv3", "multitask"):
        network, config = network_of(f"task={task}")
        assert "weights: shapes_backbone, transferred" in start_from_weights(network, config)
        state, _ = load_weights(find_weights("shapes_backbone"))
        assert (network.state_dict()["backbone.stem.0.weight"] == state["backbone.stem.0.weight"]).all()


@pytest.mark.parametrize("override", ["weights=none", "backbone=resnet50", "width=0.5"])
def test_without_fitting_weights_training_starts_from_scratch_and_says_so(override):
    network, config = network_of("task=ssdlite", override)
    assert start_from_weights(network, config) == "weights: none, training starts from scratch"


def test_unknown_weights_error_lists_the_names():
    with pytest.raises(ConfigError, match=r"weights=shapes: no such file, and no such name.*shapes_backbone"):
        find_weights("shapes")


def test_damaged_shipped_file_is_noticed(tmp_path, monkeypatch):
    copy = tmp_path / "weights" / "manifest.yaml"
    copy.parent.mkdir()
    copy.write_text(checkpoint.MANIFEST.read_text())
    monkeypatch.setattr(checkpoint, "MANIFEST", copy)
    with pytest.raises(ConfigError, match="is missing"):
        find_weights("shapes_backbone")
    (copy.parent / manifest()["shapes_backbone"]["file"]).write_bytes(b"other")
    with pytest.raises(ConfigError, match="sha256"):
        find_weights("shapes_backbone")
    assert sha256(copy.parent / manifest()["shapes_backbone"]["file"])


def test_class_that_only_the_weights_know_keeps_its_head_from_being_taken(monkeypatch):
    network, config = network_of("task=classification", "weights=shapes_backbone")
    network.tasks["classification"].class_names = [*network.tasks["classification"].class_names[:-1], "pear"]
    said = start_from_weights(network, config)
    assert "2 head tensors of classification start anew" in said
