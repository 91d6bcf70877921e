"""torchvision's mobilenet_v2, resnet50 and mobilenet_v3_large."""

from functools import cache

import torch
from torch import Tensor

from mnv2_tasks.backbones.mobilenet_v3 import MobileNetV3Large
from mnv2_tasks.backbones.resnet import ResNet
from mnv2_tasks.importers.family import BLOCKS, CLASSIFIER, TORCH_INPUT, TORCH_LAYERS, Family, in_network_order


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


@cache
def adapters() -> list[Family]:
    """The networks whose layers our backbones take from torchvision."""
    with torch.device("meta"):
        resnet = ResNet(depth=50, output_stride=32, taps=["final"]).state_dict()
        mobilenet_v3 = MobileNetV3Large(output_stride=32, taps=["final"]).state_dict()
    return [
        Family(
            name="torchvision resnet50",
            task="classification",
            backbone="resnet50",
            modules={module: f"backbone.{module}" for module in _modules(resnet)} | {"fc": CLASSIFIER},
            head="fc",
            overrides=TORCH_INPUT,
            shapes={f"backbone.{name}": tensor.shape for name, tensor in resnet.items()},
        ),
        Family(
            name="torchvision mobilenet_v3_large",
            task="classification",
            backbone="mobilenet_v3_large",
            modules={m.replace("layers.", "features.", 1): f"backbone.{m}" for m in _modules(mobilenet_v3)},
            head="classifier.3",
            overrides=TORCH_INPUT,
            unused=dict.fromkeys(["classifier.0", "classifier.3"], "a classifier of two layers, ours has one"),
            shapes={f"backbone.{name}": tensor.shape for name, tensor in mobilenet_v3.items()},
        ),
    ]


def _modules(state: dict[str, Tensor]) -> set[str]:
    return {name.rpartition(".")[0] for name in state}
