"""Semantic segmentation with DeepLabv3 or its mobile reduction."""

import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.contracts import IGNORE, Head, SegmentationBatch
from mnv2_tasks.metrics.mean_iou import MeanIoU


class SegmentationTask(nn.Module):
    """Per-pixel cross-entropy at full resolution; mean IoU.

    Args:
        head: returns (B, K, h, w) logits. They are upsampled with align_corners=True, as in TF's DeepLab.
    """

    kind = "segmentation"

    def __init__(self, *, head: Head, class_names: list[str]):
        super().__init__()
        self.head = head
        self.class_names = class_names
        self.metric = MeanIoU(class_names)

    def loss(self, features: dict[str, Tensor], batch: SegmentationBatch) -> dict[str, Tensor]:
        """A batch whose every pixel is IGNORE has loss 0."""
        logits = _upsample(self.head(features), batch.masks.shape[1:])
        total = F.cross_entropy(logits, batch.masks, ignore_index=IGNORE, reduction="sum")
        return {"pixel": total / (batch.masks != IGNORE).sum().clamp(min=1)}

    def predict(self, features: dict[str, Tensor], original_sizes: Tensor) -> list[Tensor]:
        """Class maps, each (h, w) int64 of its image's original size."""
        logits = self.head(features)
        sizes = [tuple(size) for size in original_sizes.tolist()]
        # max is several times faster than argmax on a channels-first map
        return [_upsample(row[None], size).max(dim=1).indices[0] for row, size in zip(logits, sizes)]


def _upsample(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=True)
