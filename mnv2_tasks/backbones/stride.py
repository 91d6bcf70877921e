"""Output stride: keep resolution past a limit, with dilated windows in place of strides. And checks of arguments."""

from collections.abc import Collection, Sequence

from torch import nn
from torch.nn.modules.utils import _pair

from mnv2_tasks.errors import ConfigError


class Window(nn.Module):
    """One of our own, which `limit_stride` rewrites like a convolution: its `forward` goes by `stride`, `dilation`."""

    def __init__(self, kernel_size: int, *, stride: int):
        super().__init__()
        self.kernel_size, self.stride = (kernel_size, kernel_size), (stride, stride)
        self.padding, self.dilation = (0, 0), (1, 1)


def limit_stride(blocks: Sequence[nn.Module], output_stride: int) -> list[int]:
    """Rewrite the convolutions and poolings of `blocks`, in order, so that their joint stride stays within a limit.

    A strided block past the limit keeps stride 1; what strided in it keeps the *previous* dilation and only what
    comes after doubles the rate, as TF slim does (`mobilenet_base`). Dilating it too would load the same weights
    without complaint and lose accuracy. Parameters and their names do not change.

    Returns:
        The stride, in input pixels, at the end of each block.

    Raises:
        ConfigError: `output_stride` is not 8, 16 or 32.
    """
    check_output_stride(output_stride)
    stride, rate, strides = 1, 1, []
    for block in blocks:
        windows = [m for m in block.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d | Window)]
        block_stride = max((_pair(window.stride)[0] for window in windows), default=1)
        past_limit = stride * block_stride > output_stride
        following = rate * block_stride if past_limit else rate
        has_strided = False
        for window in windows:
            strided = _pair(window.stride)[0] > 1
            has_strided |= strided
            if strided and past_limit:
                window.stride = (1, 1)
            _dilate(window, following if has_strided and not strided else rate)  # a basic block has a second window
        rate = following
        if not past_limit:
            stride *= block_stride
        strides.append(stride)
    return strides


def _dilate(window: nn.Conv2d | nn.MaxPool2d | Window, rate: int) -> None:
    kernel, padding = _pair(window.kernel_size), _pair(window.padding)
    if rate == 1 or kernel == (1, 1):
        return
    window.dilation = tuple(d * rate for d in _pair(window.dilation))
    window.padding = tuple(p * rate for p in padding)  # that of SameConv2d is 0: it pads by itself


def check_output_stride(output_stride: int) -> None:
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride={output_stride}: expected 8, 16 or 32")


def check_taps(taps: Sequence[str], offered: Sequence[str], network: str) -> None:
    """Raise ConfigError, listing the choices, if a tap is unknown or none is asked for."""
    unknown = sorted(set(taps) - set(offered))
    if "auxiliary" in unknown:  # a setting of training asks for it
        raise ConfigError(f"auxiliary: {network} has no auxiliary classifier; set auxiliary=0")
    if unknown or not taps:
        problem = f"unknown taps {unknown}" if unknown else "no taps asked for"
        raise ConfigError(f"{problem}; {network} offers {list(offered)}")


def check_width(width: float, offered: Collection[float], network: str) -> None:
    """Raise ConfigError, naming the nearest, if a network does not come in this width."""
    if width not in offered:
        nearest = min(offered, key=lambda other: abs(other - width))
        raise ConfigError(f"width={width}: {network} comes in {list(offered)}; set width={nearest}")
