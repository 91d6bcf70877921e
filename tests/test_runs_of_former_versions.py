"""Run folders and an exported file that version 0.1 wrote: they evaluate, resume, predict and compare as they did then.

`tests/former/0.1/` holds four tiny runs (MobileNetV2 of width 0.1 on the embedded scenes), one file exported from the
last of them, and `expected.json`: what 0.1 itself made of them. To save space `best.ckpt`, which equals `last.ckpt`
after a single epoch, is left out. The tools are called as a user calls them, so that a moved module changes nothing
here.
"""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FORMER = ROOT / "tests" / "former" / "0.1"
EXPECTED = json.loads((FORMER / "expected.json").read_text())
RUNS = ["classification", "ssdlite", "mobile_deeplabv3", "multitask"]
SINGLE = RUNS[:3]
DEMO = ["source=shapes", "min_score=0.05", "device=cpu", "batch=8"]


@pytest.fixture
def run_tool(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"tools/{name}.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")

    return run


@pytest.fixture
def former(run_tool):
    """task -> a copy of its run folder, whole again; its path is relative, because comparisons state it."""

    def copied(task):
        run = Path(shutil.copytree(FORMER / "runs" / task / "shapes-mobilenet_v2-1", Path("former") / task))
        shutil.copy(run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt")
        return run

    return copied


def evaluated(run_tool, out, *arguments):
    run_tool("eval", *arguments, f"out={out}")
    return json.loads((out / "metrics.json").read_text())


def predicted(run_tool, out, weights):
    run_tool("predict", f"weights={weights}", *DEMO, f"out={out}")
    return json.loads((out / "results.json").read_text())


def resumed(run_tool, run):
    run_tool("train", f"resume={run}", "epochs=2")
    return json.loads((run / "metrics.json").read_text())


def compared(run_tool, out, *runs):
    run_tool("compare", *runs, f"out={out}", "repeats=0", "images=1")
    content = json.loads((out / "compare.json").read_text())
    return {key: value for key, value in content.items() if key != "device"}


def differing(now, then, where=""):
    """Where two JSON values differ: fractions by more than 1e-4, large ones in relation."""
    if isinstance(then, dict) and isinstance(now, dict) and set(then) <= set(now):
        return [line for key in then for line in differing(now[key], then[key], f"{where}/{key}")]
    if isinstance(then, list) and isinstance(now, list) and len(now) == len(then):
        return [line for i, pair in enumerate(zip(now, then)) for line in differing(*pair, f"{where}/{i}")]
    if isinstance(then, float) and isinstance(now, float):
        return [] if abs(now - then) <= 1e-4 * max(1, abs(then)) else [f"{where}: {then} then, {now} now"]
    return [] if now == then and type(now) is type(then) else [f"{where}: {then} then, {now} now"]


@pytest.mark.parametrize("task", RUNS)
def test_a_run_of_a_former_version_evaluates_to_the_same_numbers(task, former, run_tool, tmp_path):
    assert not differing(evaluated(run_tool, tmp_path / "out", f"run={former(task)}"), EXPECTED["evaluated"][task])


@pytest.mark.parametrize("task", RUNS)
def test_a_run_of_a_former_version_resumes_to_the_same_numbers(task, former, run_tool):
    assert not differing(resumed(run_tool, former(task)), EXPECTED["resumed"][task])


@pytest.mark.parametrize("task", RUNS)
def test_weights_of_a_former_version_predict_the_same(task, former, run_tool, tmp_path):
    assert not differing(predicted(run_tool, tmp_path / "out", former(task)), EXPECTED["predicted"][task])


@pytest.mark.parametrize("task", SINGLE)
def test_runs_of_a_former_version_compare_as_they_did(task, former, run_tool, tmp_path):
    found = compared(run_tool, tmp_path / "out", former(task), former("multitask"))
    assert not differing(found, EXPECTED["compared"][task])


def test_a_file_exported_by_a_former_version_predicts_and_scores_the_same(run_tool, tmp_path):
    pytest.importorskip("onnxruntime")
    file = FORMER / "multitask.onnx"
    assert not differing(predicted(run_tool, tmp_path / "predicted", file), EXPECTED["exported"]["predicted"])
    scored = evaluated(
        run_tool, tmp_path / "out", f"weights={file}", "data.source.val_size=24", "workers=0", "trainer.accelerator=cpu"
    )
    assert not differing(scored, EXPECTED["exported"]["evaluated"])
