"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244): torchvision's layers behind our contract."""

from collections.abc import Sequence

from torchvision.models import mobilenet_v3_large, mobilenet_v3_small

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps

LARGE = {  # c4_expand: after the widening inside the first block of stride 32
    "c1": "layers.1",
    "c2": "layers.3",
    "c3": "layers.6",
    "c4": "layers.12",
    "c4_expand": "layers.13.block.0",
    "c5": "layers.15",
    "final": "layers.16",
}
SMALL = {
    "c1": "layers.0",
    "c2": "layers.1",
    "c3": "layers.3",
    "c4": "layers.8",
    "c4_expand": "layers.9.block.0",
    "c5": "layers.11",
    "final": "layers.12",
}


class MobileNetV3Large(LayersWithTaps):
    """Width 1.0, with squeeze-and-excitation and hard swish; batch norm as torchvision sets it (1e-3, 0.01).

    `layers.<i>` is torchvision's `features.<i>`, so its weights load after that one renaming. `final` is the 960
    channels before pooling: the published classifier has another layer of 1280 after it, which our linear head has
    not, so 3.93 M parameters where the paper counts 5.4 M.

    Args:
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.

    Raises:
        ConfigError: `output_stride` is out of range, or a tap is unknown.
    """

    def __init__(self, *, output_stride: int, taps: Sequence[str]):
        layers = {"layers": mobilenet_v3_large(weights=None).features}
        super().__init__(layers, LARGE, taps=taps, output_stride=output_stride)


class MobileNetV3Small(LayersWithTaps):
    """As `MobileNetV3Large`, with 576 channels before pooling and no published layer of 1024 after it."""

    def __init__(self, *, output_stride: int, taps: Sequence[str]):
        layers = {"layers": mobilenet_v3_small(weights=None).features}
        super().__init__(layers, SMALL, taps=taps, output_stride=output_stride)
