"""How much the loss of each task counts in the sum that is optimised."""

import math
from collections.abc import Mapping
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from mnv2_tasks.errors import ConfigError


class FixedWeights(nn.Module):
    """sum_i w_i L_i."""

    def __init__(self, weights: Mapping[str, float]):
        super().__init__()
        self.values = dict(weights)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """{task: scalar} -> what is optimised."""
        return reduce(add, (self.values[task] * loss for task, loss in losses.items()))

    def current(self) -> dict[str, Tensor]:
        """{task: weight}, to be logged; fixed ones say nothing new."""
        return {}


class UncertaintyWeights(nn.Module):
    """sum_i exp(-s_i) L_i + s_i / 2, with s_i = log sigma_i^2 learned (Kendall et al. 2018, arXiv:1705.07115, eq. 10).

    sigma_i^2 is the noise that the model finds in task i. It weighs each task by 1 / (2 L_i) where it comes to rest: a
    task whose loss is large by nature does not rule the shared backbone. The logarithm keeps the weight positive. The
    sum may be negative.

    Args:
        weights: {task: weight exp(-s_i) to start from}.
    """

    def __init__(self, weights: Mapping[str, float]):
        super().__init__()
        wrong = {task: weight for task, weight in weights.items() if weight <= 0}
        if wrong:
            raise ConfigError(f"loss_weights={wrong}: task_weighting=uncertainty starts from positive weights")
        self.log_variances = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(-math.log(weight))) for task, weight in weights.items()}
        )

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """{task: scalar} -> what is optimised."""
        terms = ((-self.log_variances[t]).exp() * loss + self.log_variances[t] / 2 for t, loss in losses.items())
        return reduce(add, terms)

    def current(self) -> dict[str, Tensor]:
        """{task: weight}, to be logged."""
        return {task: (-s.detach()).exp() for task, s in self.log_variances.items()}


KINDS = {"fixed": FixedWeights, "uncertainty": UncertaintyWeights}


def task_weights(kind: str, weights: Mapping[str, float]) -> FixedWeights | UncertaintyWeights:
    """Weights of the tasks' losses; "fixed" or "uncertainty"."""
    if kind not in KINDS:
        raise ConfigError(f"task_weighting={kind}: expected {' or '.join(KINDS)}")
    return KINDS[kind](weights)
