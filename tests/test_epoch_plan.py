"""What is said before each epoch."""

import logging
from types import SimpleNamespace

import pytest

from mnv2_tasks import callbacks
from mnv2_tasks.callbacks import EpochPlan
from mnv2_tasks.duration import duration


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
