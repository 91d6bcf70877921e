"""How an image of any size becomes the network's input when nothing is random: in validation and at prediction."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.errors import ConfigError

MODES = ("square", "tf1_square", "centre_crop", "tf1_centre_crop", "pad", "letterbox")
TF1_CROP = 7 / 8  # of each side
SMALLEST_SIDE, LARGEST_SIDE = 32, 4096
GREY = 128  # around a letterboxed picture
GRID = 32  # pads grow by multiples of the coarsest stride, so that k * stride + 1 stays k * stride + 1


def check_side(key: str, size: int) -> None:
    """Raise a ConfigError unless a network can have a square input of this side, in pixels."""
    if not SMALLEST_SIDE <= size <= LARGEST_SIDE:
        raise ConfigError(f"{key}={size}: expected between {SMALLEST_SIDE} and {LARGEST_SIDE} pixels")


class Fitted(NamedTuple):
    image: np.ndarray  # (height, width, 3) uint8, the network's input
    content_size: tuple[int, int]  # height, width of the part of it that holds the picture
    offset: tuple[int, int] = (0, 0)  # top, left of that part


class Fit:
    """(H, W, 3) uint8 image -> `Fitted`.

    Args:
        mode: "square": squeezed into a square. "tf1_square": the same, with the pixels that TensorFlow 1's detectors
            see (`tf1_square`). "centre_crop": the shorter side resized to `resize` with Pillow's antialiased bilinear
            filter, then the middle square cut out, as torchvision does. "tf1_centre_crop": the middle 7/8 of each side
            squeezed into a square, as TF slim evaluates its networks of ImageNet. "pad": never resized, filled up at
            the right and bottom, as DeepLab's protocol for PASCAL VOC asks. "letterbox": as large as fits into the
            square, in the middle of grey, as darknet has done since 2017.
        size: side of the square, in pixels; of "pad", the least side: larger images give larger inputs.
        resize: shorter side before the centre crop, in pixels; None leaves the image as it is.
        fill: RGB of the padding; the mean that the network subtracts.
        white: value of a picture with 16 bits a colour that is read as 255.
    """

    def __init__(self, *, mode: str, size: int, resize: int | None, fill: list[float], white: int = FULL):
        if mode not in MODES:
            raise ConfigError(f"input.fit={mode}: expected one of {', '.join(MODES)}")
        check_side("imgsz", size)
        if resize is not None and resize < size:
            raise ConfigError(f"input.resize={resize}: expected at least imgsz={size}, whose square is cut out of it")
        if not 1 <= white <= FULL:
            raise ConfigError(f"input.white={white}: expected a value of 16 bits, from 1 to {FULL}")
        self.mode, self.size, self.resize, self.white = mode, size, resize, white
        self.fill = np.round(fill).astype(np.uint8)

    def __call__(self, image: np.ndarray) -> Fitted:
        square = (self.size, self.size)
        if self.mode == "square":
            return Fitted(cv2.resize(image, square, interpolation=cv2.INTER_LINEAR), square)
        if self.mode == "tf1_square":
            return Fitted(tf1_square(image, self.size), square)
        if self.mode == "tf1_centre_crop":
            top, left = (int((side - side * TF1_CROP) / 2) for side in image.shape[:2])
            height, width = image.shape[:2]
            return Fitted(tf1_square(image[top : height - top, left : width - left], self.size), square)
        if self.mode == "centre_crop":
            return Fitted(self._centre_crop(image), square)
        if self.mode == "letterbox":
            return self._letterbox(image)
        height, width = image.shape[:2]
        side = [self.size + max(0, -(-(length - self.size) // GRID)) * GRID for length in (height, width)]
        padded = np.empty((*side, 3), np.uint8)
        padded[:] = self.fill
        padded[:height, :width] = image
        return Fitted(padded, (height, width))

    def _letterbox(self, image: np.ndarray) -> Fitted:
        height, width = (max(1, side * self.size // max(image.shape[:2])) for side in image.shape[:2])
        top, left = (self.size - height) // 2, (self.size - width) // 2
        boxed = np.full((self.size, self.size, 3), GREY, np.uint8)
        boxed[top : top + height, left : left + width] = cv2.resize(image, (width, height))
        return Fitted(boxed, (height, width), (top, left))

    def _centre_crop(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if self.resize and min(height, width) != self.resize:
            longer = int(self.resize * max(height, width) / min(height, width))
            height, width = (self.resize, longer) if height <= width else (longer, self.resize)
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        if min(height, width) < self.size:
            image, (height, width) = _surround(image, self.size)
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return image[top : top + self.size, left : left + self.size]


def tf1_square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) -> (size, size, 3), both uint8: tf.image.resize_bilinear(align_corners=False) of TensorFlow 1, rounded.

    It measures from the pixels' corners: output pixel i is read at i * side / size, beyond the last pixel at that one.
    Those are the places of aligned corners where picture and square have a row and a column more.
    """
    wider = cv2.copyMakeBorder(image, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    pixels = torch.from_numpy(wider).permute(2, 0, 1)[None].float()  # (1, 3, H + 1, W + 1)
    resized = F.interpolate(pixels, (size + 1, size + 1), mode="bilinear", align_corners=True)[0, :, :-1, :-1]
    return resized.round().byte().permute(1, 2, 0).contiguous().numpy()


def _surround(image: np.ndarray, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Black borders around an image that is smaller than the crop, as torchvision's CenterCrop adds."""
    height, width = max(size, image.shape[0]), max(size, image.shape[1])
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    out[top : top + image.shape[0], left : left + image.shape[1]] = image
    return out, (height, width)
