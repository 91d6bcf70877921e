"""Bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2), measured on images.

Rounded weights and inputs shift the mean of what a layer returns, channel by channel, and the layers behind pass the
shift on: in a depthwise layer nine weights are too few for their errors to cancel. A bias takes the shift back.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from mnv2_tasks.network.network import Network
from mnv2_tasks.network.rounding import Range, layers_of, rounded


@torch.no_grad()
def corrected_biases(
    network: Network, images: Tensor, ranges: dict[str, Range], names: Collection[str]
) -> dict[str, Tensor]:
    """{layer: (channels,) bias with which its mean in int8 is that in float32}, of those that have a bias.

    Each is measured behind layers that are rounded and corrected already, all in one pass.

    Args:
        network: whose norms are folded.
        images: (B, 3, H, W) uint8.
        ranges: as `input_ranges` measures them.
        names: of the layers that compute in int8.
    """
    layers = {name: layers_of(network)[name] for name in names}
    means: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}

    def remember(name: str) -> Any:
        def hook(layer: Any, inputs: Any, output: Tensor) -> None:
            means[name] = _channel_means(output)

        return hook

    def correct(name: str) -> Any:
        def hook(layer: Any, inputs: Any, output: Tensor) -> Tensor | None:
            if layer.bias is None or name in biases:
                return None
            shift = means[name] - _channel_means(output)
            biases[name] = layer.bias + shift
            return output + shift.view(-1, *[1] * (output.ndim - 2))

        return hook

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(remember(name)))
        network(images)
    with rounded(network, ranges, names), ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(correct(name)))
        network(images)
    return biases


@contextmanager
def biased(network: Network, biases: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, these layers have other biases."""
    layers = layers_of(network)
    kept = {name: layers[name].bias.data for name in biases}
    for name, bias in biases.items():
        layers[name].bias.data = bias
    try:
        yield
    finally:
        for name, bias in kept.items():
            layers[name].bias.data = bias


def _channel_means(output: Tensor) -> Tensor:
    return output.mean([d for d in range(output.ndim) if d != 1])
