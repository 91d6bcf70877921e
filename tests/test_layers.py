"""Gradients of convolutions in bf16, which a library is slow at, or leaves unset where nobody looks; ReLU6."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.layers import (
    Conv2d,
    ReLU6,
    SameConv2d,
    batch_norm,
    conv2d,
    conv_norm_act,
    mend_convolutions,
    same_padding,
)
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


def depthwise(kernel=3, **window):
    torch.manual_seed(0)
    return conv2d(32, 32, kernel, groups=32, **window).to(memory_format=torch.channels_last)


def pictures(*size, dtype=torch.float32):
    return torch.randn(2, 32, *size, dtype=dtype).contiguous(memory_format=torch.channels_last)


def plainly(conv):
    """The same convolution, as torch alone computes it."""

    def convolve(images):
        padded = F.pad(images, same_padding(images, conv)) if isinstance(conv, SameConv2d) else images
        return F.conv2d(padded, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    return convolve


def gradients(convolve, conv, images, *, autocast=True):
    """Result, and gradients of the images, the weights and the bias."""
    conv.zero_grad()
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = convolve(images)
    torch.manual_seed(1)
    result.backward(torch.randn_like(result))
    return result.detach(), images.grad, conv.weight.grad.clone(), conv.bias.grad.clone()


@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("size", [(2, 3), (7, 7), (8, 9), (28, 28), (17, 33)], ids=str)
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_depthwise_gradients_in_bf16_are_those_of_torchs_convolution(padding, size, kernel, stride):
    conv, images = depthwise(kernel, stride=stride, padding=padding), pictures(*size)
    result, of_images, *of_others = gradients(conv, conv, images)
    expected = gradients(plainly(conv), conv, images)
    assert torch.equal(result, expected[0])
    assert (of_images != expected[1]).float().mean() < 1e-3  # sums in another order, which bf16 then rounds
    torch.testing.assert_close(of_images, expected[1], rtol=2**-7, atol=1e-5)
    if min(result.shape[2:]) > 1:  # else torch's is left unset in part
        for ours, theirs in zip(of_others, expected[2:]):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0.01 * float(theirs.abs().max()))
    assert all(gradient.abs().max() < 1e3 for gradient in of_others)
    assert of_images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("window", [{"dilation": 2}, {"dilation": 4}, {"dilation": 2, "stride": 2}], ids=str)
def test_dilated_depthwise_gradients_in_bf16_are_those_in_float32_rounded(padding, window):
    conv, images = depthwise(padding=padding, **window), pictures(33, 40, dtype=torch.bfloat16).float()
    conv.weight.data = conv.weight.data.bfloat16().float()
    found, exact = gradients(conv, conv, images), gradients(conv, conv, images, autocast=False)
    for ours, theirs in zip(found, exact):
        torch.testing.assert_close(ours.float(), theirs, rtol=2**-7, atol=0.01 * float(theirs.abs().max()))


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_in_float32_or_without_gradients_is_torchs_convolution(stride):
    conv, images = depthwise(stride=stride), pictures(14, 14)
    for ours, theirs in zip(*(gradients(c, conv, images, autocast=False) for c in (conv, plainly(conv)))):
        assert torch.equal(ours, theirs)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(images), plainly(conv)(images))
    with torch.autocast("cpu", torch.bfloat16):
        program = torch.export.export(conv, (images,))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert not [name for name in called if "Depthwise" in name or "convolution_backward" in name]
    assert any("conv2d" in name for name in called)


def test_depthwise_in_bf16_without_autocast_computes_the_same_gradients():
    conv, images = depthwise(5, stride=2), pictures(15, 15, dtype=torch.bfloat16)
    expected = gradients(conv, conv, images)
    found = gradients(conv.bfloat16(), conv, images, autocast=False)
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=2**-7, atol=0.05)


def test_depthwise_gradients_in_bf16_are_differentiable_once_more():
    conv, images = depthwise(stride=2), pictures(9, 9).requires_grad_()

    def second(convolve):
        with torch.autocast("cpu", torch.bfloat16):
            result = convolve(images)
        (first,) = torch.autograd.grad(result.float().square().sum(), images, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [images, conv.weight])

    for ours, theirs in zip(second(conv), second(plainly(conv))):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 * float(theirs.abs().max()))


def test_depthwise_in_bf16_can_be_frozen_copied_and_recomputed():
    conv, images = depthwise(stride=2), pictures(14, 14)
    expected = gradients(conv, conv, images)
    recomputed = gradients(lambda x: checkpoint(conv, x, use_reentrant=False), conv, images)
    twin = copy.deepcopy(conv)
    for found in (recomputed, gradients(twin, twin, images)):
        assert all(map(torch.equal, found, expected))
    images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        conv.requires_grad_(False)(images).float().sum().backward()
    assert images.grad is not None and conv.weight.grad is not None  # that from before
    with torch.autocast("cpu", torch.bfloat16):
        assert not conv(images.detach()).requires_grad


def test_depthwise_in_bf16_is_captured_as_one_graph():
    conv, images = depthwise(stride=2), pictures(14, 14)
    captured = torch.compile(conv, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(gradients(captured, conv, images), gradients(conv, conv, images)):
        torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-4)


def test_depthwise_that_reads_padding_alone_has_torchs_gradients():
    conv = Conv2d(32, 32, 1, stride=2, padding=1, groups=32).to(memory_format=torch.channels_last)
    for ours, theirs in zip(*(gradients(c, conv, pictures(5, 5)) for c in (conv, plainly(conv)))):
        assert ours.shape == theirs.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu6_has_torchs_gradients_at_its_edges_too(dtype):
    values = torch.tensor([-1, -0.0, 0, 1e-30, 3, 5.96875, 6, 6.03125, 1e30, float("inf"), float("nan")], dtype=dtype)
    found = []
    for activation in (ReLU6(), nn.ReLU6()):
        values = values.detach().requires_grad_()
        result = activation(values)
        (first,) = torch.autograd.grad(result, values, torch.full_like(values, 0.3), create_graph=True)
        (second,) = torch.autograd.grad(first, values, torch.ones_like(values))
        found.append([result.detach(), first.detach(), second])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def kept_by_a_step(layers, images):
    """Bytes that the layers keep for the gradient, each memory once."""
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        result = layers(images)
    assert result.requires_grad
    return sum(kept.values())


def test_relu6_keeps_what_the_next_layer_keeps_and_nothing_else():
    block = nn.Sequential(*(conv_norm_act(32, 32, 1, norm=batch_norm()) for _ in range(4)))
    images = pictures(40, 40)
    each = images.nbytes
    assert kept_by_a_step(block, images) < 9.5 * each  # images, and of each block the result of convolution and ReLU6
    for part in block:
        part[2] = nn.ReLU6()
    assert kept_by_a_step(block, images) > 12 * each


def test_what_a_hook_holds_is_not_clamped_later():
    layers, held = conv_norm_act(32, 32, 1, norm=batch_norm()), []
    layers[1].register_forward_hook(lambda norm, inputs, output: held.append(output))
    result = layers(pictures(8, 8))
    assert held[0].min() < 0 and torch.equal(held[0].clamp(0, 6), result)


def test_relu6_is_torchs_in_evaluation_and_export():
    layers = conv_norm_act(32, 32, 1, norm=batch_norm()).eval()
    assert "HardtanhBackward" in layers(pictures(8, 8)).grad_fn.name()
    for mode in (True, False):
        called = [str(node.target) for node in torch.export.export(layers.train(mode), (pictures(8, 8),)).graph.nodes]
        assert [name for name in called if "relu6" in name or "hardtanh" in name]


def test_depthwise_convolutions_of_others_are_mended_and_compute_what_they_did():
    theirs = nn.Sequential(
        nn.Conv2d(4, 4, 3, 2, padding=1, groups=4), nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect")
    )
    images = torch.randn(2, 4, 9, 9)
    expected = theirs(images)
    mend_convolutions(theirs)
    assert [type(layer) for layer in theirs] == [Conv2d, nn.Conv2d]  # ours knows no padding but zeros
    assert torch.equal(theirs(images), expected)
