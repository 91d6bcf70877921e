"""Networks that the paper compares with, layer by layer as their authors have them. To be counted, not trained."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet101

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.backbones.resnet import POSITIONS
from mnv2_tasks.backbones.vgg import VGG16

EXTRAS = {  # input side -> (hidden, out, kernel, stride, padding) of conv8 and what follows
    300: [(256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)],
    512: [(256, 512, 3, 2, 1), *[(128, 256, 3, 2, 1)] * 3, (128, 256, 4, 1, 1)],
}
ANCHORS = {300: (4, 6, 6, 6, 4, 4), 512: (4, 6, 6, 6, 6, 4, 4)}  # per cell of each map: 8,732 and 24,564 in all


class VGGSSD(nn.Module):
    """SSD300 or SSD512 of Liu et al. (arXiv:1512.02325): no batch norm, regular convolutions.

    Args:
        side: of its input, 300 or 512.
        num_classes: without background.

    Returns:
        (B, A, num_classes + 1) logits and (B, A, 4) offsets.
    """

    taps = ("c4_expand", "final")  # conv4_3, normalised, and fc7

    def __init__(self, *, side: int, num_classes: int = 80):
        super().__init__()
        self.columns = num_classes + 1
        self.backbone = VGG16(output_stride=16, taps=self.taps)
        channels = [spec.channels for spec in self.backbone.features.values()]
        self.extras = nn.ModuleList()
        for hidden, out, kernel, stride, padding in EXTRAS[side]:
            first, second = nn.Conv2d(channels[-1], hidden, 1), nn.Conv2d(hidden, out, kernel, stride, padding)
            self.extras.append(nn.Sequential(first, nn.ReLU(), second, nn.ReLU()))
            channels.append(out)
        maps = list(zip(channels, ANCHORS[side], strict=True))
        self.class_predictors = nn.ModuleList(nn.Conv2d(c, a * self.columns, 3, padding=1) for c, a in maps)
        self.box_predictors = nn.ModuleList(nn.Conv2d(c, a * 4, 3, padding=1) for c, a in maps)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        maps = [features[tap] for tap in self.taps]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return (
            _rows(self.class_predictors, maps, self.columns),
            _rows(self.box_predictors, maps, 4),
        )


def _rows(predictors: nn.ModuleList, maps: list[Tensor], columns: int) -> Tensor:
    outputs = [predict(x).permute(0, 2, 3, 1) for predict, x in zip(predictors, maps)]  # (B, h, w, a * columns)
    return torch.cat([x.reshape(x.shape[0], -1, columns) for x in outputs], dim=1)


class ResNet101Beta(LayersWithTaps):
    """DeepLab's ResNet-101 (TF's `resnet_v1_101_beta`), behind the `Backbone` contract.

    Against torchvision's: three 3x3 convolutions of 64, 64 and 128 channels for the 7x7 stem; a stage's stride lies in
    its last block, past a subsampled shortcut, not in the first of the next; the last stage's three blocks dilate by
    1, 2 and 4 times its rate ("multi-grid", arXiv:1706.05587).
    """

    def __init__(self, *, output_stride: int, taps: Sequence[str], multi_grid: tuple[int, int, int] = (1, 2, 4)):
        layers: dict[str, Any] = dict(resnet101(weights=None).named_children())
        del layers["avgpool"], layers["fc"]
        layers["conv1"] = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
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
        super().__init__(layers, POSITIONS, taps=taps, output_stride=output_stride)
        last_stage: Any = self.layer4
        for block, factor in zip(last_stage, multi_grid):
            rate = block.conv2.dilation[0] * factor
            block.conv2.dilation = block.conv2.padding = (rate, rate)
