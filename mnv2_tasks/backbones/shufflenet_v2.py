"""ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164): torchvision's layers behind our contract."""

from collections.abc import Sequence

from torchvision.models import shufflenet_v2_x0_5, shufflenet_v2_x1_0, shufflenet_v2_x1_5, shufflenet_v2_x2_0

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.backbones.stride import check_width

WIDTHS = {0.5: shufflenet_v2_x0_5, 1.0: shufflenet_v2_x1_0, 1.5: shufflenet_v2_x1_5, 2.0: shufflenet_v2_x2_0}
POSITIONS = {
    "c1": "conv1",
    "c2": "maxpool",
    "c3": "stage2",
    "c4": "stage3",
    "c4_expand": "stage3",
    "c5": "stage4",
    "final": "conv5",
}


class ShuffleNetV2(LayersWithTaps):
    """Units that split their channels, work on one half and shuffle. Names are torchvision's. `c4_expand` is `c4`.

    Args:
        width: 0.5, 1, 1.5 or 2, those that torchvision has.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; no stage past the deepest one is built.

    Raises:
        ConfigError: an argument is out of range, or a tap is unknown.
    """

    def __init__(self, *, width: float, output_stride: int, taps: Sequence[str]):
        check_width(width, WIDTHS, type(self).__name__)
        layers = dict(WIDTHS[width](weights=None).named_children())
        del layers["fc"]
        super().__init__(layers, POSITIONS, taps=taps, output_stride=output_stride)
