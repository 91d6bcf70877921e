"""A family: one public layout of weights, as a map from its modules to ours and the settings that travel with it."""

from typing import NamedTuple

import torch

CLASSIFIER = "tasks.classification.head.linear"
DEEPLAB = "tasks.mobile_deeplabv3.head"
BLOCKS = 17

# As torchvision, timm, d-li14 and tonylins train: settings of batch norm and padding, then of the input
TORCH_LAYERS = ["backbone.padding=torch", "backbone.norm_eps=1e-5", "backbone.norm_momentum=0.1"]
TORCH_INPUT = ["input.mean=[123.675,116.28,103.53]", "input.std=[58.395,57.12,57.375]"]
# As TF slim and TF DeepLab train: x / 127.5 - 1, decay 0.997
TF_LAYERS = ["backbone.padding=same", "backbone.norm_eps=1e-3", "backbone.norm_momentum=0.003"]
TF_INPUT = ["input.mean=[127.5,127.5,127.5]", "input.std=[127.5,127.5,127.5]"]


class Family(NamedTuple):
    name: str
    task: str
    backbone: str  # the name of its file in conf/backbone
    modules: dict[str, str]  # {their module: ours}, for each module that holds tensors itself
    head: str  # their module whose bias has one entry for each class
    overrides: list[str]  # besides task, data, backbone, width and size
    unused: dict[str, str] = {}  # {their module: why nothing of ours takes it}; files may lack it
    shapes: dict[str, torch.Size] | None = None  # {our name: shape} of a backbone of one width
    background_first: bool = False  # with 1001 classes, class 0 is TF's background
    note: str = ""  # ends the message about a file that is nearly of this family


def in_network_order(final: bool = True) -> list[str]:
    """Our MobileNetV2's convolutions and batch norms, each convolution before its norm."""
    parts = ["stem"]
    for index in range(BLOCKS):
        parts += [f"blocks.{index}.{part}" for part in ("expand", "depthwise", "project")[index == 0 :]]
    return [f"backbone.{part}.{layer}" for part in parts + ["final"] * final for layer in (0, 1)]
