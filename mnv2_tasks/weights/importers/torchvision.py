"""torchvision's mobilenet_v2, and the networks that our backbones take from there."""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import nn

from mnv2_tasks.backbones.efficientnet import EfficientNetB0
from mnv2_tasks.backbones.mnasnet import MnasNet
from mnv2_tasks.backbones.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from mnv2_tasks.backbones.resnet import ResNet
from mnv2_tasks.backbones.shufflenet_v2 import ShuffleNetV2
from mnv2_tasks.backbones.vgg import VGG16, reduced_bias, reduced_fc6, reduced_fc7
from mnv2_tasks.weights.importers.family import (
    BLOCKS,
    CLASSIFIER,
    TORCH_INPUT,
    TORCH_LAYERS,
    Family,
    Reduced,
    in_network_order,
)


def _mobilenet_v2_layers() -> list[str]:
    first, later = ("0.0", "0.1", "1", "2"), ("0.0", "0.1", "1.0", "1.1", "2", "3")
    blocks = [f"features.{n}.conv.{layer}" for n in range(1, BLOCKS + 1) for layer in (first if n == 1 else later)]
    return ["features.0.0", "features.0.1", *blocks, "features.18.0", "features.18.1", "classifier.1"]


MOBILENET_V2 = Family(
    name="torchvision mobilenet_v2",
    task="classification",
    backbone="mobilenet_v2",
    modules=dict(zip(_mobilenet_v2_layers(), [*in_network_order(), CLASSIFIER], strict=True)),
    head="classifier.1",
    overrides=TORCH_LAYERS + TORCH_INPUT,
)


class TorchvisionNetwork(NamedTuple):
    """A network whose layers our backbone takes from torchvision."""

    build: Callable[..., nn.Module]
    head: str
    unused: dict[str, str] = {}  # as in Family
    overrides: list[str] = []
    renamed: dict[str, str] = {}  # {our module: theirs}, besides layers. or features.
    reduced: dict[str, Reduced] = {}  # as in Family


HIDDEN = dict.fromkeys(["classifier.0", "classifier.3"], "a classifier of two layers, ours has one")
NETWORKS = {  # in conf/backbone
    **{f"resnet{depth}": TorchvisionNetwork(partial(ResNet, depth=depth), "fc") for depth in (18, 34, 50, 101)},
    "mobilenet_v3_small": TorchvisionNetwork(MobileNetV3Small, "classifier.3", HIDDEN),
    "mobilenet_v3_large": TorchvisionNetwork(MobileNetV3Large, "classifier.3", HIDDEN),
    "efficientnet_b0": TorchvisionNetwork(EfficientNetB0, "classifier.1"),
    "shufflenet_v2": TorchvisionNetwork(partial(ShuffleNetV2, width=1.0), "fc", overrides=["width=1.0"]),
    "mnasnet": TorchvisionNetwork(partial(MnasNet, width=1.0), "classifier.1", overrides=["width=1.0"]),
    "vgg16": TorchvisionNetwork(
        VGG16,
        "classifier.6",
        {"classifier.6": "the classifier reads 4096 features, ours has every fourth"},
        renamed={"fc6": "classifier.0", "fc7": "classifier.3"},
        reduced={
            "classifier.0.weight": Reduced((4096, 512 * 7 * 7), reduced_fc6),
            "classifier.0.bias": Reduced((4096,), reduced_bias),
            "classifier.3.weight": Reduced((4096, 4096), reduced_fc7),
            "classifier.3.bias": Reduced((4096,), reduced_bias),
        },
    ),
}


@cache
def adapter(backbone: str) -> Family:
    """The layout of one of `NETWORKS`."""
    network = NETWORKS[backbone]
    with torch.device("meta"):
        ours = network.build(output_stride=32, taps=["final"]).state_dict()
    modules = {name.rpartition(".")[0] for name in ours}
    prefix = "layers." if backbone == "mnasnet" else "features."  # where we say layers.
    return Family(
        name=f"torchvision {backbone}",
        task="classification",
        backbone=backbone,
        modules={network.renamed.get(m, re.sub(r"^layers\.", prefix, m)): f"backbone.{m}" for m in modules}
        | ({} if network.unused else {network.head: CLASSIFIER}),
        head=network.head,
        overrides=TORCH_INPUT + network.overrides,
        unused=network.unused,
        reduced=network.reduced,
        shapes={f"backbone.{name}": tensor.shape for name, tensor in ours.items()},
    )


def adapters() -> Iterator[Family]:
    """One after the other: a network takes a tenth of a second to build."""
    return map(adapter, NETWORKS)
