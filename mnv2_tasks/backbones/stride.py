"""Output stride: keep resolution past a limit, with dilated convolutions in place of strides."""

from collections.abc import Sequence

from torch import nn

from mnv2_tasks.errors import ConfigError


def limit_stride(blocks: Sequence[nn.Module], output_stride: int, *, start: int = 1) -> list[int]:
    """Rewrite `blocks`, in order, so that their joint stride stays within `output_stride`.

    A strided block past the limit keeps stride 1; its own spatial convolution keeps the *previous* dilation and
    only the blocks after it double the rate, as TF slim does (`mobilenet_base`). Dilating it too would load the
    same weights without complaint and lose accuracy. Parameters and their names do not change.

    Args:
        start: stride of what the first block reads, 8 at most; for a stem that strides by pooling.

    Returns:
        The stride, in input pixels, at the end of each block.

    Raises:
        ConfigError: `output_stride` is not 8, 16 or 32.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride={output_stride}: expected 8, 16 or 32")
    stride, rate, strides = start, 1, []
    for block in blocks:
        convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
        block_stride = max((conv.stride[0] for conv in convs), default=1)
        past_limit = stride * block_stride > output_stride
        for conv in convs:
            if past_limit:
                conv.stride = (1, 1)
            if conv.kernel_size[0] > 1:
                conv.dilation = (rate, rate)
                if conv.padding != (0, 0):  # SameConv2d pads by itself
                    conv.padding = (conv.kernel_size[0] // 2 * rate, conv.kernel_size[1] // 2 * rate)
        if past_limit:
            rate *= block_stride
        else:
            stride *= block_stride
        strides.append(stride)
    return strides


def check_taps(taps: Sequence[str], offered: Sequence[str], network: str) -> None:
    """Raise ConfigError, listing the choices, if a tap is unknown or none is asked for."""
    unknown = sorted(set(taps) - set(offered))
    if unknown or not taps:
        problem = f"unknown taps {unknown}" if unknown else "no taps asked for"
        raise ConfigError(f"{problem}; {network} offers {list(offered)}")
