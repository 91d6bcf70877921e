"""Others' networks, as their documentation calls them: eager, channels first, float32, random weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.bench.peaks import device
from mnv2_tasks.errors import ConfigError


def torchvision_classifier(size: int, batch: int) -> Callable[[], Any]:
    from torchvision.models import mobilenet_v2

    return _calling(mobilenet_v2(), size, batch)


def timm_classifier(size: int, batch: int) -> Callable[[], Any]:
    try:
        import timm
    except ImportError:
        raise ConfigError('timm is not installed: pip install -e ".[timm]"') from None
    return _calling(timm.create_model("mobilenetv2_100"), size, batch)


def transformers_classifier(size: int, batch: int) -> Callable[[], Any]:
    try:
        from transformers import MobileNetV2Config, MobileNetV2ForImageClassification
    except ImportError:
        raise ConfigError('transformers is not installed: pip install -e ".[test]"') from None
    config = MobileNetV2Config(image_size=size, num_labels=1000, tf_padding=False)
    return _calling(MobileNetV2ForImageClassification(config), size, batch)


def torchvision_detector(size: int, batch: int) -> Callable[[], Any]:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=81).to(device()).eval()
    images = list(torch.rand(batch, 3, size, size, device=device()))
    return lambda: model(images)


def torchvision_segmenter(size: int, batch: int) -> Callable[[], Any]:
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    model = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21).to(device()).eval()
    images = _images(size, batch)
    return lambda: model(images)["out"].argmax(1)


def _calling(model: nn.Module, size: int, batch: int) -> Callable[[], Any]:
    model, images = model.to(device()).eval(), _images(size, batch)
    return lambda: model(images)


def _images(size: int, batch: int) -> Tensor:
    return torch.randn(batch, 3, size, size, device=device())


PEERS = {
    "classification": {
        "torchvision mobilenet_v2": torchvision_classifier,
        "timm mobilenetv2_100": timm_classifier,
        "Hugging Face MobileNetV2": transformers_classifier,
    },
    "ssdlite": {"torchvision ssdlite320_mobilenet_v3_large": torchvision_detector},
    "mobile_deeplabv3": {"torchvision deeplabv3_mobilenet_v3_large": torchvision_segmenter},
}
OTHER_NETWORKS = (*PEERS["ssdlite"], *PEERS["mobile_deeplabv3"])  # whose multiply-adds are not ours
