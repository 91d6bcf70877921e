"""What is written to a file: pixels in, results out, every shape known from the input's alone."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from mnv2_tasks.boxes.coding import decode_boxes
from mnv2_tasks.contracts import SSDOutput
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.nms import suppress
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.network import Network
from mnv2_tasks.runtimes.formats import LARGEST, OUTPUTS, SMALLEST, output_names

Suppress = Callable[[Tensor, Tensor, Tensor, float, int], tuple[Tensor, Tensor]]


class Graph(nn.Module):
    """A network with its batch norms folded, normalisation before it and post-processing behind it.

    Called with (B, H, W, 3) uint8 RGB pixels that were fitted to the network's input (data/fit.py), it returns a flat
    tuple named by `output_names`, of every task from one pass:

        probabilities  (B, K) float32
        boxes          (B, M, 4) float32 xyxy pixels of the input, M = max_detections; beyond `counts` all are 0
        scores         (B, M) float32, descending
        labels         (B, M) int64
        counts         (B,) int64: how many of the M there are
        class_map      (B, H, W) uint8

    Args:
        suppress: how boxes are chosen, see nms.py.
    """

    def __init__(self, network: Network, suppress: Suppress = suppress):
        super().__init__()
        self.network = fold_batch_norms(network)
        self.suppress = suppress
        self.tasks: dict[str, Any] = dict(self.network.tasks.items())
        for name, task in self.tasks.items():
            if task.kind not in OUTPUTS:
                raise ConfigError(f"{name}: a task of kind {task.kind} cannot be exported")

    @property
    def output_names(self) -> list[str]:
        return output_names({name: task.kind for name, task in self.tasks.items()})

    @property
    def any_size(self) -> bool:
        """Whether the input may have any height and width: SSD's anchors and their number belong to one size."""
        return all(task.kind == "segmentation" for task in self.tasks.values())

    @property
    def dynamic_shape(self) -> dict[int, Any]:
        """{dimension of the images: what it may be} for torch's exporters."""
        shape: dict[int, Any] = {0: Dim("batch", min=1, max=4096)}
        if self.any_size:
            shape |= {1: Dim("height", min=SMALLEST, max=LARGEST), 2: Dim("width", min=SMALLEST, max=LARGEST)}
        return shape

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        size = (images.shape[1], images.shape[2])
        heads = self.network(images.float().permute(0, 3, 1, 2))  # in this order the runtimes move less
        results: list[Tensor] = []
        for name, task in self.tasks.items():
            if task.kind == "classification":
                results.append(heads[name].float().softmax(dim=1))
            elif task.kind == "detection":
                results += detect_batch(heads[name], size, self.suppress, **task.postprocess)
            else:
                logits = F.interpolate(heads[name].float(), size=size, mode="bilinear", align_corners=True)
                results.append(logits.max(dim=1).indices.to(torch.uint8))
        return tuple(results)


def detect_batch(
    output: SSDOutput,
    size: tuple[int, int],
    suppress: Suppress,
    *,
    scores: str,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    max_detections: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`boxes.postprocess.detect` for a batch: boxes, scores, labels and counts as in `Graph`."""
    logits = output.class_logits.float()
    confidence = (logits.softmax(dim=-1) if scores == "softmax" else logits.sigmoid())[..., :-1]  # (B, A, K)
    num_classes = confidence.shape[-1]
    pairs = confidence.shape[1] * num_classes
    confidence, order = confidence.flatten(1).topk(min(candidates, pairs), dim=1)  # (B, k)
    anchor, labels = order // num_classes, order % num_classes
    deltas = output.box_deltas.float().gather(1, anchor[..., None].expand(-1, -1, 4))
    height, width = size
    limit = torch.tensor([width, height, width, height], dtype=torch.float32, device=logits.device)
    boxes = torch.minimum((decode_boxes(deltas, output.anchors[anchor]) * limit).clamp(min=0), limit)
    count = min(max_detections, boxes.shape[1])
    picks, valid = suppress(boxes, labels, confidence > score_threshold, iou_threshold, count)
    chosen = boxes.gather(1, picks[..., None].expand(-1, -1, 4)) * valid[..., None]
    return chosen, confidence.gather(1, picks) * valid, labels.gather(1, picks) * valid, valid.sum(dim=1)
