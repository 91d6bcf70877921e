"""The convolutions that every backbone and head is made of."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.errors import ConfigError

Norm = Callable[[int], nn.Module]

CONV_SETTINGS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a scaled channel count as TF slim does: to the nearest multiple, never below 90 % of the value."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that survives a training batch of one value per channel, by using its running statistics.

    A single image (the last batch of an epoch, say) pooled to one cell has no variance to normalise by;
    nn.BatchNorm2d raises there.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def batch_norm(eps: float = 1e-5, momentum: float = 0.1) -> Norm:
    """TF's decay d is momentum 1 - d here: slim's 0.997 is 0.003."""
    if eps < 0:
        raise ConfigError(f"norm_eps={eps}: expected 0 or more")
    return partial(BatchNorm2d, eps=eps, momentum=momentum)


class Conv2d(nn.Conv2d):
    """nn.Conv2d around faults and slow kernels of oneDNN (3.12, torch 2.14) for depthwise convolutions in bf16.

    A strided one on a map of one cell (SSDLite below 130 pixels) has a weight gradient that is left unset in part, NaN
    after a few steps. Every stride gives the same output there, so it is 1. For all else see `_DepthwiseInBFloat16`.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._convolve(input, self.padding)

    def _convolve(self, input: Tensor, padding: Any) -> Tensor:
        stride = self.stride
        if max(stride) > 1 and input.shape[2] * input.shape[3] == 1:
            stride = (1, 1)
        if _learns_in_bf16(input, self.weight) and self._is_depthwise(padding):
            window = stride, padding, self.dilation
            return _DepthwiseInBFloat16.apply(input.bfloat16(), self.weight, self.bias, *window)
        return F.conv2d(input, self.weight, self.bias, stride, padding, self.dilation, self.groups)

    def _is_depthwise(self, padding: Any) -> bool:
        """With no output that reads padding alone."""
        return 1 < self.groups == self.in_channels == self.out_channels and all(
            before <= reach for before, reach in zip(padding, _reach(self.weight, self.dilation))
        )


def _reach(weight: Tensor, dilation: Sequence[int]) -> list[int]:
    """Cells from the first to the last one that a kernel reads, vertically and horizontally."""
    return [rate * (side - 1) for rate, side in zip(dilation, weight.shape[2:])]


def _learns_in_bf16(input: Tensor, weight: Tensor) -> bool:
    """Whether a convolution computes in bf16 on a CPU, by autocast or not, and its gradient will be asked for."""
    if not input.is_cpu or not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return False
    cast = torch.is_autocast_enabled("cpu") and input.dtype != torch.float64
    dtype = torch.get_autocast_dtype("cpu") if cast else input.dtype
    return dtype == torch.bfloat16 and (input.requires_grad or weight.requires_grad)


