"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mnv2_tasks.backbones.stride import check_taps, limit_stride
from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import Norm, ReLU6, batch_norm, conv_norm_act, init_convs, make_divisible

EXPANSION = 6.0  # the paper's, of every block but the first
TABLE_2 = [  # expansion t, channels c, repeats n, stride s of the first repeat
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
# tap -> index of the block after which it lies; c4_expand lies inside block 13, `final` after all of them
TAPS = {"c1": 0, "c2": 2, "c3": 5, "c4": 12, "c4_expand": 13, "c5": 16, "final": 17}
SHORTCUTS = ("bottleneck", "expansion", "none")


class InvertedResidual(nn.Module):
    """Widen, filter each channel, and project back without a non-linearity (paper table 1).

    `expand` and `depthwise` hold ReLU6; `project` is linear unless an ablation asks otherwise. The backbone runs
    the parts, because the taps and the ablations of section 6.4 lie between them.

    Args:
        expansion: channels within over those that come in, rounded as a width is, to 8 at least. At 1 nothing widens;
            below, the block is narrower within than at its ends, a classical bottleneck (section 3.4).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: float,
        stride: int,
        norm: Norm,
        padding: str,
        projection_activation: type[nn.Module] | None,
        only_expand: bool = False,
    ):
        super().__init__()
        self.hidden = hidden = make_divisible(in_channels * expansion)
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = conv_norm_act(in_channels, hidden, 1, norm=norm) if expansion != 1 else nn.Identity()
        if only_expand:
            return
        self.depthwise = conv_norm_act(hidden, hidden, 3, stride=stride, groups=hidden, norm=norm, padding=padding)
        self.project = conv_norm_act(hidden, out_channels, 1, norm=norm, activation=projection_activation)


class MobileNetV2(nn.Module):
    """Inverted residuals with linear bottlenecks (paper section 3, table 2), behind the `Backbone` contract.

    Args:
        width: multiplier on every layer but, below 1, the last convolution (section 4). 0.35 to 1.4 in the paper.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is built.
        expansion: of every block but the first, which does not widen. The paper finds 5 to 10 nearly alike (section 4).
        norm_eps, norm_momentum, padding: belong to the weights. torchvision: 1e-5, 0.1, "torch"; TF: 1e-3, 0.003,
            "same".
        projection_activation: "linear", or "relu6" for the ablation of figure 6a.
        shortcut: "bottleneck"; for figure 6b "expansion" (each block's filtered expansion is added to the next
            expansion of equal width: as many shortcuts, around the bottleneck) or "none".
        scale_final: also scale the last convolution below width 1, as the detectors of the MobileNetV3 paper do.

    Raises:
        ConfigError: an argument is out of range, or a tap is unknown.
    """

    def __init__(
        self,
        *,
        width: float,
        output_stride: int,
        taps: Sequence[str],
        expansion: float = EXPANSION,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        padding: str = "torch",
        projection_activation: str = "linear",
        shortcut: str = "bottleneck",
        scale_final: bool = False,
    ):
        super().__init__()
        check_taps(taps, list(TAPS), type(self).__name__)
        if not 0.1 <= width <= 4:
            raise ConfigError(f"width={width}: expected a multiplier between 0.1 and 4 (paper: 0.35 to 1.4)")
        if expansion is None or not 0.1 <= expansion <= 16:
            limit = "; at 0 no channel is left within, and a block is its shortcut" if expansion == 0 else ""
            raise ConfigError(f"expansion={expansion}: expected a factor between 0.1 and 16 (paper: 6){limit}")
        if projection_activation not in ("linear", "relu6"):
            raise ConfigError(f"projection_activation={projection_activation!r}: expected 'linear' or 'relu6'")
        if shortcut not in SHORTCUTS:
            raise ConfigError(f"shortcut={shortcut!r}: expected one of {SHORTCUTS}")
        self.shortcut, self.expansion = shortcut, expansion
        deepest = max(TAPS[tap] for tap in taps)
        norm = batch_norm(norm_eps, norm_momentum)

        channels = make_divisible(32 * width)
        self.stem = conv_norm_act(3, channels, 3, stride=2, norm=norm, padding=padding)
        rows = [(t, make_divisible(c * width), s if i == 0 else 1) for t, c, n, s in TABLE_2 for i in range(n)]
        blocks: list[InvertedResidual] = []
        for index, (t, out_channels, stride) in enumerate(rows[: deepest + 1]):
            block = InvertedResidual(
                channels,
                out_channels,
                expansion=expansion if t == EXPANSION else t,
                stride=stride,
                norm=norm,
                padding=padding,
                projection_activation=None if projection_activation == "linear" else ReLU6,
                only_expand=index == deepest == TAPS["c4_expand"],
            )
            blocks.append(block)
            channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        if "final" in taps:
            last = make_divisible(1280 * (width if scale_final else max(1.0, width)))
            self.final = conv_norm_act(channels, last, 1, norm=norm)
        init_convs(self)

        strides = limit_stride([self.stem, *self.blocks], output_stride)
        self.features: dict[str, FeatureSpec] = {}
        for tap, index in TAPS.items():
            if tap not in taps:
                continue
            if tap == "final":
                self.features[tap] = FeatureSpec(last, strides[-1])
            elif tap == "c4_expand":  # before the stride of its block: strides[i] is the stride before block i
                self.features[tap] = FeatureSpec(blocks[index].hidden, strides[index])
            else:
                self.features[tap] = FeatureSpec(rows[index][1], strides[index + 1])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = {}
        block_ends = {index: tap for tap, index in TAPS.items() if tap not in ("c4_expand", "final")}
        x, filtered = self.stem(images), None
        block: Any  # an InvertedResidual
        for index, block in enumerate(self.blocks):
            wide = block.expand(x)
            if self.shortcut == "expansion" and filtered is not None and filtered.shape[1] == wide.shape[1]:
                wide = wide + filtered
            if index == TAPS["c4_expand"] and "c4_expand" in self.features:
                features["c4_expand"] = wide
                if not hasattr(block, "project"):
                    break
            wide = block.depthwise(wide)
            projected = block.project(wide)
            filtered = wide if self.shortcut == "expansion" else None  # else free it: a third of the peak memory
            del wide
            x = x + projected if block.residual and self.shortcut == "bottleneck" else projected
            if block_ends.get(index) in self.features:
                features[block_ends[index]] = x
        if "final" in self.features:
            features["final"] = self.final(x)
        return features
