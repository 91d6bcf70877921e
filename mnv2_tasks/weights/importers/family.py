"""What is known of others' weights before a file is read, and what an importer makes of the file."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

CLASSIFIER = "tasks.classification.head.linear"
DEEPLAB = "tasks.mobile_deeplabv3.head"
BLOCKS = 17

# As torchvision, timm, d-li14 and tonylins train: settings of batch norm and padding, then of the input
TORCH_LAYERS = ["backbone.padding=torch", "backbone.norm_eps=1e-5", "backbone.norm_momentum=0.1"]
TORCH_INPUT = ["input.mean=[123.675,116.28,103.53]", "input.std=[58.395,57.12,57.375]"]
# As TF slim and TF DeepLab train: x / 127.5 - 1, decay 0.997
TF_LAYERS = ["backbone.padding=same", "backbone.norm_eps=1e-3", "backbone.norm_momentum=0.003"]
TF_INPUT = ["input.mean=[127.5,127.5,127.5]", "input.std=[127.5,127.5,127.5]"]


class Reduced(NamedTuple):
    """A tensor of which ours is a part."""

    shape: tuple[int, ...]  # theirs
    part: Callable[[Tensor], Tensor]


class Family(NamedTuple):
    """One public layout of weights: a map from its modules to ours, and the settings that travel with it."""

    name: str
    task: str
    backbone: str  # the name of its file in conf/backbone
    modules: dict[str, str]  # {their module: ours}, for each module that holds tensors itself
    head: str  # their module whose bias has one entry for each class
    overrides: list[str]  # besides task, data, backbone, width and size
    unused: dict[str, str] = {}  # {their module: why nothing of ours takes it}; files may lack it
    reduced: dict[str, Reduced] = {}  # {their tensor: what makes ours of it}
    shapes: dict[str, torch.Size] | None = None  # {our name: shape} of a backbone of one width
    background_first: bool = False  # with 1001 classes, class 0 is TF's background
    note: str = ""  # ends the message about a file that is nearly of this family


class Imported(NamedTuple):
    """Somebody else's weights, converted.

    The overrides carry what must travel with the weights: width, padding rule, batch-norm epsilon, input
    normalisation and size. Composing the training config with them gives the network that the state fits strictly.
    """

    family: str  # where the layout comes from, such as "torchvision" or "TF slim"
    state: dict[str, Tensor]  # {our name: tensor}: backbone.* and tasks.<task>.head.*, statistics included
    overrides: list[str]  # such as ["task=classification", "data=imagenet", "width=1.0", "backbone.padding=same"]
    class_names: dict[str, list[str]]  # {task: names in the order of the head's outputs}
    left_out: dict[str, str] = {}  # {their name: why it was not taken}
    header: Any = None  # what else the file says, for whoever writes such a file again


def in_network_order(final: bool = True) -> list[str]:
    """Our MobileNetV2's convolutions and batch norms, each convolution before its norm."""
    parts = ["stem"]
    for index in range(BLOCKS):
        parts += [f"blocks.{index}.{part}" for part in ("expand", "depthwise", "project")[index == 0 :]]
    return [f"backbone.{part}.{layer}" for part in parts + ["final"] * final for layer in (0, 1)]
