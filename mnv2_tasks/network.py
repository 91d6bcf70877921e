"""One backbone and its tasks: the plain PyTorch module that trains, predicts and is exported."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.contracts import Backbone, Batch, Frames, Task


class Network(nn.Module):
    """uint8 pictures in, results of every task out, from a single pass through the backbone.

    Args:
        mean, std: per channel, of pixels in [0, 255]. They are buffers because they belong to the weights: a network
            trained on [-1, 1] inputs and one trained with ImageNet statistics are called alike.
    """

    def __init__(self, *, backbone: Backbone, tasks: dict[str, Task], mean: list[float], std: list[float]):
        super().__init__()
        self.backbone = backbone
        self.tasks = nn.ModuleDict(tasks)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) uint8, or float in [0, 255] -> the backbone's taps."""
        normalised = (images.float() - self.mean) / self.std
        # with 3 channels a view can count as either layout; ask for the one that convolutions are fast in
        return self.backbone(normalised.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> dict[str, Any]:
        """What each head returns, by task name."""
        features = self.features(images)
        return {name: task.head(features) for name, task in self.tasks.items()}

    def loss(self, batches: dict[str, Batch]) -> dict[str, dict[str, Tensor]]:
        """{task name: {term: scalar}}; every task has its own images."""
        return {name: self.tasks[name].loss(self.features(batch.images), batch) for name, batch in batches.items()}

    def predict(self, images: Tensor, frames: Frames) -> dict[str, Any]:
        """Results of every task in the pixels of the original images, by task name."""
        features = self.features(images)
        return {name: task.predict(features, frames) for name, task in self.tasks.items()}

    def predict_views(
        self, task: str, images: Tensor, frames: Frames, *, scales: Sequence[float], flip: bool
    ) -> list[Tensor]:
        """Class maps from the mean of the probabilities at several scales, each also mirrored (DeepLabv3, section 4.1).

        The sum grows in place, so that memory is that of one view; sizes are TF DeepLab's, scale * (side - 1) + 1.

        Args:
            task: a segmentation task.
        """
        segmenter, size = self.tasks[task], frames.input_size
        total = None
        for scale in scales:
            scaled = tuple(round(scale * (side - 1)) + 1 for side in size)
            view = F.interpolate(images.float(), size=scaled, mode="bilinear", align_corners=True)
            for mirrored in (False, True)[: 1 + flip]:
                features = self.features(view.flip(3) if mirrored else view)
                probabilities = segmenter.probabilities(features, size)
                probabilities = probabilities.flip(3) if mirrored else probabilities
                total = probabilities if total is None else total.add_(probabilities)
        return segmenter.class_maps(total, frames)
