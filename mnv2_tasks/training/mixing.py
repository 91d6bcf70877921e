"""MixUp and CutMix: two images of a batch become one, with a share of each one's class."""

import torch

from mnv2_tasks.contracts import Batch, ClassificationBatch
from mnv2_tasks.errors import ConfigError


class Mixing:
    """torchvision's MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019); of both, one at random for each batch.

    Every image is mixed with its neighbour in the batch. All draws are from torch's global generator, which training
    seeds anew for each step: a resumed run mixes alike.

    Args:
        mixup, cutmix: alpha of the Beta distribution that the shares are drawn from; 0 turns it off.
    """

    def __init__(self, *, mixup: float, cutmix: float, num_classes: int):
        from torchvision.transforms import v2  # a tenth of a second that others need not wait for

        if min(mixup, cutmix) < 0 or max(mixup, cutmix) == 0:
            raise ConfigError(f"mixing: mixup={mixup}, cutmix={cutmix}: expected 0 (off) or more, and one of them on")
        self.mixup = v2.MixUp(alpha=float(mixup), num_classes=num_classes) if mixup else None
        self.cutmix = v2.CutMix(alpha=float(cutmix), num_classes=num_classes) if cutmix else None

    def __call__(self, batch: Batch) -> ClassificationBatch:
        """The batch with images (B, 3, H, W) float in [0, 255] and labels (B, K), which sum to 1."""
        assert isinstance(batch, ClassificationBatch)
        ways = [way for way in (self.mixup, self.cutmix) if way is not None]
        way = ways[int(torch.randint(len(ways), ()))] if len(ways) > 1 else ways[0]
        images, labels = way(batch.images.float(), batch.labels)
        return batch._replace(images=images, labels=labels)
