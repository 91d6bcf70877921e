"""What a backbone returns, found by running it on shapes alone."""

import torch
from torch import nn
from torch.func import functional_call


def output_shapes(backbone: nn.Module, size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
    """{tap: (channels, height, width)} of images of this (height, width). The backbone stays where and as it is."""
    on_meta = {name: tensor.to("meta") for name, tensor in backbone.state_dict().items()}
    with torch.no_grad():
        maps = functional_call(backbone, on_meta, (torch.empty(2, 3, *size, device="meta"),))
    return {tap: tuple(x.shape[1:]) for tap, x in maps.items()}
