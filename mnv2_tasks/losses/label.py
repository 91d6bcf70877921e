"""Classification's training loss."""

import torch.nn.functional as F
from torch import Tensor

from mnv2_tasks.losses.focal import checked_gamma, focal_factor
from mnv2_tasks.losses.weighted import Weighted


class LabelCrossEntropy(Weighted):
    """Mean cross-entropy of the images.

    Class weights multiply; torch's own mean divides by them again, so that a batch of one class would not feel them.

    Args:
        label_smoothing: share of the truth that is spread over all classes (Szegedy et al. 2015, section 7).
        focal_gamma: of the focal loss; 0 is without.
    """

    def __init__(self, *, label_smoothing: float = 0.0, focal_gamma: float = 0.0):
        super().__init__()
        self.label_smoothing, self.focal_gamma = label_smoothing, checked_gamma(focal_gamma)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar of (B, K) logits and (B,) int64 labels, or (B, K) shares of the classes."""
        smoothing = self.label_smoothing
        if self.class_weights is None and not self.focal_gamma:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        entropy = F.cross_entropy(logits, labels, self.class_weights, reduction="none", label_smoothing=smoothing)
        if self.focal_gamma:
            entropy = entropy * focal_factor(F.cross_entropy(logits, labels, reduction="none"), self.focal_gamma)
        return entropy.mean()
