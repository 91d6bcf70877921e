"""The inner tensor of a bottleneck in shares of its channels, one after another, so that it is never there whole.

What stands between expansion and projection works on each channel alone, so F(x) is the sum of A_i(N(B_i(x))) over the
shares i (paper, section 5.1): the same results, to rounding.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.backbones.mobilenet_v2 import TAPS, InvertedResidual
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.network import Network


class SplitBottleneck(nn.Module):
    """(B, C, H, W) -> (B, C', H/s, W/s), as expansion, filter and projection of a block together; no shortcut.

    Args:
        block: with its batch norms folded.
        shares: of nearly equal size; at least 1, and no more than the inner tensor has channels.
        expanded: whether what comes in is the expansion, which somebody reads whole. A block without one is so, too.
    """

    def __init__(self, block: InvertedResidual, shares: int, *, expanded: bool):
        super().__init__()
        least, more = divmod(block.hidden, shares)
        sizes = [least + 1] * more + [least] * (shares - more)
        ends = [sum(sizes[: number + 1]) for number in range(shares)]
        self.ranges = list(zip([0, *ends], ends))
        self.expanded = expanded
        self.shares = nn.ModuleList(_share(block, *of_share, expanded=expanded) for of_share in self.ranges)
        self.activation = block.project[1:]  # of an ablation; the bottleneck is linear

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for (start, end), share in zip(self.ranges, self.shares):
            projected = share(x[:, start:end] if self.expanded else x)
            total = projected if total is None else total.add_(projected)
        return self.activation(total)


def split_bottlenecks(network: Network, shares: Mapping[str, int]) -> Network:
    """A copy for prediction, its batch norms folded, whose bottlenecks compute in so many shares.

    The expansion that a head reads (`c4_expand`) is computed whole; what its block makes of it is shared out.

    Args:
        shares: {name of the block: number}; others stay whole.
    """
    split: Any = fold_batch_norms(network)
    read = f"backbone.blocks.{TAPS['c4_expand']}" if "c4_expand" in split.backbone.features else ""
    for name in [name for name, number in shares.items() if number > 1]:
        block: Any = split.get_submodule(name)
        expanded = name == read or isinstance(block.expand, nn.Identity)
        # the backbone runs a block's parts one by one: all of them stand in the place of the last
        block.project = SplitBottleneck(block, shares[name], expanded=expanded)
        block.depthwise = nn.Identity()
        if not expanded:
            block.expand = nn.Identity()
    return split


def _share(block: Any, start: int, end: int, *, expanded: bool) -> nn.Sequential:
    """Of the inner tensor's channels from `start` up to `end`; the projection's bias comes with the first of them."""
    depthwise, project = copy.deepcopy(block.depthwise), copy.deepcopy(block.project[:1])
    _narrow(depthwise[0], outputs=slice(start, end))
    _narrow(project[0], inputs=slice(start, end), with_bias=start == 0)
    layers = [("depthwise", depthwise), ("project", project)]
    if not expanded:
        expand = copy.deepcopy(block.expand)
        _narrow(expand[0], outputs=slice(start, end))
        layers.insert(0, ("expand", expand))
    return nn.Sequential(OrderedDict(layers))


@torch.no_grad()
def _narrow(conv: Any, *, outputs: slice = slice(None), inputs: slice = slice(None), with_bias: bool = True) -> None:
    """Keep these channels of a convolution, in place; a depthwise one has its outputs as inputs."""
    weight = conv.weight[outputs, inputs].contiguous()
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(conv.bias[outputs].contiguous(), requires_grad=False) if with_bias else None
    conv.out_channels = len(weight)
    if conv.groups > 1:
        conv.groups = len(weight)
    conv.in_channels = conv.groups * weight.shape[1]
