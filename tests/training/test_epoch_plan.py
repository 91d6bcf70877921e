"""What is said before each epoch and after it."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mnv2_tasks.training import callbacks
from mnv2_tasks.training.callbacks import EpochLog, EpochPlan
from mnv2_tasks.wording import duration


@pytest.mark.parametrize(
    "seconds, said",
    [
        (0, "0 s"),
        (5, "5 s"),
        (80, "80 s"),
        (99, "99 s"),
        (420, "7 min"),
        (600, "10 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (14_460, "4 h 01 min"),
        (273_600, "3 days 4 h"),
    ],
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said


def test_plan_tells_steps_speed_and_time_left(monkeypatch, caplog):
    """Two epochs of 4 batches of 8 on 2 processes, each batch 0.5 s, and a validation of 2 s after the first."""
    now = [100.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    trainer = SimpleNamespace(
        global_step=10, num_training_batches=4, accumulate_grad_batches=2, world_size=2, current_epoch=5, max_epochs=12,
        train_dataloader={"task": SimpleNamespace(batch_size=8)}, is_global_zero=True, is_last_batch=False,
    )  # fmt: skip
    plan = EpochPlan()
    caplog.set_level(logging.INFO)
    plan.on_train_start(trainer, None)
    plan.on_train_epoch_start(trainer, None)
    for index in range(4):
        now[0] += 0.5
        trainer.is_last_batch = index == 3
        plan.on_train_batch_end(trainer, None, None, {"task": SimpleNamespace(images=[0] * 8)}, index)
    trainer.global_step, trainer.current_epoch, now[0] = 12, 6, now[0] + 2
    plan.on_train_epoch_start(trainer, None)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "epoch 6/12: 2 steps of 32 images"
    assert second == "epoch 7/12: 2 steps of 32 images; 32 images/s so far; 24 s left"


def waiting_run(monkeypatch, path, *, wait, step, workers, device="cuda", cores=8):
    """An epoch of ten batches, the first of which takes 5 s to come."""
    now = [100.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(callbacks, "num_cores", lambda: cores)
    trainer = SimpleNamespace(
        global_step=10, world_size=1, current_epoch=0, max_epochs=1, is_global_zero=True, callback_metrics={},
        train_dataloader={"task": SimpleNamespace(num_workers=workers)},
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        strategy=SimpleNamespace(root_device=SimpleNamespace(type=device), reduce=lambda mean, reduce_op: mean),
    )  # fmt: skip
    log = EpochLog(path)
    log.on_train_start(trainer, None)
    log.on_train_epoch_start(trainer, None)
    for index in range(10):
        now[0] += wait if index else 5
        log.on_train_batch_start(trainer, None, None, index)
        now[0] += step
        batch = SimpleNamespace(images=[0] * 8)
        log.on_train_batch_end(trainer, None, {"logged": {"train/loss": torch.ones(())}}, {"task": batch}, index)
    log.on_train_epoch_end(trainer, None)
    return path.read_text().splitlines()


def test_the_share_of_an_epoch_that_waits_for_images_is_kept(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    header, row = waiting_run(monkeypatch, tmp_path / "metrics.csv", wait=0.1, step=1.0, workers=1)
    assert dict(zip(header.split(","), row.split(",")))["wait_share"] == str(round(5.9 / 15.9, 3))
    assert "37 % waiting" in caplog.text and "hint" not in caplog.text  # it was the loaders' start


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"wait": 1.0, "step": 1.0, "workers": 2}, "47% of the time for their images; workers=4 would feed them"),
        ({"wait": 0.6, "step": 0.4, "workers": 0}, "57% of the time for their images; workers=2 would feed them"),
        ({"wait": 9.0, "step": 1.0, "workers": 2}, "it takes workers=19 to feed them, and this machine has 8 cores"),
    ],
)
def test_starved_steps_are_told_how_many_loaders_would_feed_them(monkeypatch, tmp_path, caplog, settings, said):
    caplog.set_level(logging.INFO)
    waiting_run(monkeypatch, tmp_path / "metrics.csv", **settings)
    assert said in caplog.text


def test_no_loader_is_recommended_that_would_take_the_cores_from_the_steps(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    waiting_run(monkeypatch, tmp_path / "metrics.csv", wait=1, step=1, workers=1, device="cpu", cores=1)
    assert "hint" not in caplog.text


def test_a_table_of_epochs_that_cannot_be_read_is_put_aside_and_begun_anew(monkeypatch, tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"epoch,lr\nnone,\xff\n")
    waiting_run(monkeypatch, path, wait=0.1, step=1.0, workers=1)
    assert len(path.read_text().splitlines()) == 2
    assert (tmp_path / "metrics.csv.damaged").read_bytes() == b"epoch,lr\nnone,\xff\n"
    assert "put aside as metrics.csv.damaged" in caplog.text
