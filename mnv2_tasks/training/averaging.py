"""Averaged weights, which are validated and saved in place of those of the last step."""

from collections import defaultdict
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Averaging(WeightAveraging):
    """An exponential moving average over the optimizer's steps.

    Torch's own update asks the GPU in every step whether it is the first one; here the steps are counted.

    Args:
        warmup: the decay after n steps is min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage has
            it: the average spans about the last tenth of a run's steps, until that is longer than the decay's own
            span. Without, the weights of the first step hold decay^n of the average after n steps, which is most of
            it in a short run.
    """

    def __init__(self, decay: float, *, warmup: bool):
        super().__init__()
        self.decay, self.warmup = decay, warmup

    @property
    def state_key(self) -> str:
        """Of the two classes that this one was, by which checkpoints of runs of before name its state."""
        return "WarmedAveraging" if self.warmup else "WeightAveraging"

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step > self._latest_update_step:
            assert self._average_model is not None
            self._update(self._average_model, pl_module, trainer.global_step - 1)
            self._latest_update_step = trainer.global_step

    @torch.no_grad()
    def _update(self, average: AveragedModel, module: L.LightningModule, before: int) -> None:
        """
        Args:
            before: steps before this one; a resumed run has them from its checkpoint.
        """
        if before == 0:
            return average.update_parameters(module)  # which copies the weights
        decay = min(self.decay, (1 + before) / (10 + before)) if self.warmup else self.decay
        by_type: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for pair in zip(_tensors(average.module), _tensors(module), strict=True):
            by_type[pair[0].dtype].append(pair)
        for pairs in by_type.values():  # all tensors of a type at once: one by one is a tenth of a small network's step
            averages, weights = map(list, zip(*pairs))
            get_ema_multi_avg_fn(decay)(averages, weights, before)
        average.n_averaged += 1


def _tensors(module: torch.nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
