"""format=web: what lies in the folder, and what is refused. tests/export/test_browser.py looks at the page."""

import hashlib
import json
import re
import shutil
import tarfile
from types import SimpleNamespace

import pytest

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images.fit import MODES, Fit
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export import onnxruntime_web, web
from mnv2_tasks.export.export import export
from mnv2_tasks.export.onnxruntime_web import FILES, VERSION, runtime_files
from mnv2_tasks.kinds.kinds import KINDS

RUNTIME = {name: name.encode() for name in FILES}


def exported(choices, **kinds):
    """A file that is none, with tasks of these kinds."""
    tasks = {task: SimpleNamespace(kind=kind, class_names=["background", "cat"]) for task, kind in kinds.items()}
    outputs = [{"name": f"{task}_{name}"} for task, kind in kinds.items() for name in KINDS[kind].OUTPUTS]
    metadata = {"outputs": json.dumps(outputs)}
    return SimpleNamespace(
        tasks=tasks, metadata=metadata, precision="fp32", passport={"config": {"choices": {"data": choices}}}
    )


def written(folder, data="voc", mode="square", **kinds):
    fit = Fit(mode=mode, size=64, resize=None, fill=[123.675, 116.28, 103.53])
    web.write_page(folder, exported(data, **kinds), fit, "mine", RUNTIME)
    return json.loads((folder / "model.json").read_text())


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Sets what the only `npm` on the path does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def does(script):
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)

    return does


# ---------------------------------------------------------------- the folder


def test_folder_holds_the_page_and_the_runtime_and_names_what_the_network_gives(tmp_path):
    about = written(tmp_path, labels="classification", areas="segmentation")
    page = {file.name for file in web.PAGE_FILES.iterdir()}
    assert {file.name for file in tmp_path.iterdir()} == {*page, *FILES, "model.json"}
    assert (tmp_path / FILES[0]).read_bytes() == RUNTIME[FILES[0]]
    assert about["name"] == "mine" and about["input"]["fill"] == [124, 116, 104]
    assert [task["outputs"] for task in about["tasks"]] == [
        {"probabilities": "labels_probabilities"},
        {"class_map": "areas_class_map"},
    ]
    assert about["outputs"] == [{"name": "labels_probabilities"}, {"name": "areas_class_map"}]
    assert about["tasks"][1]["colours"] == [None, [255, 51, 51]]  # the background is not painted
    assert about["examples"] == [] and about["remark"] == ""


def test_any_size_is_taken_where_every_task_takes_it(tmp_path):
    assert written(tmp_path, areas="segmentation")["input"]["any_size"]
    assert not written(tmp_path, areas="segmentation", boxes="detection")["input"]["any_size"]


def test_weights_of_drawn_shapes_bring_examples_and_say_so(tmp_path):
    about = written(tmp_path, "shapes", labels="classification")
    assert len(about["examples"]) == 6 and all((tmp_path / name).is_file() for name in about["examples"])
    assert "drawn shapes alone" in about["remark"]


def test_page_names_its_own_files_alone():
    """Nothing from elsewhere, and nothing that a policy without inline code would stop."""
    here = {file.name for file in web.PAGE_FILES.iterdir()} | {FILES[0]}
    for file in web.PAGE_FILES.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), file
        for name in re.findall(r'(?:from "\./|src="|href=")([^"]+)"', text):
            assert name in here, f"{file.name} names {name}"
    html = (web.PAGE_FILES / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html and not re.search(
        r"<style|style=|<script(?! type=\"module\" src)| on\w+=", html
    )


def test_page_knows_every_fit_and_kind_and_its_own_version():
    fit, model = ((web.PAGE_FILES / name).read_text(encoding="utf-8") for name in ("fit.js", "model.js"))
    assert set(re.findall(r'case "(\w+)"', fit)) == set(MODES)
    assert set(re.findall(r"^  (\w+)\(\{", model, re.M)) == set(web.SHOWN) <= set(KINDS)
    assert f"const PAGE = {web.PAGE};" in model and FILES[0] in model


def test_kind_that_the_page_cannot_show_is_refused():
    with pytest.raises(ConfigError, match="not tags, which is tagging"):
        web.check_shown({"labels": "classification", "tags": "tagging"})


# ---------------------------------------------------------------- onnxruntime-web


@pytest.mark.parametrize("place", onnxruntime_web.PLACES)
def test_runtime_is_found_where_npm_or_a_user_put_it(place, tmp_path):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name, content in RUNTIME.items():
        (tmp_path / place / name).write_bytes(content)
    assert runtime_files(str(tmp_path)) == RUNTIME


def test_folder_without_the_runtime_is_refused(tmp_path):
    (tmp_path / FILES[0]).touch()
    with pytest.raises(ConfigError, match=f"has no {FILES[0]} and .*npm install onnxruntime-web@{VERSION}"):
        runtime_files(str(tmp_path))


def test_missing_npm_is_said_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="there is no npm. Install Node.js.*or say ort=<folder>"):
        export(compose("export", ["weights=multitask_shapes", "format=web", f"out={tmp_path / 'demo'}"]))
    assert not list(tmp_path.iterdir())


def test_npm_that_fails_is_quoted(npm):
    npm("echo 'request to the registry failed' >&2; exit 1")
    with pytest.raises(
        ConfigError, match=r"failed \(request to the registry failed\). Look at the network, or say ort="
    ):
        runtime_files(None)


def test_npm_brings_the_files_and_another_archive_is_refused(npm, tmp_path, monkeypatch):
    archive = tmp_path / "made.tgz"
    with tarfile.open(archive, "w:gz") as made:
        for name, content in RUNTIME.items():
            (tmp_path / name).write_bytes(content)
            made.add(tmp_path / name, f"package/dist/{name}")
    npm(f"cp {archive} onnxruntime-web.tgz")
    with pytest.raises(ConfigError, match="another onnxruntime-web"):
        runtime_files(None)
    digest = hashlib.sha512(archive.read_bytes()).digest()
    monkeypatch.setattr(onnxruntime_web, "SHA512", onnxruntime_web.base64.b64encode(digest).decode())
    assert runtime_files(None) == RUNTIME


def test_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "demo").mkdir()
    with pytest.raises(ConfigError, match="demo exists; remove it"):
        export(compose("export", ["weights=multitask_shapes", "format=web", f"out={tmp_path / 'demo'}"]))
