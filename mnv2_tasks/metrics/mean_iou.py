"""Mean intersection over union, from one confusion matrix over the whole split."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.contracts import IGNORE, SegmentationBatch
from mnv2_tasks.metrics.outcomes import Pixels


class MeanIoU:
    """Pixels of `IGNORE` do not count; classes without a pixel in the ground truth are not averaged in.

    The counts are int64: a float32 sum stops growing at 2^24 pixels, some sixty images of 513 x 513. torchmetrics
    counts the same, in 3 to 17 times the time (`tools/bench.py what=eval`), and not image by image.
    """

    primary = "mIoU"

    def __init__(self, class_names: list[str]):
        self.class_names = class_names
        self.reset()

    def reset(self) -> None:
        self.confusion = np.zeros((len(self.class_names), len(self.class_names)), np.int64)
        # image id -> (3, K) int32 pixels of each class: found, missed, wrongly predicted
        self.counts: dict[int, np.ndarray] = {}

    def update(self, predictions: list[Tensor], batch: SegmentationBatch) -> None:
        """`predictions`: class maps, each (h, w) int64 of its image's original size; a repeated image id is skipped."""
        for image_id, confusion in zip(batch.image_ids.tolist(), self._confusions(predictions, batch.masks)):
            if image_id in self.counts:
                continue
            self.confusion += confusion
            hit = confusion.diagonal()
            rows = np.stack([hit, confusion.sum(1) - hit, confusion.sum(0) - hit])
            self.counts[image_id] = rows.astype(np.int32)

    def _confusions(self, predictions: list[Tensor], masks: Tensor) -> Iterable[np.ndarray]:
        """(K, K) int64 of each image."""
        num_classes, on_cpu = len(self.class_names), predictions[0].device.type == "cpu"
        masks = masks.to(predictions[0].device, non_blocking=True)
        pairs = [(mask[: p.shape[0], : p.shape[1]], p) for mask, p in zip(masks, predictions)]  # masks are padded
        if on_cpu:
            return (_confusion(truth.numpy(), predicted.numpy(), num_classes) for truth, predicted in pairs)
        counts = torch.stack([counted_at_once(truth, predicted, num_classes) for truth, predicted in pairs])
        return counts.cpu().numpy()  # all that leaves the device

    def merge(self, other: "MeanIoU") -> None:
        """Add another process's counts. The validation sampler gives no image to two processes."""
        self.confusion += other.confusion
        self.counts |= other.counts

    def compute(self) -> dict[str, float | dict[str, float]]:
        """All in [0, 1]: `mIoU` over the classes present in the ground truth; `mIoU_union` over those present there or
        in the predictions, as mmseg and VOC's devkit average; `pixel_accuracy`; and `IoU` of each class present.
        """
        hit, truth, predicted = self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)
        present = {
            name: float(hit[i] / (truth[i] + predicted[i] - hit[i]))
            for i, name in enumerate(self.class_names)
            if truth[i] > 0
        }
        total, found = max(1, int(truth.sum())), int((truth + predicted > 0).sum())
        return {
            "mIoU": sum(present.values()) / max(1, len(present)),
            "mIoU_union": sum(present.values()) / max(1, found),  # what is found where it is not has an IoU of 0
            "pixel_accuracy": float(hit.sum()) / total,
            "IoU": present,
        }

    def outcomes(self) -> Pixels:
        """The pixels of each image."""
        image_ids = sorted(self.counts)
        counts = np.array([self.counts[i] for i in image_ids], np.int32).reshape(-1, 3, len(self.class_names))
        hit, missed, wrong = counts.transpose(1, 0, 2)
        return Pixels(image_ids=np.array(image_ids, np.int64), hit=hit, missed=missed, wrong=wrong)


def counted_at_once(truth: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """`_confusion` where the pixels are: bincount would have the host wait for the largest of them."""
    pairs = torch.where(truth == IGNORE, num_classes**2, truth.long() * num_classes + predicted).flatten()
    counts = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=pairs.device)
    return counts.scatter_add_(0, pairs, torch.ones_like(pairs))[:-1].view(num_classes, num_classes)


def _confusion(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) int64 pixels of each class, row, that were predicted as each class, column.

    By NumPy: torch's threads would cost more than these few passes, while the loader needs the processor. But its
    bincount would turn 32-bit numbers into 64 bits first.
    """
    pairs = np.multiply(truth, num_classes, dtype=np.int32)
    np.add(pairs, predicted, out=pairs, casting="unsafe")
    # a row for each value of a mask: that of IGNORE lies beyond those of the classes
    counts = torch.bincount(torch.from_numpy(pairs).flatten(), minlength=num_classes**2)[: num_classes**2]
    return counts.numpy().reshape(num_classes, num_classes)
