"""Averaged weights: how much each step's count, in a short run above all."""

import shutil
from pathlib import Path

import pytest
import torch

from mnv2_tasks.config.compose import compose
from mnv2_tasks.training.averaging import Averaging
from mnv2_tasks.training.train import train

pytestmark = pytest.mark.slow

FORMER = Path(__file__).parents[1] / "former" / "0.1" / "runs" / "classification" / "shapes-mobilenet_v2-1"
STEM = "network.backbone.stem.0.weight"


@pytest.mark.parametrize(
    "more, decay", [([], 0.99), (["trainer.accumulate=2"], 0.99), ([], 0.3), (["ema_warmup=false"], 0.9)]
)
def test_average_after_n_steps_has_the_decay_of_n_at_most_that_of_the_config(more, decay, tiny, monkeypatch):
    weights, average = [], Averaging.on_train_batch_end

    def record(self, trainer, module, *rest):
        if trainer.global_step > len(weights):
            weights.append(module.state_dict()[STEM].double())
        average(self, trainer, module, *rest)

    monkeypatch.setattr(Averaging, "on_train_batch_end", record)
    run = train(compose("train", ["task=classification", *tiny, "epochs=3", f"ema={decay}", *more]))
    expected = weights[0]
    for n, now in enumerate(weights[1:], start=1):
        kept = decay if "ema_warmup=false" in more else min(decay, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * now
    assert len(weights) == (6 if "trainer.accumulate=2" in more else 12)
    found = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"][STEM]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


def test_first_step_hardly_counts_after_forty():
    left = 1.0
    for n in range(1, 40):
        left *= min(0.99, (1 + n) / (10 + n))
    assert left < 1e-4 < 0.99**39  # the case that was seen: two thirds of the average were the first step's


def test_every_recipe_warms_up_and_a_stored_config_without_the_key_does_not(tmp_path):
    assert compose("train", ["task=classification", "data=folder"]).ema_warmup
    run = shutil.copytree(FORMER, tmp_path / "run")
    config = compose("train", [f"resume={run}", "epochs=2"])
    assert config.ema_warmup is False and config.eval.precision is None  # that of training
