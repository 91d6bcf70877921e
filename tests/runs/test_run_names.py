"""What folders of runs, of their repetitions and of evaluations are called; and the command in run.json."""

import json
import shlex
import sys

import pytest
from omegaconf import OmegaConf

from mnv2_tasks.config.compose import compose, launch
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.runs.run_folder import command_line, run_folder_of
from mnv2_tasks.studies.study.plan import plan_runs, study_from
from mnv2_tasks.training.train import train


@pytest.fixture
def no_reading(monkeypatch):
    def refuse(*_):
        raise AssertionError("the data are read")

    monkeypatch.setattr("mnv2_tasks.training.prepared_run.build_sources", refuse)


def folder_of(tmp_path, *words):
    return run_folder_of(compose("train", ["task=ssdlite", f"runs={tmp_path}", *words]))


@pytest.mark.parametrize("name", ["first_try", "2026", "007", "1e3", "v1.2+wd", "gr\u00fcn", "a", "true"])
def test_a_run_is_called_as_it_was_typed(tmp_path, name):
    assert folder_of(tmp_path, f"name={name}") == tmp_path / "ssdlite" / name


def test_without_a_name_runs_are_numbered(tmp_path):
    folders = [folder_of(tmp_path, *words) for words in ([], ["name=null"])]
    assert [folder.name for folder in folders] == ["shapes-mobilenet_v2-1", "shapes-mobilenet_v2-2"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "a\\b", "~", ".hidden", "a.", "a b", " a", "-a", "a:b", "a\nb", "x" * 101, "*"]
)
def test_what_cannot_be_a_folder_beside_the_others_is_refused_before_data_are_read(tmp_path, tiny, name, no_reading):
    with pytest.raises(ConfigError, match=r"name=.*expected letters, digits"):
        train(compose("train", ["task=ssdlite", *tiny, f"name={name}"]))
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused_before_data_are_read_and_says_how_to_go_on(tmp_path, tiny, no_reading):
    (tmp_path / "ssdlite" / "mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"mine: is there already.*another name=.*resume=.*ssdlite/mine$"):
        train(compose("train", ["task=ssdlite", *tiny, "name=mine"]))
    with pytest.raises(ConfigError, match="mine: is there already"):  # made by another run meanwhile
        folder_of(tmp_path, "name=mine")
    assert not list((tmp_path / "ssdlite" / "mine").iterdir())


def test_the_other_processes_of_a_job_find_the_folder_of_the_first_and_do_not_refuse_it(tmp_path, monkeypatch):
    words = ["task=ssdlite", f"runs={tmp_path}", "name=both", "trainer.devices=2"]
    monkeypatch.setenv("MNV2_RUN_FOLDER", "")  # to be taken away again
    monkeypatch.delenv("MNV2_RUN_FOLDER")
    folder = run_folder_of(compose("train", words))
    monkeypatch.setenv("LOCAL_RANK", "1")
    from mnv2_tasks.runs.run_folder import check_name

    config = compose("train", words)
    check_name(config)
    assert run_folder_of(config) == folder


def test_a_named_run_is_resumed_and_repeated_and_the_repetition_has_its_own_name(tmp_path, tiny):
    run = train(compose("train", ["task=classification", *tiny, "name=mine"]))
    assert run == tmp_path / "classification" / "mine" and OmegaConf.load(run / "config.yaml").name is None
    assert json.loads((run / "run.json").read_text())["config"]["name"] is None
    with pytest.raises(ConfigError, match="its 1 epochs are done"):
        train(compose("train", [f"resume={run}"]))
    with pytest.raises(ConfigError, match="name=.x.: cannot change with resume=, it goes on in its own folder"):
        compose("train", [f"resume={run}", "name=x"])
    repeated = compose("train", [f"repeat={run}", f"runs={tmp_path}"])
    assert run_folder_of(repeated).name == "shapes-mobilenet_v2-1"
    renamed = compose("train", [f"repeat={run}", f"runs={tmp_path}", "name=again"])
    assert run_folder_of(renamed).name == "again"


def test_sweeps_studies_and_evaluations_take_no_name():
    with pytest.raises(SystemExit, match="name=x: is the name of one run, and a sweep has several"):
        launch("train", lambda config: None, ["-m", "task=ssdlite", "name=x", "seed=0,1"])
    study = study_from({"title": "one", "runs": {"a": ["task=ssdlite"]}})
    with pytest.raises(ConfigError, match="name=x: a study names its runs"):
        plan_runs(study, ["name=x"])
    with pytest.raises(ConfigError, match="name=x: is of training; out="):
        evaluate(compose("eval", ["task=ssdlite", "weights=multitask_shapes", "name=x"]))


def test_scores_of_weights_lie_apart_from_the_runs_of_their_task(tmp_path):
    few = ["data.source.train_size=4", "data.source.val_size=4", "workers=0", "trainer.accelerator=cpu"]
    evaluate(compose("eval", ["task=classification", "weights=multitask_shapes", *few, f"runs={tmp_path}"]))
    assert [str(file.parent.relative_to(tmp_path)) for file in tmp_path.rglob("metrics.json")] == [
        "eval/classification-shapes-mobilenet_v2-1"
    ]


def test_the_command_of_a_run_can_be_pasted_into_a_shell(monkeypatch):
    words = ["task=ssdlite", "data.root=my photos (1)", "freeze=[backbone]", "data.root=it's", 'a="b"', "x=$HOME", "y="]
    monkeypatch.setattr(sys, "argv", ["tools/train.py", *words])
    assert shlex.split(command_line()) == ["python", "tools/train.py", *words]
    assert command_line().startswith("python tools/train.py task=ssdlite 'data.root=my photos (1)' ")
    monkeypatch.setattr(sys, "argv", ["/my tools/train.py", "task=ssdlite"])
    assert shlex.split(command_line()) == ["python", "/my tools/train.py", "task=ssdlite"]
