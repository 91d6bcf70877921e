"""Focal loss (Lin et al. 2017, arXiv:1708.02002, equation 4): what is already right counts less."""

import math

import torch
from torch import Tensor

from mnv2_tasks.errors import ConfigError

LEAST = 1e-6  # of 1 - p: a power below 1 has no slope at 0


def focal_factor(entropy: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma, with which the cross-entropy -log p is multiplied; any shape.

    Args:
        entropy: -log p, neither weighed nor smoothed.
    """
    return (-torch.expm1(-entropy)).clamp(min=LEAST) ** gamma


def checked_gamma(gamma: float) -> float:
    """
    Raises:
        ConfigError: it is negative, or no number.
    """
    if not 0 <= gamma < math.inf:
        raise ConfigError(f"loss.focal_gamma={gamma}: expected 0 (off) or more, such as 2")
    return gamma
