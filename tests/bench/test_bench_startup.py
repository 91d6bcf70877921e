import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from mnv2_tasks.bench import startup

# what a run of this task has no use for: other tasks' libraries, other formats, other tools of ours
UNNEEDED = [
    "tensorflow", "ai_edge_litert", "onnx", "onnxruntime", "openvino", "executorch", "webdataset", "timm",
    "pycocotools", "hotcoco", "pandas", "sklearn", "scipy.io", "torchvision.transforms.v2",
    "mnv2_tasks.bench", "mnv2_tasks.studies", "mnv2_tasks.data_tool", "mnv2_tasks.export", "mnv2_tasks.scorecard",
    "mnv2_tasks.paper",
    "mnv2_tasks.tasks.detection", "mnv2_tasks.tasks.segmentation", "mnv2_tasks.data.reading.coco_json",
]  # fmt: skip


def modules_of(arguments, tmp_path):
    told = tmp_path / "modules.txt"
    code = f"import atexit, sys; atexit.register(lambda: open({str(told)!r}, 'w').write('\\n'.join(sys.modules)))\n"
    code += arguments[1].replace(startup.END, "raise SystemExit")
    subprocess.run([sys.executable, "-c", code, *arguments[2:]], check=True, capture_output=True, cwd=tmp_path)
    return set(told.read_text().split("\n"))


def test_help_is_told_without_torch(tmp_path):
    loaded = modules_of(
        ["-c", "from mnv2_tasks.config.compose import launch; launch('train', None)", "--help"], tmp_path
    )
    assert "mnv2_tasks.config.compose" in loaded
    assert not loaded & {"torch", "torchvision", "lightning", "numpy", "cv2", "mnv2_tasks.training.train"}


@pytest.mark.slow
def test_a_training_run_imports_nothing_that_it_does_not_need(tmp_path):
    loaded = modules_of(startup.first_step("classification", tmp_path), tmp_path)
    assert "mnv2_tasks.tasks.classification" in loaded
    assert not sorted(loaded & set(UNNEEDED))


def test_start_up_is_told_in_times_of_the_imports_alone(monkeypatch):
    monkeypatch.setattr(startup, "IMPORTS", "import json")
    monkeypatch.setattr(startup, "first_step", lambda task, runs: ["-c", "import csv, json"])
    (found,) = startup.measure(OmegaConf.create({"quick": True, "repeats": None, "threads": 1}))
    assert [row[0] for row in found.rows] == ["imports", "--help", "task=classification"]
    assert found.rows[0][3] == 1.0
    assert all("=" in row[1] for row in found.rows)
    assert all(seconds > 0 for row in found.rows for seconds in row[2:])


def test_the_slowest_are_libraries_with_all_that_they_import():
    told = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |     torch._C
import time:       900 |    1500000 |   torch
import time:       200 |     250000 | cv2
import time:       300 |    1900000 | lightning
a warning | of | a library
import time:        10 |         10 | site
"""
    assert startup.slowest(told) == "lightning=1.90, torch=1.50, cv2=0.25"
