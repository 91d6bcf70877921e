"""Averaged weights, which are validated and saved in place of those of the last step."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


def build_averaging(decay: float, *, warmup: bool) -> WeightAveraging:
    """An exponential moving average over the optimizer's steps.

    Args:
        warmup: the decay rises to its value; without, the weights of the first step hold decay^n of the average after
            n steps, which is most of it in a short run.
    """
    # EMAWeightAveraging is this with one small operation per tensor, a tenth of a small network's step
    return WarmedAveraging(decay) if warmup else WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(decay))


class WarmedAveraging(WeightAveraging):
    """The decay after n steps is min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage has it.

    The average so spans about the last tenth of a run's steps, until that is longer than the decay's own span.
    """

    def __init__(self, decay: float):
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        self.averaged = trainer.global_step - 1  # steps before this one; a resumed run has them from its checkpoint
        super().on_train_batch_end(trainer, *arguments)

    def _average(self, averages: Any, weights: Any, _: Any) -> None:
        """The number that torch passes lies on the GPU: reading it would hold up every step."""
        decay = min(self.decay, (1 + self.averaged) / (10 + self.averaged))
        get_ema_multi_avg_fn(decay)(averages, weights, self.averaged)
