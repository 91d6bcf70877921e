"""Semantic segmentation with DeepLabv3 or its mobile reduction."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.contracts import Frames, Head, SegmentationBatch
from mnv2_tasks.losses.pixel import PixelCrossEntropy
from mnv2_tasks.metrics.mean_iou import MeanIoU


class SegmentationTask(nn.Module):
    """Per-pixel cross-entropy at full resolution; mean IoU.

    Args:
        head: returns (B, K, h, w) logits. They are upsampled with align_corners=True, as in TF's DeepLab.
        loss: maps (B, K, H, W) logits and (B, H, W) masks to a scalar. None: `PixelCrossEntropy`, which is what configs
            of before 0.2 mean; they name no loss.
    """

    kind = "segmentation"

    def __init__(self, *, head: Head, class_names: list[str], loss: nn.Module | None = None):
        super().__init__()
        self.head = head
        self.class_names = class_names
        self.criterion = PixelCrossEntropy() if loss is None else loss
        self.metric = MeanIoU(class_names)

    def loss(self, output: Tensor, batch: SegmentationBatch) -> dict[str, Tensor]:
        """A batch whose every pixel is IGNORE has loss 0."""
        return {"pixel": self.criterion(_upsample(output, batch.masks.shape[1:]), batch.masks)}

    def results(self, output: Tensor, frames: Frames) -> list[Tensor]:
        """Class maps, each (h, w) int64 of its image's original size."""
        # with a pixel's scores side by side the upsampling and the maximum take two thirds of the time
        return self.class_maps(output.contiguous(memory_format=torch.channels_last), frames)

    def probabilities(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, K, *size) of every pixel of the network's input, at any size of it."""
        return _upsample(output, size).softmax(dim=1)

    def class_maps(self, scores: Tensor, frames: Frames) -> list[Tensor]:
        """(B, K, h, w) scores over the network's input, larger is better -> `results`."""
        maps = []
        places = (frames.corners(), frames.content_sizes, frames.original_sizes)
        for row, (top, left), content, original in zip(scores, *(place.tolist() for place in places)):
            row = row[None]
            if content != list(frames.input_size):  # the image fills a part of the input
                row = _upsample(row, frames.input_size)[..., top : top + content[0], left : left + content[1]]
            if list(row.shape[2:]) != original:
                row = _upsample(row, original)
            # max is several times faster than argmax where a class's scores lie side by side, as those of views do
            maps.append(row.max(dim=1).indices[0])
        return maps


def _upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits.float(), size=tuple(size), mode="bilinear", align_corners=True)
