"""What int8 costs in each layer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.network.network import Network
from mnv2_tasks.network.rounding import (
    AT_ONCE,
    Range,
    decibels,
    head_outputs,
    layers_of,
    round_input,
    round_weight,
    rounded,
    sqnr,
)

PROBED = 4  # images, of 224 pixels or less, on which each layer is rounded alone: that takes a pass for each layer


@dataclass(frozen=True)
class LayerError:
    """Signal to quantisation noise, in dB: 6 dB are one bit, and what is low is bad."""

    name: str  # the module, as the network names it
    kind: str  # "3x3 depthwise", "1x1", "linear"
    weights: float  # of the weights
    output: float  # of what the layer makes of exact inputs
    results: float  # of what the heads return if this layer alone is int8


@torch.no_grad()
def layer_errors(network: Network, images: Tensor, ranges: dict[str, Range]) -> list[LayerError]:
    """Of every layer that these images pass through, what harms the results most first.

    Args:
        images: (B, 3, H, W) uint8.
        ranges: as `input_ranges` measures them.
    """
    layers = {name: layer for name, layer in layers_of(network).items() if name in ranges}
    outputs = _output_errors(network, layers, images, ranges)
    probes = images[: max(1, PROBED * 224**2 // max(224**2, images[0, 0].numel()))]
    exact = head_outputs(network, probes)
    errors = []
    for name, layer in layers.items():
        with rounded(network, ranges, [name]):
            results = sqnr(exact, head_outputs(network, probes))
        weights = sqnr([layer.weight], [round_weight(layer.weight)])
        errors.append(LayerError(name, kind_of(layer), weights, outputs[name], results))
    return sorted(errors, key=lambda error: error.results)


def _output_errors(
    network: Network, layers: dict[str, Any], images: Tensor, ranges: dict[str, Range]
) -> dict[str, float]:
    """Each layer computes twice, exactly and rounded, from the exact input."""
    powers = {name: torch.zeros(2) for name in layers}  # of the signal, of the noise

    def compare(name: str) -> Any:
        def hook(layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            weight, layer.weight.data = layer.weight.data, round_weight(layer.weight.data)
            noise = layer.forward(round_input(inputs[0], *ranges[name])) - output
            layer.weight.data = weight
            powers[name] += torch.stack([output.square().sum(), noise.square().sum()])

        return hook

    handles = [layer.register_forward_hook(compare(name)) for name, layer in layers.items()]
    for part in images.split(AT_ONCE):
        network(part)
    for handle in handles:
        handle.remove()
    return {name: decibels(signal, noise) for name, (signal, noise) in powers.items()}


def kind_of(layer: nn.Module) -> str:
    if not isinstance(layer, nn.Conv2d):
        return "linear"
    size = "x".join(map(str, layer.kernel_size))
    return f"{size} depthwise" if layer.groups == layer.in_channels > 1 else size
