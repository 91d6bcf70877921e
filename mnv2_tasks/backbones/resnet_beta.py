"""DeepLab's ResNet (TF's `resnet_v1_50_beta` and `resnet_v1_101_beta`; DeepLabv3, arXiv:1706.05587)."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models import resnet50, resnet101

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import init_convs

DEPTHS = {50: resnet50, 101: resnet101}


class ResNetBeta(LayersWithTaps):
    """Against torchvision's ResNet: three 3x3 convolutions of 64, 64 and 128 channels for the 7x7 stem; a stage strides
    in its last block, past a subsampled shortcut, not in the first of the next; the last stage's three blocks dilate by
    `multi_grid` times its rate.

    `c4_expand` is `c4` and `final` is `c5`. A tap lies before its stage's last block, which strides.

    Args:
        depth: layers with weights: 50 or 101.
        multi_grid: (1, 2, 4) in DeepLabv3.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.

    Raises:
        ConfigError: `depth` or `output_stride` is none of these, `multi_grid` is not three rates, or a tap is unknown.
    """

    def __init__(self, *, depth: int, output_stride: int, taps: Sequence[str], multi_grid: Sequence[int] = (1, 2, 4)):
        if depth not in DEPTHS:
            raise ConfigError(f"depth={depth}: expected one of {list(DEPTHS)}")
        if len(multi_grid) != 3 or min(multi_grid) < 1:
            raise ConfigError(f"multi_grid={list(multi_grid)}: expected the rates of three blocks, such as [1, 2, 4]")
        layers: dict[str, Any] = dict(DEPTHS[depth](weights=None).named_children())
        del layers["avgpool"], layers["fc"]
        layers["conv1"] = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 128, 3, padding=1, bias=False),
        )
        layers["bn1"] = nn.BatchNorm2d(128)
        layers["layer1"][0].conv1 = nn.Conv2d(128, 64, 1, bias=False)
        layers["layer1"][0].downsample[0] = nn.Conv2d(128, 256, 1, bias=False)
        for stage in ("layer2", "layer3", "layer4"):
            layers[stage][0].conv2.stride = layers[stage][0].downsample[0].stride = (1, 1)
        for stage in ("layer1", "layer2", "layer3"):
            layers[stage][-1].conv2.stride = (2, 2)
            layers[stage][-1].downsample = nn.MaxPool2d(1, 2)
        for block, factor in zip(layers["layer4"], multi_grid, strict=True):
            block.conv2.dilation = block.conv2.padding = (factor, factor)  # times the rate, once strides are limited
        ends = {tap: f"{stage}.{len(layers[stage]) - 2}" for tap, stage in (("c2", "layer1"), ("c3", "layer2"))}
        ends["c4"] = ends["c4_expand"] = f"layer3.{len(layers['layer3']) - 2}"
        positions = {"c1": "relu", **ends, "c5": "layer4", "final": "layer4"}
        super().__init__(layers, positions, taps=taps, output_stride=output_stride)
        init_convs(self)
