"""Windows and macOS, as far as Linux can play them: what they lack, how they start processes, write and name files."""

import csv
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

from mnv2_tasks.__main__ import VERBS, main
from mnv2_tasks.build import build_sources
from mnv2_tasks.config.compose import compose
from mnv2_tasks.evaluation.network_and_data import build_data
from mnv2_tasks.studies.study.run_state import set_aside

pytestmark = pytest.mark.slow

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


# spawn is how macOS and Windows start a loader's processes; their encoding of text is not ours
TRAIN_SCORE_PREDICT = """
import multiprocessing, sys, warnings
from mnv2_tasks.__main__ import main
multiprocessing.set_start_method("spawn")
warnings.filterwarnings("error", category=EncodingWarning, module="mnv2_tasks")
main(["train", *sys.argv[1:]])
run = "runs/classification/shapes-mobilenet_v2-1"
main(["eval", f"run={run}", "workers=0", "out=scores"])
main(["predict", f"weights={run}", "device=cpu", "out=seen"])
"""


def run(code: str, *arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-X", "warn_default_encoding", "-c", code, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=600, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [IMPORT_ALL, LOCK], ids=["every module is imported", "a study locks its folder"])
def test_without_resource_and_fcntl(code, tmp_path):
    run(ABSENT + code, cwd=tmp_path)


def test_training_without_resource_and_fcntl_leaves_the_column_of_memory_empty(tmp_path):
    run(ABSENT + TRAIN, "task=classification", *TINY, "logger=none", cwd=tmp_path)
    metrics = tmp_path / "runs" / "classification" / "shapes-mobilenet_v2-1" / "metrics.csv"
    with metrics.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["memory_mib"] == "" and float(row["seconds"]) > 0


def test_samples_are_loaded_by_spawned_processes_and_every_text_file_says_its_encoding(tmp_path):
    run(TRAIN_SCORE_PREDICT, "task=classification", *TINY, "workers=1", cwd=tmp_path)
    assert (tmp_path / "scores" / "metrics.json").is_file() and (tmp_path / "seen" / "results.json").is_file()


def test_what_a_spawned_process_is_sent_loads_the_same_samples_of_every_task(tiny):
    config = compose("train", ["task=multitask", *tiny])
    data = build_data(config, build_sources(config))
    loaders = [*data.train_dataloader().values(), *data.val_dataloader()]
    assert len(loaders) == 6
    for loader in loaders:
        there, *_ = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn, loader.worker_init_fn)))
        key = next(iter(loader.sampler))
        assert (there[key].sample.image == loader.dataset[key].sample.image).all()


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_readable_on_a_console_of_windows(verb, capsys):
    main([verb, "--help"])
    capsys.readouterr().out.encode("cp1252")


def test_a_name_that_the_console_cannot_show_stops_nothing(photo, tmp_path, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    main(["predict", f"source={photo.rename(tmp_path / '猫.jpg')}", f"out={tmp_path / 'seen'}", "device=cpu"])
    console.flush()
    assert b"1/1 ?.jpg 40x30" in console.buffer.getvalue() and (tmp_path / "seen" / "猫.jpg").is_file()


@pytest.mark.parametrize("path", ["C:\\my photos", "C:\\photos\\", "\\\\server\\share\\x", "it\\'s", "it\\\\'s\\"])
def test_a_path_with_backslashes_arrives_as_it_was_typed(path):
    assert compose("predict", [f"source={path}"]).source == path


def test_a_run_is_set_aside_where_nothing_is_moved_onto_a_folder(tmp_path, monkeypatch):
    rename = Path.rename

    def as_on_windows(path: Path, target: Path) -> Path:
        if target.exists():
            raise FileExistsError(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", as_on_windows)
    run = tmp_path / "study" / "run"
    run.mkdir(parents=True)
    (run / "run.json").touch()
    assert set_aside(run) == tmp_path / "study" / "superseded" / "run-1" and not run.exists()
    assert (tmp_path / "study" / "superseded" / "run-1" / "run.json").is_file()
