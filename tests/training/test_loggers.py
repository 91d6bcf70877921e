"""logger=wandb and logger=mlflow, offline; what they lack is told before a run."""

import builtins
import json
import os
import sys

import pytest
from conftest import TINY

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training import loggers
from mnv2_tasks.training.train import train

SMALL = [*TINY, "imgsz=33", "data.source.train_size=40", "data.source.val_size=4"]  # ten steps: one is logged


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch, lean):
    """No account and no settings of whoever runs the tests; nothing is drawn and printed beside training."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def run_of(tmp_path, *words):
    return train(compose("train", ["task=classification", *SMALL, f"runs={tmp_path / 'runs'}", *words]))


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_missing_package_is_told_before_the_run_with_the_command_that_brings_it(tmp_path, monkeypatch, logger):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf'logger={logger}: needs {logger}: pip install "mnv2-tasks\[{logger}\]"'):
        run_of(tmp_path, f"logger={logger}")
    assert not (tmp_path / "runs").exists()


def test_the_packages_are_imported_only_when_asked_for(monkeypatch):
    imported, real = [], builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: imported.append(name) or real(name, *rest))
    loggers.check_logger(compose("train", ["task=classification"]))
    loggers.check_logger(compose("train", ["task=classification", "logger=none"]))
    assert not {"wandb", "mlflow"} & {name.split(".")[0] for name in imported}


def test_without_a_login_wandb_is_refused_before_the_run_with_both_remedies(tmp_path):
    pytest.importorskip("wandb")
    with pytest.raises(ConfigError, match="nobody is logged in: say `wandb login` first, or logger.offline=true"):
        run_of(tmp_path, "logger=wandb")
    assert not (tmp_path / "runs").exists()


def test_logged_in_or_offline_by_wandbs_own_variable_a_run_may_begin_and_a_refused_key_is_told(monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse(prompt):
        raise wandb.errors.AuthenticationError("the key is old\nand more")

    config = compose("train", ["task=classification", "logger=wandb"])
    monkeypatch.setattr(wandb, "login", lambda prompt: True)  # its own asks the server
    loggers.check_logger(config)
    monkeypatch.setattr(wandb, "login", refuse)
    with pytest.raises(ConfigError, match="logger=wandb: the key is old: say `wandb login` first"):
        loggers.check_logger(config)
    monkeypatch.setenv("WANDB_MODE", "offline")
    loggers.check_logger(config)


@pytest.mark.slow
def test_wandb_keeps_a_run_offline_and_goes_on_with_it_and_the_next_run_is_another(tmp_path):
    wandb = pytest.importorskip("wandb")
    run = run_of(tmp_path, "logger=wandb", "logger.offline=true")
    assert wandb.run is None and "WANDB_MODE" not in os.environ  # ended, with what it has to write
    (folder,) = (run / "wandb").glob("offline-run-*")
    (file,) = folder.glob("run-*.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content and b"val/score" in content and b"weight_decay" in content
    train(compose("train", [f"resume={run}", "epochs=2"]))
    assert {file.stem for file in run.glob("wandb/offline-run-*/run-*.wandb")} == {file.stem}
    other = run_of(tmp_path, "logger=wandb", "logger.offline=true")
    assert [file.stem for file in other.glob("wandb/offline-run-*/run-*.wandb")] != [file.stem]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*noload.*")  # of MLflow 3.17 on SQLAlchemy 2.1
def test_mlflow_keeps_a_run_in_its_folder_and_goes_on_with_it(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    run = run_of(tmp_path, "logger=mlflow", "logger.experiment=mine")
    train(compose("train", [f"resume={run}", "epochs=2"]))
    client = mlflow.MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert found.info.run_name == f"classification/{run.name}" and found.info.status == "FINISHED"
    assert found.data.params["optim/weight_decay"] and found.data.params["epochs"] == "1"
    assert found.data.metrics.keys() >= {"train/loss", "val/score"}
    steps = [point.step for point in client.get_metric_history(found.info.run_id, "val/score")]
    assert steps == sorted(set(steps)) and len(steps) == 2
    assert json.loads((run / "run.json").read_text())["config"]["logger"]["experiment"] == "mine"
    assert not (tmp_path / "mlruns").exists() and sys.modules["mlflow"]
