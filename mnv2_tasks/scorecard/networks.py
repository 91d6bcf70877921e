"""The networks that we build and the paper measures, on the meta device: shapes only."""

from functools import partial
from typing import Any

import torch
from torch import nn

from mnv2_tasks.backbones.darknet import Darknet19
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
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


def yolov2(*, num_classes: int, passthrough_channels: int | None) -> nn.Sequential:
    """Darknet's: of 2016 without `passthrough_channels`, since March 2017 with 64."""
    with torch.device("meta"):
        base = Darknet19(output_stride=32, taps=YOLOv2Head.taps)
        head = YOLOv2Head(
            features=base.features, num_classes=num_classes, anchors=[[1.0, 1.0]] * 5,
            passthrough_channels=passthrough_channels, channels=1024, width=1.0,
        )  # fmt: skip
        return nn.Sequential(base, head)


def segmenter(*, output_stride: int, atrous_rates: tuple[int, ...] = (), backbone: Any = None) -> nn.Sequential:
    """`atrous_rates` are those for output stride 16; the head scales them. `backbone=None` is MobileNetV2 1.0."""
    backbone = backbone or partial(MobileNetV2, width=1.0)
    with torch.device("meta"):
        base = backbone(output_stride=output_stride, taps=DeepLabV3Head.taps)
        head = DeepLabV3Head(
            features=base.features, num_classes=21, atrous_rates=list(atrous_rates), channels=256, dropout=0.1
        )
        return nn.Sequential(base, head)
