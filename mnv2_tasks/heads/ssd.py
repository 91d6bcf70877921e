"""SSD and SSDLite from one implementation (paper section 6.2; SSD: Liu et al. 2016)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.boxes.anchors import FIRST_MAP, RATIOS, anchor_shapes, ssd_anchors, tf_scales
from mnv2_tasks.contracts import FeatureSpec, SSDOutput
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import Norm, batch_norm, conv_norm_act, depthwise_separable, init_convs

HALVING = (3, 2, 1)  # kernel, stride, padding


class SSDHead(nn.Module):
    """Predicts K + 1 class logits and 4 offsets for each anchor of six feature maps.

    The first two maps come from the backbone: the stride-16 expansion and the last map. Four extra maps follow, each
    half the size. `lite=True` makes every 3x3 convolution depthwise-separable ("SSDLite"): that is the one difference.
    Without batch norm, and with other windows, it is the head of SSD300 and SSD512 on VGG-16.

    Args:
        extra_channels: of the extra maps; the 1x1 convolution before each has half as many.
        width: multiplies `extra_channels`, not below 16 (TF's min_depth), as the backbone's width does its layers.
        lite: depthwise-separable extras and predictors.
        with_norm: batch norm and ReLU6 behind the extra maps' convolutions; False: a bias and ReLU, and Caffe's initial
            weights, as on VGG-16.
        extra_windows: without norm, (kernel, stride, padding) of each extra map's second convolution; None: 3, 2, 1.
        norm_eps, norm_momentum: batch norm; TF's 1e-3 and 0.03 suit the head at large batches.
        padding: of the extra maps' strided convolutions: "torch", or TF's "same"; belongs to the weights.
        first_map_anchors, anchor_scales, anchor_ratios, anchor_last_scale: see `anchor_shapes`; they belong to the
            weights, too. Without `anchor_scales` TF's for this number of maps.
        anchor_cells: of each map, see `grid_anchors`; of one size of input.

    Raises:
        ConfigError: not a scale for each map that needs one, a scale or ratio that is not above 0, or windows or
            `with_norm=False` that do not go with the rest.
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
        with_norm: bool = True,
        extra_windows: Sequence[Sequence[int]] | None = None,
        first_map_anchors: Sequence[Sequence[float]] | None = FIRST_MAP,
        anchor_scales: Sequence[float] | None = None,
        anchor_ratios: Sequence[float] | Sequence[Sequence[float]] = RATIOS,
        anchor_last_scale: float = 1.0,
        anchor_cells: Sequence[float] | None = None,
    ):
        super().__init__()
        _check_windows(extra_windows, with_norm=with_norm, lite=lite, num_extras=len(extra_channels))
        norm = batch_norm(norm_eps, norm_momentum)
        channels = [features[tap].channels for tap in self.taps]
        self.stride = features[self.taps[0]].stride
        self.extras = nn.ModuleList()
        for extra, window in zip(extra_channels, extra_windows or [HALVING] * len(extra_channels)):
            out_channels, hidden = (max(16, int(width * c)) for c in (extra, extra // 2))
            if with_norm:
                first = conv_norm_act(channels[-1], hidden, 1, norm=norm)
                second = _halve(hidden, out_channels, lite=lite, norm=norm, padding=padding)
            else:
                first, second = _plain(channels[-1], hidden, (1, 1, 0)), _plain(hidden, out_channels, window)
            self.extras.append(nn.Sequential(first, second))
            channels.append(out_channels)
        self.num_columns = num_classes + 1
        anchor_scales = tf_scales(len(channels)) if anchor_scales is None else anchor_scales
        shapes = (first_map_anchors, anchor_scales, anchor_ratios, anchor_last_scale)
        _check_anchors(*shapes, anchor_cells, num_maps=len(channels))
        self.anchor_shapes, self.anchor_cells = anchor_shapes(*shapes), anchor_cells
        counts = [len(shapes) for shapes in self.anchor_shapes]
        self.class_predictors = nn.ModuleList(
            _predictor(c, a * self.num_columns, lite=lite, norm=norm) for c, a in zip(channels, counts)
        )
        self.box_predictors = nn.ModuleList(
            _predictor(c, a * 4, lite=lite, norm=norm) for c, a in zip(channels, counts)
        )
        if with_norm:
            init_convs(self, std=0.03)
        else:
            init_convs(self, mode="caffe")

    def forward(self, features: dict[str, Tensor]) -> SSDOutput:
        maps = [features[tap] for tap in self.taps]
        self._check_size(maps[0].shape[3])
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        class_logits = _rows([p(x) for p, x in zip(self.class_predictors, maps)], self.num_columns)
        box_deltas = _rows([p(x) for p, x in zip(self.box_predictors, maps)], 4)
        # last, because torch.compile's graph ends here
        anchors = ssd_anchors([(x.shape[2], x.shape[3]) for x in maps], self.anchor_shapes, self.anchor_cells)
        return SSDOutput(class_logits, box_deltas, anchors.to(class_logits.device, non_blocking=True))

    def _check_size(self, width: int) -> None:
        if self.anchor_cells is not None and width != math.ceil(self.anchor_cells[0]):
            side = round(self.anchor_cells[0] * self.stride)
            raise ConfigError(
                f"head.anchor_cells={self.anchor_cells}: are of an input of {side} px, this one has about "
                f"{width * self.stride}: say imgsz={side}, or head.anchor_cells=null"
            )


def _rows(maps: list[Tensor], columns: int) -> Tensor:
    """[(B, a * columns, h, w)] -> (B, A, columns), cell-major then anchor, the order of `ssd_anchors`."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, columns) for m in maps], dim=1)


def _check_windows(windows: Sequence[Sequence[int]] | None, *, with_norm: bool, lite: bool, num_extras: int) -> None:
    if lite and not with_norm:
        raise ConfigError("head.with_norm=false: SSDLite has batch norm; say head.lite=false too")
    if windows is None:
        return
    if with_norm:
        raise ConfigError("head.extra_windows: are of a head without batch norm; say head.with_norm=false too")
    if len(windows) != num_extras or not all(len(w) == 3 and w[0] > 0 and w[1] > 0 and w[2] >= 0 for w in windows):
        raise ConfigError(
            f"head.extra_windows={windows}: expected [kernel, stride, padding] of each of {num_extras} extra maps"
        )


def _check_anchors(
    first_map: Sequence[Sequence[float]] | None,
    scales: Sequence[float],
    ratios: Sequence[Any],
    last_scale: float,
    cells: Sequence[float] | None,
    *,
    num_maps: int,
) -> None:
    if first_map is not None and (
        not first_map or not all(isinstance(a, list | tuple) and len(a) == 2 and min(a) > 0 for a in first_map)
    ):
        raise ConfigError(f"head.first_map_anchors={first_map}: expected [scale, width / height] of each, above 0")
    others, which = (num_maps, "") if first_map is None else (num_maps - 1, " but the first")
    maps = "maps are the backbone's 2 and one for each of head.extra_channels"
    if len(scales) != others:
        raise ConfigError(f"head.anchor_scales={scales}: expected {others}, one for each map{which}; {maps}")
    of_each = ratios if ratios and isinstance(ratios[0], list | tuple) else [ratios] * others
    if len(of_each) != others or not all(isinstance(own, list | tuple) and own for own in of_each):
        raise ConfigError(
            f"head.anchor_ratios={ratios}: expected numbers, or {others} lists of them, one for each map{which}; {maps}"
        )
    if cells is not None and len(cells) != num_maps:
        raise ConfigError(f"head.anchor_cells={cells}: expected {num_maps}, one for each map; {maps}")
    flat = [ratio for own in of_each for ratio in own]
    for key, given, values in (
        ("anchor_scales", scales, scales), ("anchor_ratios", ratios, flat), ("anchor_cells", cells, cells or []),
        ("anchor_last_scale", last_scale, [last_scale]),
    ):  # fmt: skip
        if not all(isinstance(value, int | float) and value > 0 for value in values):
            raise ConfigError(f"head.{key}={given}: expected numbers above 0")


def _plain(in_channels: int, out_channels: int, window: Sequence[int]) -> nn.Sequential:
    kernel, stride, padding = window
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, padding), nn.ReLU(inplace=True))


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
