"""SSD and SSDLite from one implementation (paper section 6.2; SSD: Liu et al. 2016)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnv2_tasks.boxes.anchors import FIRST_MAP, RATIOS, anchor_shapes, ssd_anchors, tf_scales
from mnv2_tasks.contracts import FeatureSpec, SSDOutput
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import Norm, batch_norm, conv_norm_act, depthwise_separable, init_convs


class SSDHead(nn.Module):
    """Predicts K + 1 class logits and 4 offsets for each anchor of six feature maps.

    The first two maps come from the backbone: the stride-16 expansion and the last map. Four extra maps follow, each
    half the size. `lite=True` makes every 3x3 convolution depthwise-separable ("SSDLite"): that is the one difference.

    Args:
        extra_channels: of the four extra maps; the 1x1 convolution before each has half as many.
        width: multiplies `extra_channels`, not below 16 (TF's min_depth), as the backbone's width does its layers.
        lite: depthwise-separable extras and predictors.
        norm_eps, norm_momentum: batch norm; TF's 1e-3 and 0.03 suit the head at large batches.
        padding: of the extra maps' strided convolutions: "torch", or TF's "same"; belongs to the weights.
        first_map_anchors, anchor_scales, anchor_ratios: see `anchor_shapes`; they belong to the weights, too. Without
            `anchor_scales` TF's for this number of maps.

    Raises:
        ConfigError: not a scale for each map but the first, or a scale or ratio that is not above 0.
    """

    taps = ("c4_expand", "final")

    def __init__(
        self,
        *,
        features: dict[str, FeatureSpec],
        num_classes: int,
        extra_channels: list[int],
        width: float,
        lite: bool,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.03,
        padding: str = "torch",
        first_map_anchors: Sequence[Sequence[float]] = FIRST_MAP,
        anchor_scales: Sequence[float] | None = None,
        anchor_ratios: Sequence[float] = RATIOS,
    ):
        super().__init__()
        norm = batch_norm(norm_eps, norm_momentum)
        channels = [features[tap].channels for tap in self.taps]
        self.extras = nn.ModuleList()
        for extra in extra_channels:
            out_channels, hidden = (max(16, int(width * c)) for c in (extra, extra // 2))
            self.extras.append(
                nn.Sequential(
                    conv_norm_act(channels[-1], hidden, 1, norm=norm),
                    _halve(hidden, out_channels, lite=lite, norm=norm, padding=padding),
                )
            )
            channels.append(out_channels)
        self.num_columns = num_classes + 1
        anchor_scales = tf_scales(len(channels)) if anchor_scales is None else anchor_scales
        _check_anchors(first_map_anchors, anchor_scales, anchor_ratios, num_maps=len(channels))
        self.anchor_shapes = anchor_shapes(first_map_anchors, anchor_scales, anchor_ratios)
        counts = [len(shapes) for shapes in self.anchor_shapes]
        self.class_predictors = nn.ModuleList(
            _predictor(c, a * self.num_columns, lite=lite, norm=norm) for c, a in zip(channels, counts)
        )
        self.box_predictors = nn.ModuleList(
            _predictor(c, a * 4, lite=lite, norm=norm) for c, a in zip(channels, counts)
        )
        init_convs(self, std=0.03)

    def forward(self, features: dict[str, Tensor]) -> SSDOutput:
        maps = [features[tap] for tap in self.taps]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        class_logits = _rows([p(x) for p, x in zip(self.class_predictors, maps)], self.num_columns)
        box_deltas = _rows([p(x) for p, x in zip(self.box_predictors, maps)], 4)
        # last, because torch.compile's graph ends here
        anchors = ssd_anchors([(x.shape[2], x.shape[3]) for x in maps], self.anchor_shapes)
        return SSDOutput(class_logits, box_deltas, anchors.to(class_logits.device, non_blocking=True))


def _rows(maps: list[Tensor], columns: int) -> Tensor:
    """[(B, a * columns, h, w)] -> (B, A, columns), cell-major then anchor, the order of `ssd_anchors`."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, columns) for m in maps], dim=1)


def _check_anchors(
    first_map: Sequence[Sequence[float]], scales: Sequence[float], ratios: Sequence[float], *, num_maps: int
) -> None:
    if not first_map or not all(isinstance(a, list | tuple) and len(a) == 2 and min(a) > 0 for a in first_map):
        raise ConfigError(f"head.first_map_anchors={first_map}: expected [scale, width / height] of each, above 0")
    if len(scales) != num_maps - 1:
        raise ConfigError(
            f"head.anchor_scales={scales}: expected {num_maps - 1}, one for each map but the first; "
            f"maps are the backbone's 2 and one for each of head.extra_channels"
        )
    for key, values in (("anchor_scales", scales), ("anchor_ratios", ratios)):
        if not all(value > 0 for value in values):
            raise ConfigError(f"head.{key}={values}: expected numbers above 0")


def _halve(in_channels: int, out_channels: int, *, lite: bool, norm: Norm, padding: str) -> nn.Sequential:
    if lite:
        return depthwise_separable(in_channels, out_channels, stride=2, norm=norm, padding=padding)
    return conv_norm_act(in_channels, out_channels, 3, stride=2, norm=norm, padding=padding)


def _predictor(in_channels: int, out_channels: int, *, lite: bool, norm: Norm) -> nn.Module:
    if not lite:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(
        conv_norm_act(in_channels, in_channels, 3, groups=in_channels, norm=norm),
        nn.Conv2d(in_channels, out_channels, 1),
    )
