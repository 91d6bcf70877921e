"""Darknet's augmentation for detectors: where the picture lies, and its colours (detector.c, image.c)."""

from typing import Any

import albumentations as A
import cv2
import numpy as np

from mnv2_tasks.data.images.window import Box, RandomWindow


class DarknetPlace(RandomWindow):
    """Since March 2017: the picture with another aspect ratio, as large as fits into a square, at a random place.

    Args:
        jitter: width and height are changed by up to this share of them before their ratio is taken.
        fill: RGB around the picture.
    """

    def __init__(self, *, jitter: float, fill: tuple[int, int, int]):
        super().__init__(fill=fill)
        self.jitter = jitter

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Box]:
        height, width = params["shape"][:2]
        new_width, new_height = (self.py_random.uniform(1 - self.jitter, 1 + self.jitter) * s for s in (width, height))
        ratio = new_width / new_height
        # the picture's share of the square; the square in pixels of the picture, one scale for each side
        share_x, share_y = min(1.0, ratio), min(1.0, 1 / ratio)
        square_width, square_height = width / share_x, height / share_y
        left = self.py_random.uniform(0, square_width - width)
        top = self.py_random.uniform(0, square_height - height)
        return {"window": _rounded(-left, -top, square_width - left, square_height - top)}


class DarknetCrop(RandomWindow):
    """In 2016: each edge moved inwards or outwards, where the picture's own edge is repeated.

    Args:
        jitter: an edge moves by up to this share of the side.
    """

    def __init__(self, *, jitter: float):
        super().__init__(fill=None)
        self.jitter = jitter

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Box]:
        height, width = params["shape"][:2]
        left, top, right, bottom = (self.py_random.uniform(-self.jitter, self.jitter) for _ in range(4))
        return {"window": _rounded(left * width, top * height, (1 - right) * width, (1 - bottom) * height)}


class HSVScale(A.ImageOnlyTransform):
    """Hue turned, saturation and value multiplied, each value cut off where it ends.

    Args:
        hue: share of the circle by which it turns at most, either way.
        saturation, exposure: largest factors; as often their inverses.
    """

    def __init__(self, *, hue: float, saturation: float, exposure: float):
        super().__init__(p=1.0)
        self.hue, self.saturation, self.exposure = hue, saturation, exposure

    def get_params(self) -> dict[str, Any]:
        factors = [
            self.py_random.uniform(1, most) ** self.py_random.choice((1, -1))
            for most in (self.saturation, self.exposure)
        ]
        return {"turn": self.py_random.uniform(-self.hue, self.hue), "factors": factors}

    def apply(self, img: np.ndarray, turn: float, factors: list[float], **params: Any) -> np.ndarray:
        hsv = cv2.cvtColor(img.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)  # hue in [0, 360), others in [0, 1]
        hsv[..., 0] = (hsv[..., 0] + 360 * turn) % 360
        hsv[..., 1:] = np.minimum(hsv[..., 1:] * np.array(factors, np.float32), 1)
        return (255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).round().astype(np.uint8)


def _rounded(*sides: float) -> Box:
    left, top, right, bottom = map(round, sides)
    return left, top, max(right, left + 1), max(bottom, top + 1)
