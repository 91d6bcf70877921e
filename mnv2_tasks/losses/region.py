"""YOLOv2's training loss (darknet's region_layer.c; YOLO9000, arXiv:1612.08242, section 2)."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mnv2_tasks.boxes.cells import decode_region, encode_region, responsible
from mnv2_tasks.boxes.coding import centre_size
from mnv2_tasks.boxes.matching import UNMATCHED, overlaps
from mnv2_tasks.contracts import BoxTargets, YOLOv2Output
from mnv2_tasks.losses.weighted import Weighted

LEAST_SIDE = 0.001  # of the image: objects that are thinner are skipped


class RegionLoss(Weighted):
    """Squared errors of boxes and objectness, cross-entropy of classes, summed over an image; the mean of the images.

    The anchor that answers for an object is, in the cell of its centre, the one whose shape overlaps it most; where it
    is the same of several objects, the last one's. All objects count: darknet's buffer holds 30 of an image.

    Args:
        object_scale, noobject_scale, class_scale, coord_scale: weights of the terms.
        ignore_threshold: a box that overlaps any object by more is no background.
        rescore: objectness learns how much the box overlaps its object; false: 1.
        scale_by_size: errors of a box weigh 2 - width * height, as fractions, so that small ones count more (since
            March 2017); false: 1.
        prior_images: until so many were trained on, what answers for no object is drawn to its anchor, in the middle
            of its cell, with PRIOR_WEIGHT.

    Attributes:
        seen: images trained on so far, in all processes; it travels with the weights, as in darknet's files.
    """

    PRIOR_WEIGHT = 0.01

    def __init__(
        self,
        *,
        object_scale: float,
        noobject_scale: float,
        class_scale: float,
        coord_scale: float,
        ignore_threshold: float,
        rescore: bool,
        scale_by_size: bool,
        prior_images: int,
    ):
        super().__init__()
        self.object_scale, self.noobject_scale = object_scale, noobject_scale
        self.class_scale, self.coord_scale = class_scale, coord_scale
        self.ignore_threshold, self.rescore, self.scale_by_size = ignore_threshold, rescore, scale_by_size
        self.prior_images = prior_images
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, output: YOLOv2Output, targets: BoxTargets) -> dict[str, Tensor]:
        """Scalar terms `box`, `objectness` and `class`; finite for images without objects."""
        logits, deltas = output.class_logits.float(), output.box_deltas.float()
        objectness = output.objectness.float().sigmoid()
        predicted = decode_region(deltas.detach(), output.anchors, output.grid)  # (B, A, 4)
        valid = targets.valid & (centre_size(targets.boxes)[1] >= LEAST_SIDE).all(dim=-1)
        # what an anchor is to learn stands at owner + 1: before the objects of an image there is nothing
        truth = F.pad(targets.boxes * valid[..., None], (0, 0, 1, 0))  # (B, 1 + N, 4)
        owner = responsible(targets.boxes, valid, output.anchors, output.grid)  # (B, A)
        answers = owner != UNMATCHED
        own = truth.gather(1, (owner + 1)[..., None].expand(-1, -1, 4))  # (B, A, 4)

        overlap = overlaps(truth, predicted[:, None]).nan_to_num()  # (B, 1 + N, A); a box may shrink to nothing
        background = ~answers & (overlap.amax(dim=1) <= self.ignore_threshold)
        reached = overlap.gather(1, (owner + 1)[:, None])[:, 0] if self.rescore else torch.ones_like(objectness)
        errors = (torch.where(answers, reached, 0) - objectness).square()
        weights = self.object_scale * answers + self.noobject_scale * background

        box_weights = self._box_weights(own, answers)
        middle = F.pad(deltas.new_full((2,), 0.5), (0, 2))  # filled there: the host does not wait for a copy
        wanted = torch.where(answers[..., None], encode_region(own, output.anchors, output.grid), middle)
        found = torch.cat([deltas[..., :2].sigmoid(), deltas[..., 2:]], dim=-1)
        labels = F.pad(targets.labels, (1, 0)).gather(1, owner + 1)
        entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)

        images = len(valid)
        if self.training:
            self.seen += images * (dist.get_world_size() if dist.is_initialized() else 1)
        return {
            "box": 0.5 * ((wanted - found).square().sum(dim=-1) * box_weights).sum() / images,
            "objectness": 0.5 * (errors * weights).sum() / images,
            "class": self.class_scale * (entropy * answers * self.weights_of(labels)).sum() / images,
        }

    def _box_weights(self, own: Tensor, answers: Tensor) -> Tensor:
        """(B, A), of (B, A, 4) the objects that anchors answer for."""
        prior = self.PRIOR_WEIGHT * (self.seen < self.prior_images)
        size = 2 - centre_size(own)[1].prod(dim=-1) if self.scale_by_size else 1.0
        return torch.where(answers, self.coord_scale * size, prior)
