"""ResNet (He et al. 2015, arXiv:1512.03385): torchvision's layers behind our contract."""

from collections.abc import Sequence

from torchvision.models import resnet18, resnet34, resnet50, resnet101

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.errors import ConfigError

DEPTHS = {18: resnet18, 34: resnet34, 50: resnet50, 101: resnet101}
POSITIONS = {
    "c1": "relu",
    "c2": "layer1",
    "c3": "layer2",
    "c4": "layer3",
    "c4_expand": "layer3",
    "c5": "layer4",
    "final": "layer4",
}


class ResNet(LayersWithTaps):
    """Basic blocks (18, 34), or bottlenecks with the stride on the 3x3 convolution, "v1.5" (50, 101).

    Names are torchvision's. `c4_expand` is `c4` and `final` is `c5`: whoever asks for both gets the same tensor twice.

    Args:
        depth: layers with weights: 18, 34, 50 or 101.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; no stage past the deepest one is built.

    Raises:
        ConfigError: `depth` or `output_stride` is none of these, or a tap is unknown.
    """

    def __init__(self, *, depth: int, output_stride: int, taps: Sequence[str]):
        if depth not in DEPTHS:
            raise ConfigError(f"depth={depth}: expected one of {list(DEPTHS)}")
        layers = dict(DEPTHS[depth](weights=None).named_children())
        del layers["avgpool"], layers["fc"]
        super().__init__(layers, POSITIONS, taps=taps, output_stride=output_stride)
