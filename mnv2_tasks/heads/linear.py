"""The classifier of table 2: average pooling and one linear layer."""

import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.contracts import FeatureSpec


class LinearHead(nn.Module):
    """(B, channels, h, w) of the last map -> (B, num_classes) logits.

    Args:
        dropout: probability of *dropping*; slim's keep_prob 0.8 is 0.2 here.
    """

    taps = ("final",)

    def __init__(self, *, features: dict[str, FeatureSpec], num_classes: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features["final"].channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return self.linear(self.dropout(F.adaptive_avg_pool2d(features["final"], 1).flatten(1)))