class _DepthwiseInBFloat16(torch.autograd.Function):
    """A depthwise convolution whose gradients are computed in other ways than oneDNN would.

    The input's: the output's gradient, spread over zeros where there is a stride, is filtered by the turned kernel. Its
    own takes 4 to 40 times as long with a stride, and twice as long without.
    The weights': in float32 where the kernel is larger than 3 x 3, which takes a quarter of the time, and where it is
    left unset in part: dilated on maps wider than 28 cells (DeepLab), or with a result of one row or column.
    """

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> Tensor:
        bias = None if bias is None else bias.to(input.dtype)
        return F.conv2d(input, weight.to(input.dtype), bias, stride, padding, dilation, len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        input, weight, _, *ctx.window = inputs
        ctx.save_for_backward(input, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input = _input_gradient(gradient, input, weight, *ctx.window) if ctx.needs_input_grad[0] else None
        exact = max(weight.shape[2:]) > 3 or max(ctx.window[2]) > 1 or min(gradient.shape[2:]) == 1
        dtype = torch.float32 if exact else input.dtype
        tensors = (tensor.to(dtype) for tensor in (gradient, input, weight))
        mask = [False, *ctx.needs_input_grad[1:3]]
        settings = [len(weight)], *ctx.window, False, [0, 0], len(weight), mask
        _, *of_others = torch.ops.aten.convolution_backward(*tensors, *settings) if any(mask) else (None, None, None)
        return (of_input, *of_others, None, None, None)


def _input_gradient(
    gradient: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    reach = _reach(weight, dilation)
    if max(stride) > 1:
        without_stride = [size + 2 * p - r for size, p, r in zip(input.shape[2:], padding, reach)]
        last = input.is_contiguous(memory_format=torch.channels_last)
        spread = torch.empty(
            (*input.shape[:2], *without_stride),
            dtype=gradient.dtype,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        ).zero_()
        spread[:, :, :: stride[0], :: stride[1]] = gradient
        gradient = spread
    turned = weight.to(gradient.dtype).flip(2, 3)
    return F.conv2d(gradient, turned, None, 1, [r - p for r, p in zip(reach, padding)], dilation, len(weight))


class ReLU6(nn.ReLU6):
    """nn.ReLU6 that in training keeps its result for the gradient, as the next layer does, in place of its input.

    A third of what a step keeps is then not there. Clamping in place, which is no faster, would change what a hook on
    the norm before it holds; torch's own in place keeps a copy.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled() and input.is_cpu and not torch.compiler.is_compiling():
            return _ReLU6.apply(input)
        return super().forward(input)


class _ReLU6(torch.autograd.Function):
    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return F.relu6(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, 0, 6)


def mend_convolutions(module: nn.Module) -> None:
    """Put a `Conv2d` in the place of others' depthwise convolutions padded by zeros; parameters and names stay."""
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Conv2d and layer.groups > 1 and layer.padding_mode == "zeros":
                settings: dict[str, Any] = {setting: getattr(layer, setting) for setting in CONV_SETTINGS}
                with torch.device("meta"):  # its own parameters would be drawn at random, only to go
                    mended = Conv2d(**settings, bias=False)
                mended.weight, mended.bias = layer.weight, layer.bias
                setattr(parent, name, mended.train(layer.training))


def same_padding(x: Tensor, window: Any) -> list[int]:
    """TF's "SAME" padding of x, for F.pad.

    Args:
        window: with `kernel_size`, `stride` and `dilation`, two of each, such as a convolution.
    """
    pads = []
    for axis in (1, 0):  # F.pad takes the last dimension first
        reach = (window.kernel_size[axis] - 1) * window.dilation[axis] + 1
        # a remainder, and none at stride 1, keeps what an exporter has to know about sizes short
        covered = (x.shape[2 + axis] - 1) % window.stride[axis] + 1 if window.stride[axis] > 1 else 1
        total = reach - covered if reach >= window.stride[axis] else max(0, reach - covered)
        pads += [total // 2, total - total // 2]
    return pads


class SameConv2d(Conv2d):
    """TF's "SAME" padding: the odd pixel of a strided convolution goes to the bottom and right.

    On even inputs that shifts the sampling grid by one pixel against padding=k//2, so weights trained in TF
    lose accuracy without it; on inputs of size k * 32 + 1 the two agree. Input and output as nn.Conv2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._convolve(F.pad(input, same_padding(input, self)), (0, 0))


def conv2d(in_channels: int, out_channels: int, kernel: int, *, padding: str = "torch", **conv) -> nn.Conv2d:
    """A convolution that keeps the size, or divides it by the stride rounding up, under either padding rule."""
    if padding == "same":
        return SameConv2d(in_channels, out_channels, kernel, **conv)
    if padding != "torch":
        raise ConfigError(f"padding={padding!r}: expected 'torch' (k // 2 on every side) or 'same' (TF)")
    pad = kernel // 2 * conv.get("dilation", 1)
    kind = Conv2d if conv.get("groups", 1) > 1 else nn.Conv2d
    return kind(in_channels, out_channels, kernel, padding=pad, **conv)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    norm: Norm,
    activation: Callable[[], nn.Module] | None = ReLU6,
    **conv,
) -> nn.Sequential:
    """Convolution without bias, norm, activation. `activation=None` leaves the output linear."""
    layers = [conv2d(in_channels, out_channels, kernel, bias=False, **conv), norm(out_channels)]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


def depthwise_separable(
    in_channels: int, out_channels: int, *, norm: Norm, stride: int = 1, padding: str = "torch"
) -> nn.Sequential:
    """3x3 on each channel, then 1x1 across them, each with norm and ReLU6 (MobileNetV1)."""
    return nn.Sequential(
        conv_norm_act(in_channels, in_channels, 3, stride=stride, groups=in_channels, norm=norm, padding=padding),
        conv_norm_act(in_channels, out_channels, 1, norm=norm),
    )


def init_convs(
    module: nn.Module, std: float | None = None, *, mode: Literal["fan_in", "fan_out", "caffe"] = "fan_out"
) -> None:
    """Kaiming fan-out (torchvision's MobileNetV2) or fan-in (Darknet: a normal of width sqrt(2 / (k * k * channels))),
    Caffe's "xavier" (SSD on VGG-16: uniform within sqrt(3 / (k * k * channels))), or a normal of width `std` (SSD and
    DeepLab heads); biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if std is not None:
                nn.init.trunc_normal_(layer.weight, std=std)
            elif mode == "caffe":
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            else:
                nn.init.kaiming_normal_(layer.weight, mode=mode)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
