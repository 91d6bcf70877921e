"""Auxiliary classifiers: in training they learn beside the tasks' own, to help the layers below them."""

import torch
from torch import Tensor, nn

from mnv2_tasks.backbones.output_shapes import output_shapes
from mnv2_tasks.contracts import Batch
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.heads.auxiliary import AuxiliaryHead
from mnv2_tasks.network.network import Network


class AuxiliaryLoss(nn.Module):
    """The loss of an `AuxiliaryHead` for each classification task, as a further term of that task.

    It is no part of the network: exports, weights and counts of parameters are without it. Checkpoints of the run hold
    it, beside the network.

    Args:
        network: with the tap of the head.
        weight: of the loss, 0.4 in the paper.
        imgsz: side of the training images, in pixels.

    Raises:
        ConfigError: there is no classification task, or the images are too small.
    """

    def __init__(self, network: Network, *, weight: float, imgsz: int):
        super().__init__()
        self.weight = weight
        tasks = {name: task for name, task in network.tasks.items() if task.kind == "classification"}
        if not tasks:
            raise ConfigError(f"auxiliary={weight}: is for classification; {', '.join(network.tasks)} cannot use it")
        if "backbone" in network.frozen:
            raise ConfigError(f"auxiliary={weight}: helps the backbone alone, which is frozen; set auxiliary=0")
        _, height, width = output_shapes(network.backbone, (imgsz, imgsz))["auxiliary"]
        self.heads = nn.ModuleDict(
            {
                name: AuxiliaryHead(
                    features=network.backbone.features, map_size=(height, width), num_classes=len(task.class_names)
                )
                for name, task in tasks.items()
            }
        )

    def forward(
        self, network: Network, features: dict[str, dict[str, Tensor]], batches: dict[str, Batch]
    ) -> dict[str, Tensor]:
        """{classification task: its further term}.

        Args:
            features: the backbone's, of each task's batch.
        """
        losses: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            terms = network.tasks[name].loss(head(features[name]), batches[name])
            losses[name] = self.weight * torch.stack(list(terms.values())).sum()
        return losses
