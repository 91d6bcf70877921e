"""How the weights move: the optimizer, which weights it decays, and the learning rate of each step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.optim import parameter_groups, per_step, scale_rates


@dataclass(frozen=True)
class Optimisation:
    """
    Args:
        optimizer: called with parameter groups.
        decay_depthwise, decay_norms: see `parameter_groups`.
        backbone_lr: the backbone's learning rate as a factor on that of the heads.
        schedule: maps the share of training done to a factor on the learning rate.
        warmup, warmup_start: share of training spent on a linear warm-up, and of the rate that this begins with.
        reference_batch: images of a step that the learning rate is stated for, see `scale_rates`; None leaves it.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    weight_decay: float
    decay_depthwise: bool
    decay_norms: bool
    backbone_lr: float
    schedule: Callable[[float], float]
    warmup: float
    warmup_start: float
    reference_batch: int | None

    def __post_init__(self) -> None:
        if self.backbone_lr < 0:
            raise ConfigError(f"backbone_lr={self.backbone_lr}: expected a factor of 0 (frozen) or more")

    def build_optimizer(self, backbone: nn.Module, *others: nn.Module) -> torch.optim.Optimizer:
        """Of all their parameters that are trained."""
        rates = {backbone: self.backbone_lr, **dict.fromkeys(others, 1.0)}
        wishes = {"decay_depthwise": self.decay_depthwise, "decay_norms": self.decay_norms}
        return self.optimizer(parameter_groups(rates, self.weight_decay, **wishes))

    def scale_rates(self, optimizer: torch.optim.Optimizer, images: int) -> str:
        """Scale the learning rates to the images of one step, and say so; "" where they stay."""
        return scale_rates(optimizer, images, self.reference_batch) if self.reference_batch else ""

    def build_schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
        """Over all steps of the training."""
        return per_step(optimizer, self.schedule, warmup=self.warmup, steps=steps, warmup_start=self.warmup_start)
