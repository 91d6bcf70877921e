import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from loopback import serving

from mnv2_tasks.build import build_network, build_sources, class_names_of, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.initial_weights import start_from_weights
from mnv2_tasks.weights import find
from mnv2_tasks.weights.fetched import sha256
from mnv2_tasks.weights.find import find_weights, manifest
from mnv2_tasks.weights.weight_files import load_weights


def network_of(*overrides):
    config = compose("train", list(overrides))
    return build_network(config, class_names_of(build_sources(config))), config


SHIPPED = [name for name, entry in manifest().items() if "file" in entry]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_rebuild_their_network(name):
    network, passport = load_network(name)
    assert not network.training
    assert set(passport["class_names"]) == set(network.tasks)
    assert passport["command"].startswith("python tools/train.py task=")
    assert json.dumps(passport)  # plain
    assert {"file", "sha256", "licence", "source", "metrics"} <= set(manifest()[name])


def test_shipped_weights_are_small():
    assert sum(find_weights(name).stat().st_size for name in SHIPPED) <= 8_000_000


def test_detection_and_segmentation_start_from_the_shipped_backbone():
    for task in ("ssdlite", "deeplabv3", "multitask"):
        network, config = network_of(f"task={task}")
        assert "weights: shapes_backbone (ours), transferred" in start_from_weights(network, config)
        state, *_ = load_weights(find_weights("shapes_backbone"))
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
    copy.write_text(find.MANIFEST.read_text())
    monkeypatch.setattr(find, "MANIFEST", copy)
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


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A torchvision file of random weights, published on this machine; (its entry in the manifest, the server)."""
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), tmp_path / "net.pth")
    content = (tmp_path / "net.pth").read_bytes()
    with serving({"net.pth": content}, monkeypatch) as server:
        entry = {"url": server.url("net.pth"), "sha256": hashlib.sha256(content).hexdigest()[:8],
                 "backbone": "mobilenet_v2", "width": 1.0, "start_for": ["folder"]}  # fmt: skip
        monkeypatch.setattr(find, "manifest", lambda: {"imagenet_mobilenet_v2": entry})
        monkeypatch.setattr("mnv2_tasks.training.initial_weights.manifest", find.manifest)
        yield entry, server


def test_published_weights_are_downloaded_once_and_then_taken_from_the_cache(published, capsys):
    _, server = published
    network, config = network_of("task=classification", "weights=imagenet", "width=1.0")
    assert "(torchvision mobilenet_v2), transferred 312 of 314 tensors; 2 head" in start_from_weights(network, config)
    assert "1000 -> 8 classes" in start_from_weights(network, config)
    assert len(server.asked) == 1
    output = capsys.readouterr()
    assert "net.pth: 14.2 MB fetched, checksum verified" in output.err and not output.out


def test_a_download_of_weights_that_breaks_goes_on_where_it_was(published, monkeypatch):
    _, server = published
    monkeypatch.setattr("mnv2_tasks.data.download.fetch.PAUSES", (0, 0, 0))
    server.cuts = [1_000_000, 0]
    with pytest.raises(ConfigError, match=r"weights=imagenet: .*net.pth: the connection dropped; 1.0 MB are kept"):
        find_weights("imagenet")
    assert find_weights("imagenet").read_bytes() == server.files["net.pth"]
    assert server.asked == [None, "bytes=1000000-", "bytes=1000000-"]


def test_processes_that_start_at_once_fetch_weights_once(published):
    _, server = published
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(find_weights, ["imagenet"] * 4))
    assert len(set(paths)) == 1 and len(server.asked) == 1


def test_a_published_file_that_was_damaged_or_changed_is_refused(published):
    entry, _ = published
    path = find_weights("imagenet")
    path.write_bytes(b"other")
    with pytest.raises(ConfigError, match=rf"{path}: is damaged, it has sha256 \w+, published is .*Delete it"):
        find_weights("imagenet")
    path.unlink()
    entry["sha256"] = "00000000"
    with pytest.raises(
        ConfigError, match=r"arrived has sha256 \w+, published is 00000000; it was removed.*weights=<path>"
    ):
        find_weights("imagenet")
    assert not path.exists()


def test_published_weights_are_of_one_width_and_backbone(published):
    network, config = network_of("task=classification", "weights=imagenet", "width=0.5")
    with pytest.raises(ConfigError, match=r"this is width 1.0; you asked for 0.5"):
        start_from_weights(network, config)
    with pytest.raises(ConfigError, match=r"is published for mobilenet_v2; you asked for resnet50"):
        find_weights("imagenet", "resnet50")


def test_without_a_connection_automatic_weights_say_what_is_lost_and_asked_for_ones_are_an_error(published):
    entry, _ = published
    entry["url"] = "http://127.0.0.1:9/net.pth"
    network, config = network_of("task=classification", "width=1.0")
    config.weights, config.choices.data, config.backbone.width = "auto", "folder", 1.0
    said = start_from_weights(network, config)
    assert said.startswith("weights: none, training starts from scratch and will score far lower than it could. ")
    assert "It can be fetched by hand too, curl -L -C - -o " in said
    with pytest.raises(ConfigError, match="no connection"):
        find_weights("imagenet")
