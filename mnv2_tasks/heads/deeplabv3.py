"""DeepLabv3 and its mobile reduction (paper section 6.3; Chen et al. 2017)."""

import torch
from torch import Tensor, nn

from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.layers import batch_norm, conv_norm_act, init_convs


class DeepLabV3Head(nn.Module):
    """Image pooling, a 1x1 branch and, with `atrous_rates`, dilated 3x3 branches, concatenated: "ASPP".

    Without rates this is Mobile-DeepLabv3, half the cost for 0.4 points of mIoU (table 7). The 3x3
    branches are regular convolutions: separable ones would not give the paper's 4.52 M parameters.

    Args:
        atrous_rates: for output stride 16, such as (6, 12, 18); scaled to the stride that the backbone was built with.
        channels: of each branch and of the projection, 256 in the paper.
        dropout: probability of dropping before the logits (TF keeps 0.9).

    Returns:
        (B, num_classes, ceil(H / s), ceil(W / s)) logits. The task upsamples them.
    """

    taps = ("c5",)

    def __init__(
        self,
        *,
        features: dict[str, FeatureSpec],
        num_classes: int,
        atrous_rates: list[int],
        channels: int,
        dropout: float,
        norm_momentum: float = 0.1,
    ):
        super().__init__()
        spec = features["c5"]
        norm = batch_norm(1e-5, norm_momentum)

        def branch(in_channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
            return conv_norm_act(in_channels, channels, kernel, dilation=dilation, norm=norm, activation=nn.ReLU)

        self.pool = branch(spec.channels, 1)
        self.pointwise = branch(spec.channels, 1)
        self.atrous = nn.ModuleList(branch(spec.channels, 3, max(1, r * 16 // spec.stride)) for r in atrous_rates)
        self.project = branch(channels * (2 + len(atrous_rates)), 1)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        init_convs(self)
        nn.init.trunc_normal_(self.logits.weight, std=0.01)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        x = features["c5"]  # (B, C, h, w)
        # (B, channels, h, w); a product, because LiteRT's converter goes wrong at expand()
        # contiguous: torch's exporter cannot order the strides of a single channel, channels last; and back again,
        # because cat() makes all of it channels first if one part is
        ones = torch.ones_like(x[:, :1], memory_format=torch.contiguous_format)
        pooled = (self.pool(x.mean((2, 3), keepdim=True)) * ones).contiguous(memory_format=torch.channels_last)
        x = torch.cat([pooled, self.pointwise(x), *(branch(x) for branch in self.atrous)], dim=1)
        return self.logits(self.dropout(self.project(x)))
