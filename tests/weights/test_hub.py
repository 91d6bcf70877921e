"""hf_hub:owner/name/file@revision, from a hub on this machine."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from urllib.parse import unquote, urlsplit

import pytest
import torch
import torchvision

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights import hub
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.weight_files import load_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """One repository, owner/net, whose branch is main: what huggingface_hub asks of the hub, and no more."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = files, []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.server.asked.append("/".join(path))
        files = self.server.files
        if path[:4] == ["api", "models", "owner", "net"] and path[5:] in ([], ["main"], [COMMIT]):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            return self.answer(json.dumps({"id": "owner/net", "sha": COMMIT, "siblings": siblings}).encode())
        if path[:3] == ["owner", "net", "resolve"] and path[3] in ("main", COMMIT) and "/".join(path[4:]) in files:
            return self.answer(files["/".join(path[4:])])
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.pth"
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub without files, which this process takes for Hugging Face's."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Hub({})
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
