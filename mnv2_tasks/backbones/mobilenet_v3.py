"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244): torchvision's layers behind our contract."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

from mnv2_tasks.backbones.stride import check_taps, limit_stride
from mnv2_tasks.contracts import FeatureSpec

# tap -> (index of torchvision's `features`, channels); c4_expand lies inside layer 13
TAPS = {
    "c1": (1, 16),
    "c2": (3, 24),
    "c3": (6, 40),
    "c4": (12, 112),
    "c4_expand": (13, 672),
    "c5": (15, 160),
    "final": (16, 960),
}
EXPAND = TAPS["c4_expand"][0]


class MobileNetV3Large(nn.Module):
    """Width 1.0, with squeeze-and-excitation and hard swish; batch norm as torchvision sets it (1e-3, 0.01).

    `layers.<i>` is torchvision's `features.<i>`, so its weights load after that one renaming.

    Args:
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.

    Raises:
        ConfigError: `output_stride` is out of range, or a tap is unknown.
    """

    def __init__(self, *, output_stride: int, taps: Sequence[str]):
        super().__init__()
        check_taps(taps, list(TAPS), type(self).__name__)
        deepest = max(TAPS[tap][0] for tap in taps)
        self.layers = nn.ModuleList(list(mobilenet_v3_large(weights=None).features)[: deepest + 1])
        if deepest == EXPAND:
            expand, *_ = self.layers[EXPAND].get_submodule("block").children()
            self.layers[EXPAND].block = nn.Sequential(expand)

        strides = limit_stride(list(self.layers), output_stride)
        self.features = {  # c4_expand lies before the stride of its layer
            tap: FeatureSpec(channels, strides[index - 1 if tap == "c4_expand" else index])
            for tap, (index, channels) in TAPS.items()
            if tap in taps
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features, x = {}, images
        for index, layer in enumerate(self.layers):
            if index == EXPAND:  # this block has no shortcut: running its parts is running it
                expand, *rest = layer.get_submodule("block").children()
                x = expand(x)
                if "c4_expand" in self.features:
                    features["c4_expand"] = x
                for part in rest:
                    x = part(x)
                continue
            x = layer(x)
            features |= {tap: x for tap in self.features if TAPS[tap][0] == index}
        return features
