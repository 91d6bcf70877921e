"""SSD's training loss: classification of anchors, of background the hardest or all, and regression of the matched."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mnv2_tasks.boxes.coding import encode_boxes
from mnv2_tasks.boxes.matching import UNMATCHED, match_anchors
from mnv2_tasks.contracts import BoxTargets, SSDOutput
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.losses.focal import checked_gamma, focal_factor
from mnv2_tasks.losses.weighted import Weighted


class MultiBoxLoss(Weighted):
    """Cross-entropy plus smooth L1, each summed and divided by the number of matched anchors of the batch.

    Args:
        iou_threshold: an anchor that overlaps an object by this much answers for it; 0.5 in SSD and TF.
        negatives_per_positive: how many of the hardest background anchors count in each image, 3.
        min_negatives: of each image, also of one without objects, so that false alarms there are unlearned.
        box_weight: of the regression term.
        scores: "softmax" over the K + 1 classes, or "sigmoid" of each, background among them, as TF's SSDLite has it.
        focal_gamma: of the focal loss, in which all anchors count, easy ones little; 0: the hardest count instead.
        focal_alpha: there, the weight of anchors with an object; background has the rest of 1.
    """

    def __init__(
        self,
        *,
        iou_threshold: float,
        negatives_per_positive: float,
        min_negatives: int,
        box_weight: float,
        scores: str = "softmax",
        focal_gamma: float = 0.0,
        focal_alpha: float = 0.25,
    ):
        super().__init__()
        if not 0 < focal_alpha < 1:
            raise ConfigError(f"loss.focal_alpha={focal_alpha}: expected a share in (0, 1), such as 0.25")
        self.iou_threshold = iou_threshold
        self.negatives_per_positive = negatives_per_positive
        self.min_negatives = min_negatives
        self.box_weight = box_weight
        self.scores = scores
        self.focal_gamma, self.focal_alpha = checked_gamma(focal_gamma), focal_alpha

    def forward(self, output: SSDOutput, targets: BoxTargets) -> dict[str, Tensor]:
        """Scalar terms `class` and `box`; finite for images, and for batches, without objects."""
        class_logits, box_deltas, anchors = output
        match = match_anchors(targets.boxes, targets.valid, anchors, self.iou_threshold)  # (B, A)
        positive = match != UNMATCHED
        num_positives = positive.sum().clamp(min=1)

        # what an anchor is to learn stands at match + 1: before the objects of an image there is its background
        labels = F.pad(targets.labels, (1, 0), value=class_logits.shape[-1] - 1).gather(1, match + 1)
        entropy = self._entropy(class_logits.float(), labels)
        if self.focal_gamma:
            counted = torch.where(positive, self.focal_alpha, 1 - self.focal_alpha)
        else:
            counted = positive | self._hardest_negatives(entropy.detach(), positive)

        boxes = F.pad(targets.boxes, (0, 0, 1, 0)).gather(1, (match + 1)[..., None].expand(-1, -1, 4))
        wanted = encode_boxes(torch.where(positive[..., None], boxes, anchors), anchors)  # finite everywhere
        errors = F.smooth_l1_loss(box_deltas.float(), wanted, reduction="none").sum(dim=-1)
        return {
            "class": (entropy * counted * self.weights_of(labels)).sum() / num_positives,
            "box": self.box_weight * (errors * positive).sum() / num_positives,
        }

    def _entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, A) of (B, A, K + 1) logits and (B, A) labels."""
        if self.scores == "sigmoid":
            wanted = F.one_hot(labels, logits.shape[-1]).float()
            entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        else:
            entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(*labels.shape, 1)
        if self.focal_gamma:
            entropy = entropy * focal_factor(entropy, self.focal_gamma)
        return entropy.sum(dim=-1)

    def _hardest_negatives(self, entropy: Tensor, positive: Tensor) -> Tensor:
        """(B, A) bool: in each image, the background anchors with the largest loss."""
        wanted = (self.negatives_per_positive * positive.sum(1, keepdim=True)).clamp(min=self.min_negatives)
        order = entropy.masked_fill(positive, -torch.inf).argsort(dim=1, descending=True)
        rank = order.argsort(dim=1)  # of each anchor among its image's negatives, hardest 0
        return (rank < wanted) & ~positive
