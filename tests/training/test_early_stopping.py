"""trainer.patience: a run whose score no longer grows ends, is scored as ever, and can be gone on with."""

import csv
import json

import pytest
from conftest import TINY
from omegaconf import OmegaConf

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.train import train

pytestmark = pytest.mark.usefixtures("lean")

SMALL = [*TINY, "imgsz=33", "data.source.train_size=8", "data.source.val_size=4", "logger=none"]
RISING_TO_THIRD = [0.1, 0.2, 0.5, 0.4, 0.5, 0.3, 0.9, 0.9]  # an equal score is none that is better


@pytest.fixture
def scores(monkeypatch):
    """Has the validation after each epoch say these."""

    def say(values):
        def on_validation_epoch_end(self):
            self.log("val/score", values[self.trainer.current_epoch])

        monkeypatch.setattr(TasksModule, "on_validation_epoch_end", on_validation_epoch_end)

    return say


def run_of(tmp_path, *words):
    return train(compose("train", ["task=classification", *SMALL, f"runs={tmp_path}", *words]))


def epochs_in(run):
    with (run / "metrics.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def result(run):
    return json.loads((run / "run.json").read_text())["result"]


def test_it_ends_after_the_epochs_of_patience_and_says_so_in_log_and_run_json(tmp_path, scores, caplog):
    caplog.set_level("INFO")
    scores(RISING_TO_THIRD)
    run = run_of(tmp_path, "epochs=8", "trainer.patience=3")
    assert epochs_in(run) == [0, 1, 2, 3, 4, 5]
    assert "stopped early, after 6 of 8 epochs: in the last 3, val/score was not better than 0.5 before" in caplog.text
    assert result(run)["epochs"] == 6 and result(run)["stopped_early"]
    assert (run / "metrics.json").is_file() and (run / "weights.safetensors").is_file()


def test_patience_counts_epochs_where_not_each_is_validated(tmp_path, scores):
    scores([0, 0.5, 0, 0.5, 0, 0.5, 0, 0.5])
    run = run_of(tmp_path, "epochs=8", "trainer.patience=4", "trainer.validate_every=2")
    assert epochs_in(run) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ConfigError, match="trainer.patience=3: expected whole epochs, a multiple of .*=2, or null"):
        run_of(tmp_path, "epochs=8", "trainer.patience=3", "trainer.validate_every=2")


@pytest.mark.slow
def test_without_patience_or_while_the_score_grows_all_epochs_are_trained(tmp_path, scores):
    scores([0.5, 0.4, 0.3, float("nan")])
    run = run_of(tmp_path, "epochs=4")
    assert epochs_in(run) == [0, 1, 2, 3] and result(run)["epochs"] == 4 and "stopped_early" not in result(run)
    scores([0.1, 0.2, 0.3])
    assert len(epochs_in(run_of(tmp_path, "epochs=3", "trainer.patience=1"))) == 3


def test_a_score_that_is_no_number_is_no_better_one(tmp_path, scores):
    scores([float("nan"), float("nan"), 0.3, 0.2, 0.2, 0.2])
    assert epochs_in(run_of(tmp_path, "epochs=6", "trainer.patience=3")) == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_stopped_early_it_is_over_until_it_is_given_more_patience(tmp_path, scores):
    scores(RISING_TO_THIRD)
    run = run_of(tmp_path, "epochs=8", "trainer.patience=2")
    assert epochs_in(run) == [0, 1, 2, 3, 4]
    message = "it was stopped early, after 5 of 8 epochs; say trainer.patience=<more>, or null, to train on"
    for words in ([], ["epochs=9"]):
        with pytest.raises(ConfigError, match=message.replace("of 8", "of [89]")):
            train(compose("train", [f"resume={run}", *words]))
    before = result(run)
    (run / "metrics.json").unlink()
    train(compose("train", [f"resume={run}"]))  # scored again, and not trained on
    assert epochs_in(run) == [0, 1, 2, 3, 4] and result(run) == before
    train(compose("train", [f"resume={run}", "trainer.patience=4"]))
    assert epochs_in(run) == list(range(8)) and OmegaConf.load(run / "config.yaml").trainer.patience == 4
    assert result(run)["epochs"] == 8 and "stopped_early" not in result(run)


def test_resumed_in_between_it_ends_where_the_uninterrupted_run_does(tmp_path, scores, monkeypatch):
    class PowerCut(Exception): ...

    def cut(self, batches, batch_index):
        if self.trainer.current_epoch == 4:
            raise PowerCut
        return step(self, batches, batch_index)

    scores(RISING_TO_THIRD)
    step = TasksModule.training_step
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(TasksModule, "training_step", cut)
        run_of(tmp_path, "epochs=8", "trainer.patience=3")
    (run,) = tmp_path.glob("*/*")
    assert epochs_in(run) == [0, 1, 2, 3]
    train(compose("train", [f"resume={run}"]))
    assert epochs_in(run) == [0, 1, 2, 3, 4, 5] and result(run)["stopped_early"]
