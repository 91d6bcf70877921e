"""Top-1 and top-5 accuracy."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.contracts import ClassificationBatch
from mnv2_tasks.metrics.outcomes import Hits


class TopKAccuracy:
    """Fractions of images whose class is the best, or among the five best, of the predicted scores."""

    primary = "top1"

    def __init__(self, class_names: list[str]):
        self.class_names = class_names
        self.reset()

    def reset(self) -> None:
        self.hits: dict[int, tuple[int, bool, bool]] = {}  # image id -> (class, in top 1, in top 5)

    def update(self, predictions: Tensor, batch: ClassificationBatch) -> None:
        """`predictions`: (B, K) scores, larger is better."""
        best = predictions.topk(min(5, predictions.shape[1])).indices  # (B, <=5)
        labels = batch.labels.to(best.device, non_blocking=True)
        right = best == labels[:, None]
        rows = torch.stack([labels, right[:, 0], right.any(dim=1)], dim=1).tolist()  # all that leaves the device
        for image_id, (label, top1, top5) in zip(batch.image_ids.tolist(), rows):
            self.hits[image_id] = (label, bool(top1), bool(top5))

    def merge(self, other: "TopKAccuracy") -> None:
        self.hits.update(other.hits)

    def compute(self) -> dict[str, Any]:
        """`top1` and `top5` in [0, 1], `top1_per_class` of the classes present, and how many `images` there were.

        With fewer than five classes top5 is 1.
        """
        rows = torch.tensor(list(self.hits.values()), dtype=torch.float64).reshape(-1, 3)
        top1, top5 = (rows[:, 1:].mean(0) if len(rows) else torch.zeros(2)).tolist()
        labels = rows[:, 0].long()
        counts = torch.bincount(labels, minlength=len(self.class_names))
        right = torch.bincount(labels, weights=rows[:, 1], minlength=len(self.class_names))
        per_class = {name: float(right[i] / counts[i]) for i, name in enumerate(self.class_names) if counts[i]}
        return {"top1": top1, "top5": top5, "top1_per_class": per_class, "images": len(rows)}

    def outcomes(self) -> Hits:
        """Which images were right."""
        rows = [(image_id, *hit) for image_id, hit in sorted(self.hits.items())]
        image_ids, labels, top1, top5 = np.array(rows, np.int64).reshape(-1, 4).T
        return Hits(
            image_ids=image_ids,
            labels=labels.astype(np.int32),
            top1=top1.astype(bool),
            top5=top5.astype(bool),
            num_classes=np.array(len(self.class_names)),
        )
