"""The tools as a user runs them: exit codes, messages, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

ROOT = Path(__file__).parent.parent


def tool(name, *args, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{name}.py"), *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # as in conftest
        timeout=300,
    )


@pytest.mark.parametrize(
    "name, args, message",
    [
        ("train", ["task=sdlite"], "Did you mean ssdlite"),
        ("train", [], "say which task: task="),
        ("train", ["ssdlite"], "ssdlite: expected key=value"),
        ("train", ["task=ssdlite", "epochs=many"], "expected a whole number"),
        ("train", ["task=ssdlite", "resume=nowhere"], "not a run folder"),
        ("eval", ["task=ssdlite"], "say what to evaluate"),
        ("eval", ["run=nowhere"], "not a run folder"),
        ("predict", ["source=nowhere.jpg"], "no such file or folder"),
        ("predict", ["weights=unknown"], "no such name in manifest.yaml"),
    ],
)
def test_mistake_ends_with_a_clear_error_and_no_traceback(name, args, message, tmp_path):
    done = tool(name, *args, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr and "error:" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in tool("train", "task=sdlite", "debug=true", cwd=tmp_path).stderr


def test_help_shows_examples_and_choices(tmp_path):
    done = tool("train", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("python tools/train.py task=ssdlite", "mobile_deeplabv3", "backbone", "epochs"):
        assert word in done.stdout
    assert not any(tmp_path.iterdir())  # and leaves nothing behind


@pytest.mark.slow
def test_sweep_trains_each_choice_into_its_own_folder(tmp_path):
    tiny = ["data.source.train_size=8", "data.source.val_size=4", "imgsz=64", "batch=4", "epochs=1", "workers=0"]
    done = tool("train", "-m", "task=classification", "backbone=mobilenet_v2,mobilenet_v1", *tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = sorted(path.name for path in (tmp_path / "runs" / "classification").iterdir())
    assert runs == ["shapes-mobilenet_v1-1", "shapes-mobilenet_v2-1"]
    for run in runs:  # as it was typed, not as Hydra was given it
        command = json.loads((tmp_path / "runs" / "classification" / run / "run.json").read_text())["command"]
        assert command.endswith("train.py -m task=classification backbone=mobilenet_v2,mobilenet_v1 " + " ".join(tiny))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # nothing is left where the command was typed


@pytest.mark.slow
def test_submitit_runs_a_job_as_it_was_typed(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    arguments = ["-m", "hydra/launcher=submitit_local", "task=classification", *TINY]
    done = tool("train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "classification" / "shapes-mobilenet_v2-1"
    assert (run / "metrics.json").is_file()
    assert json.loads((run / "run.json").read_text())["command"].endswith("train.py " + " ".join(arguments))


def test_predict_without_arguments_shows_something_at_once(tmp_path):
    done = tool("predict", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "predict" / "1"
    entries = json.loads((out / "results.json").read_text())
    assert len(entries) == 8 and (out / "sheet.png").stat().st_size > 10_000
    assert any(entry["ssdlite"] for entry in entries)
