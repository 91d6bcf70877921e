"""Cross-layer equalisation (Nagel et al. 2019, arXiv:1906.04721, section 4.1), with ReLU6 kept.

A positive factor on channel i of a layer's weights and bias, and its inverse on the weights of the next layer that read
channel i, leave the function as it is if what stands between is linear or ReLU. The factors that are chosen give the
channel equal ranges on both sides, so that none is left with few of the 256 levels of its tensor.

The paper turns ReLU6 into ReLU. With a scale for each channel of the weights that costs MobileNetV2 far more than the
factors gain, so here ReLU6 stays: a channel that reaches 6 keeps its scale, and no other is raised above 6.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnv2_tasks.network.network import Network

SWEEPS = 40  # at most; chains overlap, so each pair's factors move those of its neighbours
SETTLED = 1e-3  # |log factor| that changes nothing any more
AT_ONCE = 4  # images in a pass
CEILING = 6.0
CLIPPING = ("aten.hardtanh.default", "aten.relu6.default")
PASSED = (*CLIPPING, "aten.relu.default", "aten.pad.default", "aten.dropout.default")


class Pair(NamedTuple):
    """Two convolutions of which the second is all that reads the first, by the names of their modules."""

    first: str
    second: str
    clipped: bool  # by a ReLU6 between them


@torch.no_grad()
def equalise(network: Network, images: Tensor) -> Network:
    """A copy of a network whose norms are folded (`deploy.fold`), equalised; its results on `images` stay as they were.

    Args:
        images: (B, 3, H, W) uint8, which show what values the channels reach.
    """
    equalised = copy.deepcopy(network)
    pairs = find_pairs(equalised, images[:1])
    layers = {name: equalised.get_submodule(name) for pair in pairs for name in pair[:2]}
    peaks = _peaks(equalised, [pair.first for pair in pairs if pair.clipped], images)
    for _ in range(SWEEPS):
        changes = [_balance(layers[first], layers[second], peaks.get(first)) for first, second, _ in pairs]
        if max(changes, default=0) < SETTLED:
            break
    return equalised


@torch.no_grad()
def find_pairs(network: Network, example: Tensor) -> list[Pair]:
    """Pairs in the order in which they run, seen in the exported graph: it shows all that reads a tensor."""
    network(example)  # anchors are remembered: they must be made of real numbers first
    program = torch.export.export(network, (example,), strict=False)
    weights = program.graph_signature.inputs_to_parameters
    pairs = []
    for node in program.graph.nodes:
        if not _is_conv(node):
            continue
        source, clipped = node.args[0], False
        while str(source.target) in PASSED and len(source.users) == 1:
            clipped |= str(source.target) in CLIPPING
            source = source.args[0]
        if _is_conv(source) and len(source.users) == 1:
            first, second = (weights[n.args[1].name].removesuffix(".weight") for n in (source, node))
            pairs.append(Pair(first, second, clipped))
    return pairs


def _is_conv(node: Any) -> bool:
    return str(node.target) == "aten.conv2d.default"


def _peaks(network: Network, names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """{convolution: (channels,) the largest value that each of its channels reaches}."""
    peaks: dict[str, Tensor] = {}

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            peak = output.amax((0, 2, 3))
            peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak

        return hook

    handles = [network.get_submodule(name).register_forward_hook(look(name)) for name in names]
    for part in images.split(AT_ONCE):
        network(part)
    for handle in handles:
        handle.remove()
    return peaks


def _balance(first: Any, second: Any, peak: Tensor | None) -> float:
    """Rescale the channels between two convolutions in place; the largest change, as |log factor|.

    Args:
        peak: (channels,) what they reach before a ReLU6, rescaled too; None where there is none.
    """
    weight = second.weight  # (out, in / groups, k, k)
    if second.groups not in (1, weight.shape[0]):
        return 0.0
    depthwise = second.groups > 1
    read = weight.abs().amax((1, 2, 3) if depthwise else (0, 2, 3))  # (channels,)
    written = first.weight.abs().amax((1, 2, 3))
    factor = torch.where((written > 0) & (read > 0), (read / written).sqrt(), 1.0)
    if peak is not None:
        room = CEILING / peak.clamp(min=torch.finfo(peak.dtype).tiny)
        factor = torch.where(peak < CEILING, torch.minimum(factor, room), 1.0)
        peak.mul_(factor)
    first.weight.mul_(factor.view(-1, 1, 1, 1))
    if first.bias is not None:
        first.bias.mul_(factor)
    weight.div_(factor.view((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)))
    return float(factor.log().abs().max())
