"""The networks that we build and the paper measures, on the meta device: shapes only."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.backbones.darknet import Darknet19
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.backbones.vgg import VGG16
from mnv2_tasks.heads.deeplabv3 import DeepLabV3Head
from mnv2_tasks.heads.linear import LinearHead
from mnv2_tasks.heads.ssd import SSDHead
from mnv2_tasks.heads.yolov2 import YOLOv2Head


def classifier(*, width: float = 1.0, num_classes: int = 1000, backbone: Any = MobileNetV2) -> nn.Sequential:
    with torch.device("meta"):
        base = backbone(width=width, output_stride=32, taps=LinearHead.taps)
        return nn.Sequential(base, LinearHead(features=base.features, num_classes=num_classes, dropout=0.2))


def detector(
    *, width: float = 1.0, num_classes: int = 80, lite: bool = True, backbone: Any = MobileNetV2, **options: Any
) -> nn.Sequential:
    with torch.device("meta"):
        base = backbone(width=width, output_stride=32, taps=SSDHead.taps, **options)
        head = SSDHead(
            features=base.features, num_classes=num_classes, extra_channels=[512, 256, 256, 128], width=width, lite=lite
        )
        return nn.Sequential(base, head)


SSD_EXTRAS = {  # input side -> (out channels, (kernel, stride, padding)) of conv8_2 and what follows
    300: [(512, (3, 2, 1)), (256, (3, 2, 1)), (256, (3, 1, 0)), (256, (3, 1, 0))],
    512: [(512, (3, 2, 1)), (256, (3, 2, 1)), (256, (3, 2, 1)), (256, (3, 2, 1)), (256, (4, 1, 1))],
}
RATIOS = {4: (1.0, 2.0, 0.5), 6: (1.0, 2.0, 0.5, 3.0, 1 / 3)}  # anchors of a cell -> their ratios, and one more square


def vgg_ssd(side: int, num_classes: int = 80) -> nn.Sequential:
    """SSD300 or SSD512: the network of recipe ssd_coco_300 or _512, with anchors, 4 or 6 a cell, of any size."""
    channels, windows = zip(*SSD_EXTRAS[side])
    anchors = [4, *[6] * (len(channels) - 1), 4, 4]
    return _on_vgg(
        num_classes, channels, with_norm=False, extra_windows=windows, first_map_anchors=None,
        anchor_scales=[1.0] * len(anchors), anchor_ratios=[RATIOS[count] for count in anchors],
    )  # fmt: skip


def vgg_detector(num_classes: int = 90) -> nn.Sequential:
    """VGG-16 under the SSD of table 5: TF's six maps and anchors, 3 per cell on the first map and 6 elsewhere."""
    return _on_vgg(num_classes, [512, 256, 256, 256])


def _on_vgg(num_classes: int, extra_channels: Sequence[int], **options: Any) -> nn.Sequential:
    with torch.device("meta"):
        base = VGG16(output_stride=16, taps=SSDHead.taps)
        head = SSDHead(
            features=base.features, num_classes=num_classes, extra_channels=list(extra_channels), width=1.0, lite=False,
            **options,
        )  # fmt: skip
        return nn.Sequential(base, head)


def yolov2(*, num_classes: int, passthrough_channels: int | None) -> nn.Sequential:
    """Darknet's: of 2016 without `passthrough_channels`, since March 2017 with 64."""
    with torch.device("meta"):
        base = Darknet19(output_stride=32, taps=YOLOv2Head.taps)
        head = YOLOv2Head(
            features=base.features, num_classes=num_classes, anchors=[[1.0, 1.0]] * 5,
            passthrough_channels=passthrough_channels, channels=1024, width=1.0,
        )  # fmt: skip
        return nn.Sequential(base, head)


class LastMap(nn.Module):
    """A backbone whose last map stands in for the one that DeepLab reads."""

    def __init__(self, backbone: Any):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c5": self.backbone(images)["final"]}


def segmenter(
    *, output_stride: int, atrous_rates: tuple[int, ...] = (), backbone: Any = None, last_map: bool = False
) -> nn.Sequential:
    """DeepLabv3.

    Args:
        atrous_rates: for output stride 16; the head scales them.
        backbone: None: MobileNetV2 1.0.
        last_map: read the backbone's last map, of 1280 channels, and not the one before.
    """
    backbone = backbone or partial(MobileNetV2, width=1.0)
    with torch.device("meta"):
        base = backbone(output_stride=output_stride, taps=["final"] if last_map else DeepLabV3Head.taps)
        spec = base.features["final" if last_map else "c5"]
        head = DeepLabV3Head(
            features={"c5": spec}, num_classes=21, atrous_rates=list(atrous_rates), channels=256, dropout=0.1
        )
        return nn.Sequential(LastMap(base) if last_map else base, head)
