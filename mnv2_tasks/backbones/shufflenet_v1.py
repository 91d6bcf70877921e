"""ShuffleNet (Zhang et al. 2017, arXiv:1707.01083), with three groups: the rows of MobileNetV2's table 4."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.backbones.stride import check_width
from mnv2_tasks.layers import batch_norm, conv_norm_act, init_convs

GROUPS = 3
STEMS = {0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}  # width -> channels of the first convolution, as in the authors' code
STAGES = {"stage2": (240, 4), "stage3": (480, 8), "stage4": (960, 4)}  # channels at width 1, units (paper table 1)
POSITIONS = {
    "c1": "stem",
    "c2": "maxpool",
    "c3": "stage2",
    "c4": "stage3",
    "c4_expand": "stage3",
    "c5": "stage4",
    "final": "stage4",
}


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped linear 1x1, around a shortcut (paper figure 2b, 2c).

    With stride 2 the shortcut is an average pooling whose channels are concatenated, not added.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, first_groups: int):
        super().__init__()
        norm, hidden = batch_norm(), out_channels // 4
        added = out_channels if stride == 1 else out_channels - in_channels
        self.stride = stride
        self.reduce = conv_norm_act(in_channels, hidden, 1, groups=first_groups, norm=norm, activation=nn.ReLU)
        self.depthwise = conv_norm_act(hidden, hidden, 3, stride=stride, groups=hidden, norm=norm, activation=None)
        self.project = conv_norm_act(hidden, added, 1, groups=GROUPS, norm=norm, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        main = self.project(self.depthwise(shuffle_channels(self.reduce(x))))
        if self.stride == 1:
            return F.relu(x + main)
        return torch.cat([average_pool(x, self.depthwise[0]), F.relu(main)], dim=1)


def shuffle_channels(x: Tensor) -> Tensor:
    """Deal out each group's channels, so that the next grouped convolution sees some of every group."""
    batch, channels, height, width = x.shape
    return x.view(batch, GROUPS, channels // GROUPS, height, width).transpose(1, 2).reshape(x.shape)


def average_pool(x: Tensor, window: Any) -> Tensor:
    """3x3, padded with zeros that count, at the stride and dilation that `limit_stride` gave the unit's convolution."""
    if window.dilation == (1, 1):
        return F.avg_pool2d(x, 3, window.stride, padding=1)
    mean = x.new_full((x.shape[1], 1, 3, 3), 1 / 9)  # avg_pool2d knows no dilation
    return F.conv2d(x, mean, None, window.stride, window.padding, window.dilation, groups=x.shape[1])


class ShuffleNetV1(LayersWithTaps):
    """Sixteen units in three stages (paper table 1, g = 3). `c4_expand` is `c4`, `c2` the pooled stem, `final` is `c5`.

    The first unit's first convolution is not grouped: its input has too few channels (section 3.3). The shuffle stands
    before the depthwise convolution, as in the paper's figure; the authors' code has it after, which is the same
    network with its channels in another order.

    Args:
        width: 0.5, 1, 1.5 or 2 times the channels of table 1.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; no stage past the deepest one is built.

    Raises:
        ConfigError: an argument is out of range, or a tap is unknown.
    """

    def __init__(self, *, width: float, output_stride: int, taps: Sequence[str]):
        check_width(width, STEMS, type(self).__name__)
        channels = STEMS[width]
        layers: dict[str, nn.Module] = {
            "stem": conv_norm_act(3, channels, 3, stride=2, norm=batch_norm(), activation=nn.ReLU),
            "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
        }
        for stage, (at_width_1, repeats) in STAGES.items():
            units = nn.Sequential()
            for index in range(repeats):
                first_groups = 1 if stage == "stage2" and index == 0 else GROUPS
                out_channels = int(at_width_1 * width)
                stride = 2 if index == 0 else 1
                units.append(ShuffleUnit(channels, out_channels, stride=stride, first_groups=first_groups))
                channels = out_channels
            layers[stage] = units
        super().__init__(layers, POSITIONS, taps=taps, output_stride=output_stride)
        init_convs(self)
