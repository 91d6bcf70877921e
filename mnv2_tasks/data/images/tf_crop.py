"""TensorFlow's random crop (`tf.image.sample_distorted_bounding_box`), and what TF's trainers make of it."""

from random import Random
from typing import Any

import albumentations as A
import numpy as np

from mnv2_tasks.data.images.window import Box, RandomWindow

ATTEMPTS = 100


def random_part(
    random: Random,
    size: tuple[int, int],
    boxes: np.ndarray,
    *,
    covered: float,
    ratios: tuple[float, float],
    areas: tuple[float, float],
) -> Box:
    """A part of the picture that holds enough of at least one object; all of it, if a hundred parts do not.

    All ratios are as likely, and then all heights, so that small parts are more likely than if areas were.

    Args:
        size: height, width of the picture.
        boxes: (N, 4) xyxy pixels; without any, the whole picture is the object.
        covered: share of an object's area that the part must hold.
        ratios: least and greatest width / height of the part.
        areas: least and greatest share of the picture's area.
    """
    height, width = size
    objects = boxes.astype(int) if len(boxes) else np.array([[0, 0, width, height]])
    objects = objects[_areas(objects) >= 1]
    for _ in range(ATTEMPTS):
        part = _attempt(random, size, random.uniform(*ratios), areas)
        if part and (_shared(objects, part) >= covered * _areas(objects)).any():
            return part
    return 0, 0, width, height


def _attempt(random: Random, size: tuple[int, int], ratio: float, areas: tuple[float, float]) -> Box | None:
    """None where whole pixels of this ratio do not have the area."""
    height, width = size
    least, most = (round((share * height * width / ratio) ** 0.5) for share in areas)
    most = min(most, height, int((width + 0.5) / ratio))
    if round(most * ratio) > width:
        most -= 1
    tall = random.randint(min(least, most), most)
    wide = round(tall * ratio)
    if wide < 1 or tall < 1 or not areas[0] <= wide * tall / (height * width) <= areas[1]:
        return None
    left, top = (random.randrange(max(1, side - part)) for side, part in ((width, wide), (height, tall)))
    return left, top, left + wide, top + tall


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _shared(boxes: np.ndarray, part: Box) -> np.ndarray:
    """(N,) area of each box that lies within the part."""
    sides = np.minimum(boxes[:, 2:4], part[2:]) - np.maximum(boxes[:, :2], part[:2])
    return sides.clip(0).prod(axis=1)


class TFDetectionCrop(RandomWindow):
    """`ssd_random_crop` of TF's detectors: one of seven shares of an object that the part holds at least; every object
    stays that has this share of its own area within the part. In 15 of 100 cases the picture stays whole.
    """

    SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    WHOLE = 0.15

    def __init__(self):
        super().__init__(fill=None)

    @property
    def targets_as_params(self) -> list[str]:
        return ["bboxes"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        covered = self.py_random.choice(self.SHARES)
        if self.py_random.random() <= self.WHOLE:
            return {"window": (0, 0, width, height), "covered": 0.0}
        boxes = np.array([box[:4] for box in data["bboxes"]], float).reshape(-1, 4) * (width, height, width, height)
        part = random_part(self.py_random, (height, width), boxes, covered=covered, ratios=(0.5, 2.0), areas=(0.1, 1.0))
        return {"window": part, "covered": covered}

    def apply_to_bboxes(self, bboxes: np.ndarray, window: Box, covered: float = 0.0, **params: Any) -> np.ndarray:
        if not len(bboxes):
            return bboxes
        height, width = params["shape"][:2]
        x0, y0, x1, y1 = window
        boxes = bboxes.copy()
        boxes[:, :4] *= (width, height, width, height)
        shared = _shared(boxes, window)
        stays = (shared > 0) & (shared >= covered * _areas(boxes) - 1e-6)
        boxes[:, :4] = ((boxes[:, :4] - (x0, y0, x0, y0)) / (x1 - x0, y1 - y0, x1 - x0, y1 - y0)).clip(0, 1)
        return boxes[stays]

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return ()


class TFColours(A.ImageOnlyTransform):
    """slim's colours (inception_preprocessing, in its default fast mode): light added, saturation multiplied.

    The light comes first in one case of four. Values are cut off where they end after both.
    """

    def __init__(self):
        super().__init__(p=1.0)

    def get_params(self) -> dict[str, Any]:
        return {
            "light": self.py_random.uniform(-32 / 255, 32 / 255),
            "saturation": self.py_random.uniform(0.5, 1.5),
            "light_first": self.py_random.randrange(4) == 0,
        }

    def apply(
        self, img: np.ndarray, light: float = 0.0, saturation: float = 1.0, light_first: bool = False, **params: Any
    ) -> np.ndarray:
        pixels = img.astype(np.float32) / 255
        pixels = saturated(pixels + light, saturation) if light_first else saturated(pixels, saturation) + light
        return (255 * pixels.clip(0, 1)).round().astype(np.uint8)


def saturated(pixels: np.ndarray, factor: float) -> np.ndarray:
    """(H, W, 3) float32 with the saturation of HSV multiplied, at most to 1; hue and value stay.

    A colour lies `saturation * value` below the value, at its lowest channel.
    """
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    share = np.minimum(factor, value.clip(0) / np.maximum(spread, 1e-12))  # beyond it the lowest would be below 0
    return value[..., None] - (value[..., None] - pixels) * share[..., None]
