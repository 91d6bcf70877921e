"""Ways of counting: ours, and those by which the figures in print come out."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.network.cost import Cost, model_cost

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the input, table 7's "MF"; each also flipped


def head_cost(network: nn.Sequential, size: int) -> Cost:
    """Of the second part alone; its peak is the whole network's."""
    whole, backbone = model_cost(network, size), model_cost(network[0], size)
    return whole._replace(params=whole.params - backbone.params, madds=whole.madds - backbone.madds)


def params_without_norm(network: nn.Module) -> int:
    """TF slim's table leaves out batch norm's scale and shift, which fold into the convolutions."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(p.numel() for p in network.parameters()) - sum(p.numel() for m in norms for p in m.parameters())


def multi_scale_sides(side: int) -> list[int]:
    """Inputs of multi-scale evaluation: k * stride + 1 stays so (DeepLab's `scale_dimension`)."""
    return [int((side - 1) * scale + 1) for scale in SCALES]


def plain_madds(network: nn.Module, side: int) -> int:
    """The multiply-adds of `model_cost` of a network without linear layers, on the meta device."""
    return sum(conv.weight.numel() * math.prod(cells) for conv, cells in _convolutions(network, side))


def tensorflow_madds(network: nn.Module, side: int, *, full_side: int | None = None) -> int:
    """Multiply-adds as DeepLab's TensorFlow graph spends them: `padded_madds` and a resize, for 21 classes.

    The final resize of the logits to the image counts one per value; that much is inferred, from the four figures of
    table 7 for MobileNetV2 coming out with it.
    """
    return padded_madds(network, side) + 21 * (full_side or side) ** 2


def padded_madds(network: nn.Module, side: int) -> int:
    """Multiply-adds as TensorFlow spends them on dilated convolutions.

    One of dilation r cuts its input into r x r grids, padded to equal size: 33 cells become 36 at rates 6, 12 and 18.
    """

    return sum(
        conv.weight.numel() * math.prod(math.ceil(n / rate) * rate for n, rate in zip(cells, conv.dilation))
        for conv, cells in _convolutions(network, side)
    )


def _convolutions(network: nn.Module, side: int) -> list[tuple[nn.Conv2d, torch.Size]]:
    """Every convolution of a forward pass with the (height, width) of its output."""
    calls: list[tuple[nn.Conv2d, torch.Size]] = []

    def note(conv: nn.Conv2d, _: Any, output: Tensor) -> None:
        calls.append((conv, output.shape[2:]))

    network = copy.deepcopy(network).eval()
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.ReLU | nn.ReLU6):  # keeps shapes, and is slow to work them out
                setattr(layer, name, nn.Identity())
    with torch.no_grad():
        network(torch.empty(1, 3, side, side, device="meta"))
    return calls
