"""Quantisation-aware training: each step computes as int8 will, so that the weights learn to bear it.

Every layer rounds its weights and its input on the way forward with torch's fake quantisation; gradients pass straight
through (Jacob et al. 2018, arXiv:1712.05877). Ranges are those of the batch, so nothing is kept: parameters,
checkpoints and averaged weights have the names and shapes that they have without. Batch norms need no folding first: a
scale for each output channel makes rounding and folding commute.
"""

import copy
from typing import Any

from torch import Tensor

from mnv2_tasks.network.network import Network
from mnv2_tasks.network.rounding import layers_of, round_input, round_weight


def train_rounded(network: Network) -> None:
    """From now on every layer computes with rounded weights and inputs, in training and in evaluation."""
    for layer in layers_of(network).values():
        layer.register_forward_pre_hook(_round)
        layer.register_forward_hook(_restore, always_call=True)


def as_trained_rounded(network: Network) -> Network:
    """A copy of a network trained so, that computes as it did then: its weights alone do not say it."""
    network = copy.deepcopy(network)
    train_rounded(network)
    return network.eval()


def _round(layer: Any, inputs: tuple[Tensor]) -> Tensor | None:
    if layer.weight.is_meta:  # cost.py counts; torch rounds numbers alone
        return None
    layer.__dict__["weight"] = round_weight(layer.weight)  # hides the parameter, which stays as it is
    low, high = inputs[0].detach().aminmax()
    return round_input(inputs[0], low.clamp(max=0), high.clamp(min=0))


def _restore(layer: Any, inputs: Any, output: Tensor) -> None:
    layer.__dict__.pop("weight", None)
