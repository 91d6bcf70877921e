"""Batch norms as part of the convolutions before them: a third of a network's layers less, same results."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import BatchNorm2d, _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mnv2_tasks.layers import BatchNorm2d as OurBatchNorm2d
from mnv2_tasks.network.network import Network

PROBE = 64  # pixels; any size that every head takes shows which norm follows which convolution


def fold_batch_norms(network: Network) -> Network:
    """A copy in evaluation mode whose batch norms are folded into the convolutions that feed them.

    Which feeds which is seen in a pass over one image, so that it works for every backbone. A norm that something else
    feeds stays.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    names = {module: name for name, module in folded.named_modules()}
    for conv, norm in _pairs(folded):
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.weight, conv.bias = weight, bias
        parent, _, name = names[norm].rpartition(".")
        setattr(folded.get_submodule(parent), name, nn.Identity())
    return folded


def act_in_place(network: nn.Module) -> None:
    """Let activations write over the output of the convolution before them, which nothing else reads. No gradients."""
    for layers in network.modules():
        fresh = False  # whether what flows was made within the sequence
        for layer in layers if isinstance(layers, nn.Sequential) else ():
            if fresh and hasattr(layer, "inplace"):
                setattr(layer, "inplace", True)  # noqa: B010  nn.Module's attributes have no types
            fresh = isinstance(layer, nn.Conv2d | _BatchNorm) or (fresh and isinstance(layer, nn.Identity))


@torch.no_grad()
def _pairs(network: Network) -> list[tuple[nn.Conv2d, BatchNorm2d]]:
    """Convolutions whose output goes into a batch norm, each called once in a pass."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # id of an output -> who made it; holds it, so that ids stay unique
    fed: list[tuple[nn.Conv2d, BatchNorm2d]] = []

    def after_conv(conv: Any, inputs: Any, output: Tensor) -> None:
        made[id(output)] = (conv, output)

    def before_norm(norm: Any, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in made:
            fed.append((made[id(inputs[0])][0], norm))

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_conv))
        elif type(module) in (BatchNorm2d, OurBatchNorm2d):
            handles.append(module.register_forward_pre_hook(before_norm))
    network(torch.zeros(1, 3, PROBE, PROBE, dtype=torch.uint8, device=network.device))
    for handle in handles:
        handle.remove()
    convs, norms = [conv for conv, _ in fed], [norm for _, norm in fed]
    return [(c, n) for c, n in fed if convs.count(c) == norms.count(n) == 1]
