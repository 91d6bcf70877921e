"""SSD's sampling of patches (Liu et al. 2016, sections 2.2 and 3.6): zoom out onto a canvas, or cut out a part."""

from typing import Any

import numpy as np

from mnv2_tasks.data.images.window import RandomWindow

COVERED = (0.1, 0.3, 0.5, 0.7, 0.9)  # overlap that at least one object must keep, chosen at random
TRIES = 50


class SSDCrop(RandomWindow):
    """A random window onto the image: larger than it (zoom out), a part of it, or the whole.

    A part keeps the objects whose centres lie in it, cut at its edge, and is drawn until the overlap (IoU) of at least
    one object with the window reaches a random threshold.

    Args:
        zoom_out: largest side of the canvas over the image's; 4 in the paper, 1 turns it off.
        fill: RGB of the canvas.
    """

    def __init__(self, *, zoom_out: float, fill: tuple[int, int, int]):
        super().__init__(fill=fill)
        self.zoom_out = zoom_out

    @property
    def targets_as_params(self) -> list[str]:
        return ["bboxes"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        if self.zoom_out > 1 and self.py_random.random() < 0.5:
            scale = self.py_random.uniform(1, self.zoom_out)
            left = self.py_random.uniform(0, (scale - 1) * width)
            top = self.py_random.uniform(0, (scale - 1) * height)
            window = (-left, -top, scale * width - left, scale * height - top)
        else:
            boxes = np.array([box[:4] for box in data["bboxes"]], float).reshape(-1, 4)  # there may be none
            window = self._part(boxes, height, width)
        return {"window": tuple(round(side) for side in window)}

    def _part(self, boxes: np.ndarray, height: int, width: int) -> tuple[float, float, float, float]:
        """`boxes` (N, 4) are fractions. Returns the window in pixels."""
        whole = (0.0, 0.0, float(width), float(height))
        threshold = self.py_random.choice((None, 0.0, *COVERED))  # None: the whole image
        if threshold is None or not len(boxes):
            return whole
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        for _ in range(TRIES):
            w, h = self.py_random.uniform(0.3, 1), self.py_random.uniform(0.3, 1)
            if not 0.5 <= (w * width) / (h * height) <= 2:
                continue
            x, y = self.py_random.uniform(0, 1 - w), self.py_random.uniform(0, 1 - h)
            inside = ((centres > (x, y)) & (centres < (x + w, y + h))).all(axis=1)
            if inside.any() and _iou(boxes[inside], np.array([x, y, x + w, y + h])).max() >= threshold:
                return x * width, y * height, (x + w) * width, (y + h) * height
        return whole

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return "zoom_out", "outside"


def _iou(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """(N,) of (N, 4) boxes with one."""
    sides = np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])
    shared = sides.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / (areas + (window[2:] - window[:2]).prod() - shared)
