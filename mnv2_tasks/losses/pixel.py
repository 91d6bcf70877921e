"""Segmentation's training loss: every pixel is classified, and regions are compared as a whole."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.losses.focal import checked_gamma, focal_factor
from mnv2_tasks.losses.weighted import Weighted


class PixelCrossEntropy(Weighted):
    """Mean cross-entropy of the pixels that have a class; 0 where none has.

    Args:
        focal_gamma: of the focal loss; 0 is without.
        dice: weight of `dice_loss` beside it; 0 is without.
    """

    def __init__(self, *, focal_gamma: float = 0.0, dice: float = 0.0):
        super().__init__()
        self.focal_gamma, self.dice = checked_gamma(focal_gamma), dice

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Scalar of (B, K, H, W) logits and (B, H, W) masks with classes in [0, K), or IGNORE."""
        rows = logits.permute(0, 2, 3, 1).flatten(0, 2)  # (B * H * W, K): a view where they lie channels-last
        labels = masks.long().flatten()
        if self.focal_gamma:
            entropy = F.cross_entropy(rows, labels, ignore_index=IGNORE, reduction="none")
            known = torch.where(labels != IGNORE, labels, 0)
            total = (entropy * focal_factor(entropy, self.focal_gamma) * self.weights_of(known)).sum()
        else:
            total = F.cross_entropy(rows, labels, self.class_weights, ignore_index=IGNORE, reduction="sum")
        pixels = total / (masks != IGNORE).sum().clamp(min=1)
        return pixels + self.dice * dice_loss(rows, labels) if self.dice else pixels


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - 2 |P G| / (|P| + |G|), P the probabilities and G the truth: a small region counts as much as a large one.

    The mean over the classes that the labels hold, each over all rows; 0 where no row has a class. Of the forms of
    the loss the one that sums probabilities, not their squares (Sudre et al. 2017, arXiv:1707.03237, table 1).

    Args:
        logits: (N, K), a pixel in each row.
        labels: (N,) int64 in [0, K), or IGNORE.
    """
    known = labels != IGNORE
    shares = logits.float().softmax(dim=1) * known[:, None]
    right = shares.gather(1, torch.where(known, labels, 0)[:, None])[:, 0]
    bins = torch.where(known, labels, logits.shape[1])
    empty = shares.new_zeros(logits.shape[1] + 1)
    sizes = empty.index_add(0, bins, known.to(shares.dtype))[:-1]
    overlap = 2 * empty.index_add(0, bins, right)[:-1] / (shares.sum(dim=0) + sizes).clamp(min=1)
    present = sizes > 0
    return ((1 - overlap) * present).sum() / present.sum().clamp(min=1)
