"""One backbone and its tasks: the plain PyTorch module that trains, predicts and is exported."""

from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.contracts import Backbone, Batch, Task


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

    def predict(self, images: Tensor, original_sizes: Tensor) -> dict[str, Any]:
        """Results of every task in the frame of the original images, by task name."""
        features = self.features(images)
        return {name: task.predict(features, original_sizes) for name, task in self.tasks.items()}
