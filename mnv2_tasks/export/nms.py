"""Ways to do what `boxes/suppression.suppress` does, for runtimes that lack its operator."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop


def suppress_unrolled(
    boxes: Tensor, labels: Tensor, alive: Tensor, iou_threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """Greedy, written out in `count` rounds of plain tensor operations, for runtimes with neither operator nor loop."""
    left, take = _rank(alive), _taking(boxes, labels, iou_threshold)
    picks, ranks = [], []
    for _ in range(count):
        left, (pick, rank) = take(left)
        picks.append(pick)
        ranks.append(rank)
    return torch.stack(picks, dim=1), torch.stack(ranks, dim=1) > 0


def suppress_scanned(
    boxes: Tensor, labels: Tensor, alive: Tensor, iou_threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """The same with the rounds as a loop in the graph, which ExecuTorch has."""
    take = _taking(boxes, labels, iou_threshold)
    _, (picks, ranks) = scan(lambda left, _: take(left), _rank(alive), torch.zeros(count))
    return picks.T, ranks.T > 0


def suppress_looped(
    boxes: Tensor, labels: Tensor, alive: Tensor, iou_threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """The same in as many rounds as the longest chain of boxes that suppress each other has members: a handful.

    A box is kept if no better one that is kept suppresses it. Whatever is guessed at first, one round settles the best
    box, the next one the second ..., and what no longer changes is the greedy choice.
    """
    beaten_by = (1 - _spared(boxes, labels, iou_threshold)).triu(1)  # (B, k, k), better in rows, worse in columns

    def settle(kept: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        now = alive.float() * ((kept[:, None] @ beaten_by)[:, 0] == 0).float()
        return now, (now != kept).sum()

    start = (alive.float(), torch.ones((), dtype=torch.int64, device=boxes.device))
    kept, _ = while_loop(lambda kept, changes: changes > 0, settle, start)
    ranks, picks = (_rank(alive) * kept).topk(count, dim=1)
    return picks, ranks > 0


def _rank(alive: Tensor) -> Tensor:
    """(B, k): k for the best candidate down to 1, 0 for what is none."""
    return torch.arange(alive.shape[1], 0, -1, dtype=torch.float32, device=alive.device) * alive.float()


def _taking(
    boxes: Tensor, labels: Tensor, iou_threshold: float
) -> Callable[[Tensor], tuple[Tensor, tuple[Tensor, Tensor]]]:
    """A round: ranks of what is left -> of what is left without the best and all that it suppresses, and the best."""
    images, k = labels.shape
    spared = _spared(boxes, labels, iou_threshold).flatten(0, 1)
    first = torch.arange(images, device=boxes.device) * k  # row of each image

    def take(left: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rank, pick = left.max(dim=1)
        # an embedding is a lookup that runtimes have; at indexing they check and correct the index first
        return left * F.embedding(first + pick, spared), (pick, rank)

    return take


def _spared(boxes: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """(B, k, k): 0 where two boxes are of one class and overlap by more than the threshold, or are the same, else 1.

    By float arithmetic alone, which mobile runtimes do at once, on all pairs, where comparisons take them milliseconds.
    """

    def pairs(function: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
        return function(values[:, :, None], values[:, None, :])

    def equal(integers: Tensor) -> Tensor:
        return (1 - pairs(torch.sub, integers.float()).abs()).clamp(min=0)

    left, top, right, bottom = boxes.unbind(-1)  # (B, k)
    width = (pairs(torch.minimum, right) - pairs(torch.maximum, left)).clamp(min=0)
    height = (pairs(torch.minimum, bottom) - pairs(torch.maximum, top)).clamp(min=0)
    shared = width * height * equal(labels)
    union = pairs(torch.add, (right - left) * (bottom - top)) - shared
    itself = equal(torch.arange(boxes.shape[1], device=boxes.device)[None])
    excess = shared - iou_threshold * union + itself
    return (1 - excess * 1e30).clamp(min=0, max=1)
