"""Our network trained as torchvision's references train: their augmentation, detector and losses, no averaged weights.

From references/{classification,detection,segmentation}/train.py; optimizer and schedule are the caller's.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection.ssd import SSD

from mnv2_tasks.bench.data_reference import MEAN, STD, classification, detection_pictures, segmentation
from mnv2_tasks.contracts import IGNORE, Detections, Frames
from mnv2_tasks.network.network import Network

Predict = Callable[[str, Tensor, Frames], Any]


class Reference(NamedTuple):
    pictures: Callable[[list[int]], Any]  # indices of training images -> a batch
    loss: Callable[[Any], Tensor]  # of that
    predict: Predict | None  # its own post-processing; None: ours, there is nothing to differ in


def reference_of(network: Network, task: str, source: Any, size: int) -> Reference:
    part: Any = network.tasks[task]

    def output(images: Tensor) -> Any:
        return part.head(network.backbone(images.contiguous(memory_format=torch.channels_last)))

    if part.kind == "classification":
        return Reference(classification(source, size), lambda batch: F.cross_entropy(output(batch[0]), batch[1]), None)
    if part.kind == "segmentation":

        def pixel_loss(batch: Any) -> Tensor:
            images, masks = batch
            logits = F.interpolate(output(images), masks.shape[-2:], mode="bilinear", align_corners=False)
            return F.cross_entropy(logits, masks.squeeze(1), ignore_index=IGNORE)

        return Reference(segmentation(source, size), pixel_loss, None)
    model = _detector(network, task, size)

    def boxes_loss(batch: Any) -> Tensor:
        images, targets = batch
        terms = model(images, [{**target, "labels": target["labels"] + 1} for target in targets])
        return torch.stack(list(terms.values())).sum()

    def predict(name: str, images: Tensor, frames: Frames) -> list[Detections]:
        model.eval()
        found = model(list(images.float() / 255))
        sides = torch.tensor([*frames.input_size[::-1], *frames.input_size[::-1]])
        return [
            Detections(boxes["boxes"] / sides * original.flip(0).repeat(2), boxes["scores"], boxes["labels"] - 1)
            for boxes, original in zip(found, frames.original_sizes)
        ]

    return Reference(detection_pictures(source), boxes_loss, predict)


def batches_of(
    reference: Reference, images: int, *, batch: int, epochs: int, steps: int, seed: int, workers: int
) -> Iterator[Any]:
    """So many of every epoch: shuffled, the incomplete one left out."""
    indices: Any = range(images)
    loader = DataLoader(
        indices,
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        collate_fn=reference.pictures,
        generator=torch.Generator().manual_seed(seed),
    )
    for _ in range(epochs):
        yield from islice(loader, steps)


def train_as_reference(
    network: Network,
    reference: Reference,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    precision: str,
) -> None:
    """
    Args:
        precision: as Lightning calls it: 32-true, or bf16-mixed.
    """
    network.train()
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = reference.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _detector(network: Network, task: str, size: int) -> SSD:
    """torchvision's SSD, with its matching, loss and post-processing, on our backbone, head and anchors."""
    head: Any = network.tasks[task].head
    anchors: Any = _Anchors()
    settings = {"image_mean": MEAN, "image_std": STD, "head": _Head(head, anchors)}
    return SSD(_Maps(network), anchors, (size, size), head.num_columns, **settings)


class _Maps(nn.Module):
    def __init__(self, network: Network):
        super().__init__()
        self.backbone = network.backbone

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict(self.backbone(images.contiguous(memory_format=torch.channels_last)))


class _Anchors(nn.Module):
    """Those that our head computed with its last output, in pixels."""

    fractions: Tensor

    def forward(self, images: Any, maps: list[Tensor]) -> list[Tensor]:
        height, width = images.tensors.shape[-2:]
        return [self.fractions * torch.tensor([width, height, width, height])] * len(images.image_sizes)


class _Head(nn.Module):
    """Ours, with the background first."""

    def __init__(self, head: Any, anchors: _Anchors):
        super().__init__()
        self.head, self.anchors = head, anchors

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        output = self.head(dict(zip(self.head.taps, maps)))
        self.anchors.fractions = output.anchors
        return {"bbox_regression": output.box_deltas, "cls_logits": output.class_logits.roll(1, dims=-1)}
