"""Multi-scale training: the network sees its training pictures in another size every few steps."""

import random

import torch.nn.functional as F

from mnv2_tasks.contracts import Batch, SegmentationBatch
from mnv2_tasks.errors import ConfigError

GRID = 32  # pixels between two sizes


class MultiScale:
    """YOLO9000 (arXiv:1612.08242), section 2. Boxes, which are fractions, stay as they are.

    The loader makes pictures of the largest size, and they are shrunk here; darknet loads them in each size. Which one
    follows from the step and the seed alone: all processes have the same, and a run that is gone on with, too.

    Args:
        least, largest: sides in pixels; all between, 32 apart, are as likely.
        every: optimizer steps from one size to the next.
        final: the last steps, all at the largest size.
    """

    def __init__(self, *, least: int, largest: int, every: int, final: int, seed: int):
        if not GRID <= least <= largest or least % GRID or largest % GRID:
            raise ConfigError(
                f"multi_scale.least={least}: expected a multiple of {GRID} up to the side of the training pictures, "
                f"train_imgsz or imgsz={largest}, which is one, too"
            )
        if every < 1 or final < 0:
            raise ConfigError(f"multi_scale: every={every}, final={final}: expected every >= 1 and final >= 0")
        self.sides = range(least, largest + 1, GRID)
        self.every, self.final, self.seed = every, final, seed

    def side(self, step: int, steps: float) -> int:
        """Of the pictures of a step of so many."""
        if step >= steps - self.final:
            return self.sides[-1]
        return random.Random(f"{self.seed} {step // self.every}").choice(self.sides)

    def __call__(self, batch: Batch, step: int, steps: float) -> Batch:
        """The batch with images (B, 3, side, side) float in [0, 255], or as it is where that is its size."""
        assert not isinstance(batch, SegmentationBatch)
        side = self.side(step, steps)
        if batch.images.shape[2] == side:
            return batch
        shrunk = F.interpolate(batch.images.float(), size=(side, side), mode="bilinear", antialias=True)
        return batch._replace(images=shrunk)
