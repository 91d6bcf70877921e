"""Pictures and masks as files."""

import re
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mnv2_tasks.drawing.canvas import class_colours
from mnv2_tasks.whole_files import written_whole


def file_name(name: str, otherwise: str) -> str:
    """What of a stranger's name every file system takes, and no folder lies in."""
    return re.sub(r"[^\w.-]+", "_", name)[:100].strip(".") or otherwise


def write_picture(path: Path, picture: np.ndarray) -> None:
    """JPEG or PNG, by the suffix; colours of letters and lines are kept sharp."""
    options = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1],  # OpenCV's own choice takes almost twice the bytes
    }
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(path.suffix, bgr, options.get(path.suffix, []))[1]
    with written_whole(path, durable=False) as file:
        file.write(encoded.tobytes())


def write_mask(path: Path, class_map: np.ndarray) -> None:
    """PNG whose pixels are class indices, with a palette for looking at, as in PASCAL VOC. Read it with Pillow."""
    image = Image.fromarray(class_map)
    image.putpalette([0, 0, 0, *(part for colour in class_colours(255) for part in colour)])
    with written_whole(path, durable=False) as file:
        image.save(file, "PNG")
