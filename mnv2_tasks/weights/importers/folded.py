"""Convolutions into which batch norms were folded: each gets back a norm that adds the bias and does nothing else.

`network/unfold.py` gives these norms statistics to train with.
"""

import math

import torch
from torch import Tensor


def bias_as_norm(bias: Tensor, norm: str) -> dict[str, Tensor]:
    """{our name: tensor} of a batch norm of mean 0, variance 1 and weight sqrt(1 + eps), in evaluation mode.

    Args:
        norm: our name of it, which tells its eps: 1e-3 as TF_LAYERS and SSDHead say, of DeepLabV3Head 1e-5.
    """
    eps = 1e-5 if "deeplabv3.head" in norm else 1e-3
    return {
        f"{norm}.weight": torch.full_like(bias, math.sqrt(1 + eps)),
        f"{norm}.bias": bias,
        f"{norm}.running_mean": torch.zeros_like(bias),
        f"{norm}.running_var": torch.ones_like(bias),
    }
