"""Top-1 and top-5 accuracy."""

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from mnv2_tasks.contracts import ClassificationBatch
from mnv2_tasks.metrics.outcomes import Hits


class Guess(NamedTuple):
    """What was predicted of an image."""

    best: int  # the class
    best_score: float
    truth_score: float  # that of its own class


class TopKAccuracy:
    """Fractions of images whose class is the best, or among the five best, of the predicted scores."""

    primary = "top1"

    def __init__(self, class_names: list[str]):
        self.class_names = class_names
        self.reset()

    def reset(self) -> None:
        self.hits: dict[int, tuple[int, bool, bool]] = {}  # image id -> (class, in top 1, in top 5)
        self.guesses: dict[int, Guess] = {}  # by image id

    def update(self, predictions: Tensor, batch: ClassificationBatch) -> None:
        """`predictions`: (B, K) scores, larger is better."""
        scores, best = predictions.topk(min(5, predictions.shape[1]))  # (B, <=5)
        labels = batch.labels.to(best.device, non_blocking=True)
        right = best == labels[:, None]
        columns = [
            labels,
            right[:, 0],
            right.any(dim=1),
            best[:, 0],
            scores[:, 0],
            predictions.gather(1, labels[:, None])[:, 0],
        ]
        rows = torch.stack([column.float() for column in columns], dim=1).tolist()  # all that leaves the device
        for image_id, (label, top1, top5, guess, score, of_truth) in zip(batch.image_ids.tolist(), rows):
            self.hits[image_id] = (int(label), bool(top1), bool(top5))
            self.guesses[image_id] = Guess(int(guess), score, of_truth)

    def merge(self, other: "TopKAccuracy") -> None:
        self.hits.update(other.hits)
        self.guesses.update(other.guesses)

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

    def confusion(self) -> csr_array:
        """(K, K) int64, sparse: images of each class, row, that were taken for each class, column."""
        labels = [label for label, _, _ in self.hits.values()]
        best = [self.guesses[image_id].best for image_id in self.hits]
        places = np.array([labels, best], np.int64).reshape(2, -1)
        size = len(self.class_names), len(self.class_names)
        return csr_array(coo_array((np.ones(len(labels), np.int64), tuple(places)), shape=size))  # adds up equal places

    def calibration(self) -> tuple[list[dict[str, Any]], float]:
        """Ten bins of the best class's score, as hotcoco has them, and the expected calibration error."""
        from hotcoco import metrics  # here alone, and in what looks at boxes

        scores = np.array([self.guesses[image_id].best_score for image_id in self.hits], np.float64)
        right = np.array([top1 for _, top1, _ in self.hits.values()], bool)
        return metrics.calibration_curve(scores, right), metrics.calibration_error(scores, right)[0]
