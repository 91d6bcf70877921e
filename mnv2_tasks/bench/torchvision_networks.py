"""Our detector and segmenter as torchvision's users would build them: MobileNetV2 and torchvision's own parts.

What it has itself of both kinds is on MobileNetV3. Here are the networks that we train, so that steps can be compared.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3

EXPANDED = 14  # of torchvision's features: the block whose expansion is the detector's first map
EXTRAS = (512, 256, 256, 128)  # channels
LAST = 17  # block, of 320 channels: where the segmenter's backbone ends
STRIDE_16 = (14, 17)  # blocks from the one that keeps its stride back to the last, which are dilated for it


class DetectorBackbone(nn.Module):
    """Six maps: the expansion of stride 16, the last map, and four more (torchvision's is for MobileNetV3 alone)."""

    def __init__(self) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        features: Any = mobilenet_v2(norm_layer=norm).features
        expansion, *rest = features[EXPANDED].conv
        self.first = nn.Sequential(*features[:EXPANDED], expansion)
        self.last = nn.Sequential(*rest, *features[EXPANDED + 1 :])
        self.channels = [576, 1280, *EXTRAS]
        self.extras = nn.ModuleList(_extra_block(*pair, norm) for pair in zip(self.channels[1:], EXTRAS))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [self.first(images)]
        for part in (self.last, *self.extras):
            maps.append(part(maps[-1]))
        return {str(number): found for number, found in enumerate(maps)}


def ssdlite(size: int, num_classes: int) -> nn.Module:
    """
    Args:
        num_classes: without the background.
    """
    backbone = DetectorBackbone()
    anchors = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(backbone.channels, anchors.num_anchors_per_location(), num_classes + 1, norm)
    mean = [0.5, 0.5, 0.5]
    return SSD(backbone, anchors, (size, size), num_classes + 1, head=head, image_mean=mean, image_std=mean)


def mobile_deeplabv3(num_classes: int) -> nn.Module:
    features: Any = mobilenet_v2().features[: LAST + 1]
    first, last = STRIDE_16
    for number in range(first, last + 1):
        for layer in features[number].modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.stride = (1, 1)
                if number > first:
                    layer.dilation = layer.padding = (2, 2)
    backbone = IntermediateLayerGetter(features, {str(LAST): "out"})
    return DeepLabV3(backbone, nn.Sequential(ASPP(320, []), nn.Conv2d(256, num_classes, 1)))
