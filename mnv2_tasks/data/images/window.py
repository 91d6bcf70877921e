"""A window onto a picture: a part of it, or more than there is."""

from typing import Any

import albumentations as A
import cv2
import numpy as np

from mnv2_tasks.contracts import IGNORE

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels of the picture; may lie outside of it


class RandomWindow(A.DualTransform):
    """What subclasses choose as `window`, a `Box`; objects whose centres lie in it are kept, cut at its edge.

    Args:
        fill: RGB of what lies outside the picture; None: its pixels at the edge.
    """

    def __init__(self, *, fill: tuple[int, int, int] | None):
        super().__init__(p=1.0)
        self.outside = fill

    def apply(self, img: np.ndarray, window: Box, **params: Any) -> np.ndarray:
        return _cut(img, window, self.outside)

    def apply_to_mask(self, mask: np.ndarray, window: Box, **params: Any) -> np.ndarray:
        return _cut(mask, window, IGNORE)

    def apply_to_bboxes(self, bboxes: np.ndarray, window: Box, **params: Any) -> np.ndarray:
        if not len(bboxes):
            return bboxes
        height, width = params["shape"][:2]
        x0, y0, x1, y1 = window
        boxes = bboxes.copy()
        boxes[:, [0, 2]] = (boxes[:, [0, 2]] * width - x0) / (x1 - x0)
        boxes[:, [1, 3]] = (boxes[:, [1, 3]] * height - y0) / (y1 - y0)
        centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
        boxes[:, :4] = boxes[:, :4].clip(0, 1)
        return boxes[((centres > 0) & (centres < 1)).all(axis=1)]


def _cut(image: np.ndarray, window: Box, fill: Any) -> np.ndarray:
    x0, y0, x1, y1 = window
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, image.shape[1]), min(y1, image.shape[0])
    part = image[top:bottom, left:right]
    if part.shape[:2] == (y1 - y0, x1 - x0):
        return part
    beyond = (top - y0, y1 - bottom, left - x0, x1 - right)
    if fill is None:
        return cv2.copyMakeBorder(part, *beyond, cv2.BORDER_REPLICATE)
    # numpy takes a hundred times as long to fill a canvas with a colour
    return cv2.copyMakeBorder(part, *beyond, cv2.BORDER_CONSTANT, value=np.atleast_1d(fill).tolist())
