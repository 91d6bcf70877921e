"""EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946): torchvision's layers behind our contract."""

from collections.abc import Sequence

from torchvision.models import efficientnet_b0

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps

POSITIONS = {
    "c1": "layers.1",
    "c2": "layers.2",
    "c3": "layers.3",
    "c4": "layers.5",
    "c4_expand": "layers.6.0.block.0",  # after the widening inside the first block of stride 32
    "c5": "layers.7",
    "final": "layers.8",
}


class EfficientNetB0(LayersWithTaps):
    """Inverted residuals with squeeze-and-excitation and SiLU; blocks are dropped at random in training, up to 0.2.

    `layers.<i>` is torchvision's `features.<i>`.

    Args:
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.

    Raises:
        ConfigError: `output_stride` is out of range, or a tap is unknown.
    """

    def __init__(self, *, output_stride: int, taps: Sequence[str]):
        layers = {"layers": efficientnet_b0(weights=None).features}
        super().__init__(layers, POSITIONS, taps=taps, output_stride=output_stride)
