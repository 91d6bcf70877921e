"""hf_hub:owner/name/file@revision, from a hub on this machine."""

import os
import subprocess
import sys

import pytest
import torch
import torchvision
from hub_on_loopback import COMMIT, hub_on_this_machine

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights import hub
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.weight_files import load_weights


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.pth"
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def served(tmp_path, monkeypatch):
    with hub_on_this_machine(tmp_path / "hub", monkeypatch) as server:
        yield server


@pytest.mark.parametrize(
    "address", ["hf_hub:owner/net", "hf_hub:owner/net@main", f"hf_hub:owner/net/model.safetensors@{COMMIT}"]
)
def test_weights_of_the_hub_are_fetched_once_and_then_taken_offline(served, content, address, monkeypatch):
    served.files |= {"README.md": b"text", "model.safetensors": content, "pytorch_model.bin": b"other"}
    path = find_weights(address)
    assert path.name == "model.safetensors" and load_weights(path).family == "torchvision mobilenet_v2"
    asked = len(served.asked)
    assert find_weights(address) == path and len(served.asked) == asked


def test_without_the_usual_name_the_only_file_of_the_best_format_is_meant(served, content):
    served.files |= {"a/net.pth": content, "README.md": b"", "pytorch_model.bin": content}
    assert find_weights("hf_hub:owner/net").name == "pytorch_model.bin"
    assert find_weights("hf_hub:owner/net/a/net.pth").parts[-2:] == ("a", "net.pth")


def refused(address, message):
    with pytest.raises(ConfigError, match=message) as error:
        find_weights(address)
    assert "\n" not in str(error.value)


def test_what_file_is_meant_has_to_be_clear(served, content):
    served.files |= {"a.pth": content, "b.pth": content}
    refused("hf_hub:owner/net", r"which file\? its files of weights are a.pth, b.pth. Say hf_hub:owner/net/<file>")
    refused("hf_hub:owner/net/c.pth", r"which file\? its files of weights are a.pth, b.pth")
    served.files.clear()
    refused("hf_hub:owner/net", r"which file\? it has no file of weights")


@pytest.mark.parametrize("address", ["hf_hub:", "hf_hub:net", "hf_hub:owner/net@", "hf_hub:owner/net@main@x"])
def test_what_is_no_name_on_the_hub_says_how_one_looks(address):
    refused(address, "expected hf_hub:owner/name or hf_hub:owner/name/file, and @revision")


def test_a_file_that_is_too_large_is_not_fetched(served, content, monkeypatch):
    monkeypatch.setattr(hub, "MOST_BYTES", 1_000_000)
    served.files["model.safetensors"] = content
    refused("hf_hub:owner/net", "model.safetensors is larger than 1.0 MB, the most that is fetched")
    assert not [path for path in served.asked if "resolve" in path]


def test_a_repository_that_is_not_there_and_a_hub_out_of_reach_say_so_in_one_line(served, monkeypatch):
    refused("hf_hub:owner/other", "cannot be had from Hugging Face's hub .*Look at the name and the connection")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    refused("hf_hub:owner/net", "cannot be had from Hugging Face's hub .*or name a file of your own, weights=<path>")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("hf_hub:owner/net", "cannot be had from Hugging Face's hub .*offline")


def test_without_the_library_the_extra_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("hf_hub:owner/net", r'needs huggingface_hub; pip install "mnv2-tasks\[hub\]"')


@pytest.mark.slow
def test_the_library_is_not_loaded_for_other_weights():
    code = "import sys; from mnv2_tasks.weights.find import find_weights as f; f('shapes_backbone'); " \
           "print('huggingface_hub' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.slow
def test_a_mirror_is_named_by_the_library_s_own_variables(served, content, tmp_path):
    served.files["model.safetensors"] = content
    environment = {**os.environ, "HF_ENDPOINT": served.address, "HF_HOME": str(tmp_path / "home")}
    code = "from mnv2_tasks.weights.find import find_weights as f; print(f('hf_hub:owner/net'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(str(tmp_path / "home")), done.stderr
