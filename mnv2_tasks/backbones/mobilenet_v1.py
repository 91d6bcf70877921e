"""MobileNetV1 (Howard et al. 2017, arXiv:1704.04861)."""

from collections.abc import Sequence

from torch import Tensor, nn

from mnv2_tasks.backbones.stride import check_taps, limit_stride
from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import batch_norm, conv_norm_act, depthwise_separable, init_convs, make_divisible

TABLE_1 = [  # channels c, stride s of each depthwise-separable block
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
]
# tap -> index of the layer after which it lies, 0 = stem. No block widens its input first
TAPS = {"c1": 1, "c2": 3, "c3": 5, "c4": 11, "c4_expand": 11, "c5": 13, "final": 13}


class MobileNetV1(nn.Module):
    """Thirteen depthwise-separable convolutions (paper table 1), behind the `Backbone` contract.

    `c4_expand` is `c4` and `final` is `c5`: whoever asks for both gets the same tensor twice.

    Args:
        width: multiplier on every layer. 0.25 to 1 in the paper.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.
        norm_eps, norm_momentum, padding: belong to the weights. TF: 1e-3, 0.0003, "same".

    Raises:
        ConfigError: an argument is out of range, or a tap is unknown.
    """

    def __init__(
        self,
        *,
        width: float,
        output_stride: int,
        taps: Sequence[str],
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        padding: str = "torch",
    ):
        super().__init__()
        check_taps(taps, list(TAPS), type(self).__name__)
        if not 0.1 <= width <= 4:
            raise ConfigError(f"width={width}: expected a multiplier between 0.1 and 4 (paper: 0.25 to 1)")
        norm = batch_norm(norm_eps, norm_momentum)
        deepest = max(TAPS[tap] for tap in taps)

        channels = [make_divisible(c * width) for c in (32, *(c for c, _ in TABLE_1))]
        self.layers = nn.ModuleList([conv_norm_act(3, channels[0], 3, stride=2, norm=norm, padding=padding)])
        for (_, stride), before, after in zip(TABLE_1[:deepest], channels, channels[1:]):
            self.layers.append(depthwise_separable(before, after, stride=stride, norm=norm, padding=padding))
        init_convs(self)

        strides = limit_stride(list(self.layers), output_stride)
        self.features = {
            tap: FeatureSpec(channels[index], strides[index]) for tap, index in TAPS.items() if tap in taps
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features, x = {}, images
        for index, layer in enumerate(self.layers):
            x = layer(x)
            features |= {tap: x for tap in self.features if TAPS[tap] == index}
        return features
