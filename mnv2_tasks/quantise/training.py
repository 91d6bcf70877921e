"""Quantisation-aware training: each step computes as int8 will, so that the weights learn to bear it.

Every layer rounds its weights and its input on the way forward; gradients pass straight through (Jacob et al. 2018,
arXiv:1712.05877). Ranges are those of the batch, so nothing is kept: parameters, checkpoints and averaged weights have
the names and shapes that they have without. Batch norms need no folding first: a scale for each output channel makes
rounding and folding commute.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mnv2_tasks.network import Network
from mnv2_tasks.quantise.simulate import layers_of, round_input, round_weight


def train_rounded(network: Network) -> None:
    """From now on every layer computes with rounded weights and inputs, in training and in evaluation."""
    for layer in layers_of(network).values():
        layer.register_forward_pre_hook(_round)
        layer.register_forward_hook(_restore, always_call=True)


def _round(layer: Any, inputs: tuple[Tensor]) -> Tensor:
    layer.__dict__["weight"] = _pass_gradient(layer.weight, round_weight)  # hides the parameter, which stays as it is
    return _pass_gradient(inputs[0], _round_batch)


def _restore(layer: Any, inputs: Any, output: Tensor) -> None:
    layer.__dict__.pop("weight", None)


def _round_batch(values: Tensor) -> Tensor:
    return round_input(values, values.amin().clamp(max=0), values.amax().clamp(min=0))


def _pass_gradient(values: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    """The rounded values, with the gradient of the exact ones."""
    exact = values.detach()
    return values + (rounding(exact.float()).to(exact.dtype) - exact)
