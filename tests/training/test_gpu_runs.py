"""Runs on a GPU: what is right on a CPU is right there. MNV2_TEST_GPU=cpu tries these tests without one."""

import csv
import json

import pytest
import torch
from conftest import TINY

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.weight_files import load_weights

pytestmark = pytest.mark.slow


def run_of(folder, gpu, task, *more):
    words = [f"task={task}", *TINY, f"runs={folder}", f"trainer.accelerator={gpu}", "logger=none", *more]
    return train(compose("train", words))


def losses(run):
    with (run / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("task", ["classification", "ssdlite", "yolov2", "mobile_deeplabv3", "multitask"])
def test_a_run_trains_there_in_its_own_precision_and_its_scores_are_those_of_a_cpu(gpu, task, tmp_path):
    run = run_of(tmp_path, gpu, task, "trainer.precision=auto", "epochs=2")
    assert all(0 < loss < 1e3 for loss in losses(run)) and len(losses(run)) == 2
    scores = json.loads((run / "metrics.json").read_text())
    assert scores["precision"] == "32-true"
    on_cpu = evaluate(compose("eval", [f"run={run}", "trainer.accelerator=cpu", f"out={tmp_path / 'cpu'}"]))
    for key, value in scores.items():
        if isinstance(value, float):
            assert on_cpu[key] == pytest.approx(value, abs=0.02), key  # of 8 pictures; a near tie may fall otherwise


def test_training_there_in_float32_gives_the_losses_of_a_cpu(gpu, tmp_path):
    more = ["optim=sgd", "lr=0.001", "ema=0"]
    there, here = (losses(run_of(tmp_path / name, name, "classification", *more)) for name in (gpu, "cpu"))
    assert there == pytest.approx(here, rel=1e-2)


def test_a_run_is_gone_on_with_there_as_if_it_had_not_stopped(gpu, tmp_path):
    whole = run_of(tmp_path / "whole", gpu, "classification", "epochs=2")
    halved = run_of(tmp_path / "halved", gpu, "classification", "epochs=2", "trainer.limit_train=4")
    stopped = torch.load(halved / "checkpoints" / "last.ckpt", weights_only=False)
    assert stopped["epoch"] == 1 and stopped["global_step"] == 8
    before = losses(halved)
    longer = train(compose("train", [f"resume={halved}", "epochs=3"]))
    assert len(losses(longer)) == 3 and losses(longer)[:2] == before
    assert before == pytest.approx(losses(whole), rel=1e-2)  # as many steps: 16 pictures in batches of 4


def test_compiled_training_there_gives_the_losses_of_eager(gpu, tmp_path):
    if gpu == "cpu":
        pytest.skip("minutes on a CPU; tests of training compile a small network there")
    compiled, eager = (
        losses(run_of(tmp_path / str(on), gpu, "classification", f"trainer.compile={on}")) for on in (True, False)
    )
    assert compiled == pytest.approx(eager, rel=1e-2)


def test_more_processes_than_gpus_are_refused(gpu, tmp_path):
    if gpu == "cpu":
        pytest.skip("a CPU has room for any number of processes")
    with pytest.raises(ConfigError, match="trainer: Lightning refuses its settings"):
        run_of(tmp_path, gpu, "classification", f"trainer.devices={torch.cuda.device_count() + 1}")
    assert not list(tmp_path.rglob("config.yaml"))


def test_weights_of_a_run_there_hold_no_device(gpu, tmp_path):
    run = run_of(tmp_path, gpu, "classification")
    for name in ("weights.safetensors", "checkpoints/best.ckpt"):
        assert {str(tensor.device) for tensor in load_weights(run / name, trust=True).state.values()} == {"cpu"}
