"""Segmentation's training loss: every pixel is classified."""

import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.contracts import IGNORE


class PixelCrossEntropy(nn.Module):
    """Mean cross-entropy of the pixels that have a class; 0 where none has."""

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Scalar of (B, K, H, W) logits and (B, H, W) masks with classes in [0, K), or IGNORE."""
        rows = logits.permute(0, 2, 3, 1).flatten(0, 2)  # (B * H * W, K): a view where they lie channels-last
        total = F.cross_entropy(rows, masks.long().flatten(), ignore_index=IGNORE, reduction="sum")
        return total / (masks != IGNORE).sum().clamp(min=1)
