"""VGG-16 with reduced fully connected layers, the network of SSD300 and SSD512 (Liu et al. 2016, arXiv:1512.02325)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.backbones.max_pool import MaxPool
from mnv2_tasks.layers import init_convs

POSITIONS = {  # after the ReLU of ...
    "c1": "layers.8",  # conv2_2
    "c2": "layers.15",  # conv3_3
    "c3": "layers.22",  # conv4_3
    "c4_expand": "layers.22",  # conv4_3, normalised
    "c4": "layers.29",  # conv5_3
    "c5": "relu7",
    "final": "relu7",
}


class L2Norm(nn.Module):
    """Scale each cell's channels to a norm that is learned for each channel, 20 at first (SSD section 3.1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 20.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x) * self.weight[:, None, None]


class VGG16(LayersWithTaps):
    """Thirteen 3x3 convolutions, then fc6 as a dilated 3x3 and fc7 as a 1x1 convolution of 1024 channels.

    Its own stride is 16: pool5 is 3x3 with stride 1, as fc6's dilation of 6 needs. SSD's head finds what the paper
    feeds it: `c4_expand` is conv4_3 at stride 8 through `L2Norm`, and `final`, which is `c5`, is fc7 at stride 16.
    Output stride 8 gives DeepLab-LargeFOV's dilations (arXiv:1412.7062): 2 in conv5, 12 in fc6.

    `layers.<i>` is torchvision's `features.<i>`; of its fully connected layers `fc6` and `fc7` are a part, see
    `reduced_fc6`. There is no batch norm.

    Args:
        output_stride: 8, or 16 or 32, which are the same here; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.

    Raises:
        ConfigError: `output_stride` is out of range, or a tap is unknown.
    """

    optional_tensors = ("conv4_3_norm.weight",)  # that weights lack whose network did not read `c4_expand`

    def __init__(self, *, output_stride: int, taps: Sequence[str]):
        convolutions = make_layers(cfgs["D"])[:-1]
        for index, layer in enumerate(convolutions):
            if isinstance(layer, nn.MaxPool2d):
                convolutions[index] = MaxPool(2, stride=2)
        layers = {
            "layers": convolutions,
            "pool5": MaxPool(3, stride=1),
            "fc6": nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            "relu6": nn.ReLU(inplace=True),
            "fc7": nn.Conv2d(1024, 1024, 1),
            "relu7": nn.ReLU(inplace=True),
        }
        super().__init__(layers, POSITIONS, taps=taps, output_stride=output_stride)
        if "c4_expand" in taps:
            self.conv4_3_norm = L2Norm(512)
        init_convs(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = super().forward(images)
        if "c4_expand" in features:
            features["c4_expand"] = self.conv4_3_norm(features["c4_expand"])
        return features


# VGG-16's fully connected layers as convolutions, by subsampling (DeepLab, arXiv:1412.7062): every fourth of 4,096
# features, and every third of the 7 x 7 cells that fc6 reads. pool5 no longer halves the map: dilation 6 reads the same


def reduced_fc6(weight: Tensor) -> Tensor:
    """(4096, 512 * 7 * 7) -> (1024, 512, 3, 3)."""
    return weight.view(4096, 512, 7, 7)[::4, :, ::3, ::3]


def reduced_fc7(weight: Tensor) -> Tensor:
    """(4096, 4096) -> (1024, 1024, 1, 1)."""
    return weight[::4, ::4, None, None]


def reduced_bias(bias: Tensor) -> Tensor:
    """(4096,) -> (1024,)."""
    return bias[::4]
