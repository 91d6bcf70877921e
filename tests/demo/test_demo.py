"""mnv2 demo: a folder for browsers, made and shown to this machine."""

import json
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pytest

from mnv2_tasks.config.compose import compose
from mnv2_tasks.demo import demo as module
from mnv2_tasks.demo.demo import demo
from mnv2_tasks.demo.server import page_server
from mnv2_tasks.errors import ConfigError


@pytest.fixture
def page(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "model.json").write_text('{"made_by": "mnv2_tasks"}')
    for name in ("index.html", "main.js", "ort.mjs", "style.css", "icon.svg", "run.wasm", "model.onnx"):
        (folder / name).write_text("content")
    return folder


@pytest.fixture
def served(monkeypatch):
    """What would be served: (folder, address) of each call, at once."""
    calls = []

    class Server:
        def __init__(self, folder, port):
            self.folder, self.server_address = folder, ("127.0.0.1", port)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def serve_forever(self):
            calls.append((self.folder, self.server_address[1]))

    monkeypatch.setattr(module, "page_server", Server)
    return calls


def run(*arguments):
    return demo(compose("demo", list(arguments)))


def test_a_folder_that_was_exported_is_shown_as_it_is(page, served, capsys):
    run(f"weights={page}", "port=8123")
    assert served == [(page, 8123)]
    assert "see it: http://127.0.0.1:8123/" in capsys.readouterr().out


def test_weights_become_a_folder_first(served, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(module, "export", lambda config: made.append(config))
    run("weights=multitask_shapes", f"out={tmp_path / 'kept'}", "precision=fp16")
    (config,) = made
    assert (config.format, config.precision, config.weights) == ("web", "fp16", "multitask_shapes")
    assert config.out == str(tmp_path / "kept") and served == [(tmp_path / "kept", 8000)]


def test_a_folder_that_is_made_for_once_is_gone_in_the_end(served, monkeypatch):
    monkeypatch.setattr(module, "export", lambda config: Path(config.out).mkdir())
    run("weights=multitask_shapes")
    assert not served[0][0].parent.exists()


@pytest.mark.parametrize("content", ['{"name": "theirs"}', "[]"])
def test_a_model_folder_of_others_is_refused(content, page, served):
    (page / "model.json").write_text(content)
    with pytest.raises(
        ConfigError, match="its model.json is not one of ours. Name a folder that export format=web wrote"
    ):
        run(f"weights={page}")
    assert not served


def test_a_folder_is_not_made_of_one_that_is_there(page, served, tmp_path):
    with pytest.raises(ConfigError, match="is a folder already"):
        run(f"weights={page}", f"out={tmp_path / 'other'}")


def test_server_gives_files_the_types_that_browsers_ask_for(page):
    with page_server(page, 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.server_address
        assert host == "127.0.0.1"
        expected = {
            "": "text/html", "main.js": "text/javascript", "ort.mjs": "text/javascript", "style.css": "text/css",
            "icon.svg": "image/svg+xml", "run.wasm": "application/wasm", "model.json": "application/json",
            "model.onnx": "application/octet-stream",
        }  # fmt: skip
        for name, kind in expected.items():
            with urlopen(f"http://{host}:{port}/{name}") as answer:
                assert answer.headers["Content-Type"].startswith(kind) and answer.headers["Cache-Control"] == "no-cache"
        assert json.load(urlopen(f"http://{host}:{port}/model.json"))["made_by"] == "mnv2_tasks"
        server.shutdown()


def test_a_port_that_is_taken_is_an_error_before_anything_is_made(page, tmp_path):
    with page_server(page, 0) as server:
        with pytest.raises(ConfigError, match="cannot be had.*port=0 for a free one"):
            run("weights=multitask_shapes", f"port={server.server_address[1]}", f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="port=99999: cannot be had"):
        page_server(page, 99999)
