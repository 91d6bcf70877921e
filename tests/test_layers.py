"""Gradients of convolutions in bf16, which a library leaves unset where nobody looks."""

import pytest
import torch
from torch import nn

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.layers import Conv2d, conv2d
from mnv2_tasks.network.allocator import keep_freed_memory


def weight_gradient(conv, images, dtype):
    conv.weight.grad = None
    for size in (12, 14, 16, 18):  # what is not written then shows
        del (_ := [torch.full((1 << size,), 3e30) for _ in range(8)])[:]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        result = conv(images)
    assert result.dtype == dtype
    result.float().sum().backward()
    return conv.weight.grad


@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("size", [1, 33])
@pytest.mark.parametrize("window", [{"stride": 2}, {"dilation": 2}, {"dilation": 4}], ids=str)
def test_depthwise_weight_gradients_in_bf16_are_those_in_float32(padding, size, window):
    torch.manual_seed(0)
    keep_freed_memory()
    conv = conv2d(32, 32, 3, groups=32, bias=False, padding=padding, **window).to(memory_format=torch.channels_last)
    images = torch.randn(2, 32, size, size).contiguous(memory_format=torch.channels_last)
    exact = weight_gradient(conv, images, torch.float32).clone()
    for _ in range(3):
        rounded = weight_gradient(conv, images, torch.bfloat16)
        torch.testing.assert_close(rounded, exact, rtol=0, atol=0.02 * float(exact.abs().max()))


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "shufflenet_v2", "mobilenet_v2"])
def test_no_backbone_has_a_dilated_depthwise_convolution_of_another_kind(backbone):
    words = ["task=mobile_deeplabv3", f"backbone={backbone}", "width=1.0", "output_stride=8"]
    network = build_network(compose("train", words), {"mobile_deeplabv3": ["a", "b"]})
    dilated = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels and max(m.dilation) > 1
    ]
    assert dilated and all(isinstance(m, Conv2d) for m in dilated)
