"""SSD and SSDLite from one implementation (paper section 6.2; SSD: Liu et al. 2016)."""

import torch
from torch import Tensor, nn

from mnv2_tasks.boxes.anchors import anchors_per_cell, ssd_anchors
from mnv2_tasks.contracts import FeatureSpec, SSDOutput
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
        counts = anchors_per_cell(len(channels))
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
        anchors = ssd_anchors([(x.shape[2], x.shape[3]) for x in maps]).to(class_logits.device)
        return SSDOutput(class_logits, box_deltas, anchors)


def _rows(maps: list[Tensor], columns: int) -> Tensor:
    """[(B, a * columns, h, w)] -> (B, A, columns), cell-major then anchor, the order of `ssd_anchors`."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, columns) for m in maps], dim=1)


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
