"""Accumulated batches are a larger batch."""

import csv

import pytest

from mnv2_tasks.config.compose import compose
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.weight_files import load_weights


def trained(tiny, batch, accumulate):
    """The run folder, its last weights as one dict, and (step, rate) after each epoch; nothing in it is drawn or
    normalised over a batch: norms are frozen and dropout is off."""
    run = train(
        compose(
            "train",
            ["task=classification", *tiny, "weights=shapes_backbone", "freeze_norms=true", "optim=sgd", "lr=0.002",
             "ema=0", "epochs=2", "data.source.train_size=32", "tasks.classification.head.dropout=0.0",
             "reference_batch=8", f"batch={batch}", f"trainer.accumulate={accumulate}"],
        )
    )  # fmt: skip
    with (run / "metrics.csv").open() as file:
        rates = [(int(row["step"]), float(row["lr"])) for row in csv.DictReader(file)]
    return run, load_weights(run / "checkpoints" / "last.ckpt").state, rates


def distance(one, other):
    return sum(float((one[n].double() - other[n].double()).square().sum()) for n in one) ** 0.5


@pytest.mark.slow
def test_two_batches_of_eight_are_one_of_sixteen_schedule_included(tiny):
    start = load_weights(find_weights("shapes_backbone")).state
    _, one, rates = trained(tiny, batch=16, accumulate=1)
    run, accumulated, accumulated_rates = trained(tiny, batch=8, accumulate=2)
    _, smaller, _ = trained(tiny, batch=8, accumulate=1)
    assert accumulated_rates == rates and [step for step, _ in rates] == [2, 4]
    step = distance(one, start)
    assert distance(accumulated, one) < 0.01 * step, "but for the order of sums the same"
    assert distance(smaller, one) > 0.1 * step, "as accumulation is not for nothing"
    log = (run / "train.log").read_text()
    assert "lr 0.002 x 16 images of a step / reference_batch 8 = 0.004" in log
    assert "epoch 1/2: 2 steps of 16 images\n" in log
