"""How well SSD's anchors fit the boxes of a data set, before anything is trained."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou

from mnv2_tasks.boxes.anchors import ssd_anchors

MATCHED = 0.5  # IoU by which an anchor answers for an object, iou_threshold of the loss in conf/task/ssdlite.yaml
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # COCO's, in pixels of the input
Shapes = Sequence[Sequence[tuple[float, float]]]
CHUNK = 1024  # boxes at a time: their IoU with 2,000 anchors takes 8 MB


class AnchorFit(NamedTuple):
    """Of the boxes of one size, or of one class."""

    name: str  # "small", "medium", "large" or "all", once the image is resized to the input; or the class's
    boxes: int
    recall: float  # share of boxes that some anchor overlaps by MATCHED; NaN without boxes
    mean_iou: float  # of each box with its best anchor


def ssd_grids(image_size: int, maps: int = 6) -> list[tuple[int, int]]:
    """(height, width) of the maps of MobileNetV2 SSDLite: strides 16 and 32, then halvings."""
    sides = [-(-image_size // 16), -(-image_size // 32)]
    for _ in range(maps - 2):
        sides.append(-(-sides[-1] // 2))
    return [(side, side) for side in sides]


def best_overlaps(boxes: np.ndarray, image_size: int, shapes: Shapes | None = None) -> np.ndarray:
    """(N,) float32: IoU of each box with its best anchor.

    Args:
        boxes: (N, 4) xyxy fractions of the image, width and height > 0.
        image_size: side of the square input in pixels.
        shapes: of the anchors of each map, see `boxes.anchors.anchor_shapes`; None: TF's.
    """
    anchors = ssd_anchors(ssd_grids(image_size, len(shapes) if shapes else 6), shapes)
    chunks = torch.from_numpy(boxes.astype(np.float32)).split(CHUNK)
    return torch.cat([box_iou(chunk, anchors).amax(dim=1) for chunk in chunks]).numpy()


def fit_by_size(boxes: np.ndarray, best: np.ndarray, image_size: int) -> list[AnchorFit]:
    """A row for each size and one for all.

    Args:
        boxes, image_size: as above; N may be 0.
        best: (N,) what `best_overlaps` says of them.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * image_size**2
    groups = {name: (areas >= least) & (areas < limit) for name, (least, limit) in SIZES.items()}
    return [_row(name, best[group]) for name, group in groups.items()] + [_row("all", best)]


def fit_by_class(labels: np.ndarray, best: np.ndarray, class_names: Sequence[str]) -> list[AnchorFit]:
    """A row for each class.

    Args:
        labels: (N,) int.
        best: (N,) what `best_overlaps` says of the boxes.
    """
    return [_row(name, best[labels == label]) for label, name in enumerate(class_names)]


def _row(name: str, best: np.ndarray) -> AnchorFit:
    if not len(best):
        return AnchorFit(name, 0, float("nan"), float("nan"))
    return AnchorFit(name, len(best), float((best >= MATCHED).mean()), float(best.mean()))
