"""What Linux alone, or Unix alone, has is not needed: `resource` and `fcntl` are absent on Windows."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

ABSENT = "import sys; sys.modules.update(resource=None, fcntl=None)\n"  # an import of either is an ImportError
IMPORT_ALL = """
import importlib, pkgutil
import mnv2_tasks
for module in pkgutil.walk_packages(mnv2_tasks.__path__, "mnv2_tasks."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ImportError as error:  # an optional extra may be missing
            if (error.name or "mnv2_tasks").split(".")[0] in ("mnv2_tasks", "resource", "fcntl"):
                raise
"""
TRAIN = "from mnv2_tasks.__main__ import main; main(['train', *sys.argv[1:]])"
LOCK = """
from pathlib import Path
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.studies.study.jobs import locked
for _ in range(2):  # it is free again
    with locked(Path("study"), []) as descriptor:
        assert descriptor is None
        try:
            with locked(Path("study"), []):
                raise SystemExit("locked twice")
        except ConfigError as error:
            assert "another study is at work there" in str(error)
"""


def run_without_them(code: str, *arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-c", ABSENT + code, *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [IMPORT_ALL, LOCK], ids=["every module is imported", "a study locks its folder"])
def test_without_resource_and_fcntl(code, tmp_path):
    run_without_them(code, cwd=tmp_path)


def test_training_without_resource_and_fcntl_leaves_the_column_of_memory_empty(tmp_path):
    run_without_them(TRAIN, "task=classification", *TINY, "logger=none", cwd=tmp_path)
    with (tmp_path / "runs" / "classification" / "shapes-mobilenet_v2-1" / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["memory_mib"] == "" and float(row["seconds"]) > 0
