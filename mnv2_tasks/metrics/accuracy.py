"""Top-1 and top-5 accuracy."""

import torch
from torch import Tensor

from mnv2_tasks.contracts import ClassificationBatch


class TopKAccuracy:
    """Fractions of images whose class is the best, or among the five best, of the predicted scores."""

    primary = "top1"

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self.hits: dict[int, tuple[bool, bool]] = {}  # image id -> (in top 1, in top 5)

    def update(self, predictions: Tensor, batch: ClassificationBatch) -> None:
        """`predictions`: (B, K) scores, larger is better."""
        best = predictions.topk(min(5, predictions.shape[1])).indices.cpu()  # (B, <=5)
        right = best == batch.labels.cpu()[:, None]
        for image_id, row in zip(batch.image_ids.tolist(), right):
            self.hits[image_id] = (bool(row[0]), bool(row.any()))

    def merge(self, other: "TopKAccuracy") -> None:
        self.hits.update(other.hits)

    def compute(self) -> dict[str, float]:
        """`top1` and `top5` in [0, 1]; with fewer than five classes top5 is 1."""
        hits = torch.tensor(list(self.hits.values()), dtype=torch.float64).reshape(-1, 2)
        top1, top5 = (hits.mean(0) if len(hits) else torch.zeros(2)).tolist()
        return {"top1": top1, "top5": top5}
