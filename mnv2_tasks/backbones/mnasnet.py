"""MnasNet-B1 (Tan et al. 2018, arXiv:1807.11626): torchvision's layers behind our contract."""

from collections.abc import Sequence

from torchvision.models import mnasnet0_5, mnasnet0_75, mnasnet1_0, mnasnet1_3

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.backbones.stride import check_width

WIDTHS = {0.5: mnasnet0_5, 0.75: mnasnet0_75, 1.0: mnasnet1_0, 1.3: mnasnet1_3}
POSITIONS = {
    "c1": "layers.7",
    "c2": "layers.8",
    "c3": "layers.9",
    "c4": "layers.11",
    "c4_expand": "layers.12.0.layers.2",  # after the widening inside the first block of stride 32
    "c5": "layers.13",
    "final": "layers.16",
}


class MnasNet(LayersWithTaps):
    """Inverted residuals with 3x3 and 5x5 convolutions, without squeeze-and-excitation. Names are torchvision's.

    Args:
        width: 0.5, 0.75, 1 or 1.3, those that torchvision has.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.

    Raises:
        ConfigError: an argument is out of range, or a tap is unknown.
    """

    def __init__(self, *, width: float, output_stride: int, taps: Sequence[str]):
        check_width(width, WIDTHS, type(self).__name__)
        layers = {"layers": WIDTHS[width](weights=None).layers}
        super().__init__(layers, POSITIONS, taps=taps, output_stride=output_stride)
