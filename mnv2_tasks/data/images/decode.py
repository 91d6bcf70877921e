"""A file -> pixels: pictures as RGB, masks as class indices."""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mnv2_tasks.data.images.file_bytes import content_of
from mnv2_tasks.errors import DataError

ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that swap height and width
JPEG = b"\xff\xd8"
# the names say grey, but beside IMREAD_COLOR_RGB they are the scale alone: IMREAD_REDUCED_COLOR_* ask for BGR
REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}


class Header(NamedTuple):
    """What a picture's file says of itself."""

    size: tuple[int, int]  # (height, width) as stored
    turned: bool  # the camera was held sideways: upright, height and width change places
    mode: str  # Pillow's: RGB, L, P, CMYK, I;16 ...


def read_image(path: str | Path, annotated: tuple[int, int] | None = None, *, least: int | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Greyscale, palette, CMYK and 16-bit pictures are converted, transparency is dropped.

    Args:
        path: of a file, or of a member of a shard, see file_bytes.py.
        annotated: (height, width) of the picture in whose pixels boxes are given. It tells whether they were drawn on
            the stored pixels or on the upright ones; without it the picture is turned as the camera's EXIF tag asks.
        least: pixels that the shorter side needs. A JPEG is then decoded at an eighth, a quarter or half of its size,
            where that leaves so many; None: in full. The size is that of `annotated`, which must be given.

    Raises:
        DataError: the file cannot be opened or decoded. One that is cut short is half a picture here, in silence:
            `check_image` finds it.
    """
    content = content_of(path)
    flags = cv2.IMREAD_COLOR_RGB
    jpeg = content.startswith(JPEG)
    if annotated is not None and 0 not in annotated:
        # without EXIF there is nothing to turn by, and a second look at each file is a tenth of its decoding
        if not (jpeg and b"Exif" not in content) and _stored_size(content, path) == tuple(annotated):
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        if jpeg and least:
            flags |= next((flag for factor, flag in REDUCED.items() if min(annotated) >= factor * least), 0)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise DataError(f"{path}: OpenCV cannot decode this kind of image; convert it to PNG or JPEG")
    return image


def check_image(path: str | Path) -> Header:
    """Decode the whole file.

    Raises:
        DataError: it cannot be opened, is empty, no image, damaged or cut short.
    """
    content = content_of(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about size, palettes and tags: the pixels are OpenCV's affair
            with Image.open(io.BytesIO(content)) as image:
                header = Header((image.height, image.width), _turned(image), image.mode)
                image.draft("L", (1, 1))  # JPEG: reads the whole file, computes an eighth of the pixels
                image.load()
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: is not an image, whatever its name says") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{path}: is damaged or cut short ({error})") from None
    return header


def read_mask(path: str | Path) -> np.ndarray:
    """(H, W) uint8 class indices of an index or palette image, or of an SBD `.mat` (Hariharan et al. 2011).

    OpenCV turns a palette into colours, so this is Pillow's.

    Raises:
        DataError: it is not an image of indices, or cannot be read.
    """
    content = io.BytesIO(content_of(path))
    if str(path).endswith(".mat"):
        return _read_sbd(path, content)
    try:
        with Image.open(content) as image:
            if image.mode not in ("P", "L", "1", "I", "I;16"):
                raise DataError(
                    f"{path}: has colours (mode {image.mode}) where a mask needs one class index per pixel; "
                    f"save it as a palette or greyscale image whose values are 0 .. classes - 1, 255 for no class"
                )
            values = np.array(image)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: the mask cannot be read ({error})") from None
    if values.max(initial=0) > 255:
        raise DataError(f"{path}: holds values up to {values.max()}; class indices go to 254, 255 is no class")
    return values.astype(np.uint8, copy=False)


def _read_sbd(path: str | Path, content: io.BytesIO) -> np.ndarray:
    from scipy.io import loadmat  # a tenth of a second that others need not wait for

    try:
        return loadmat(content, mat_dtype=False)["GTcls"][0]["Segmentation"][0].astype(np.uint8)
    except Exception as error:
        raise DataError(f"{path}: is no class annotation of SBD, GTcls.Segmentation is missing ({error})") from None


def _turned(image: Image.Image) -> bool:
    return image.getexif().get(ORIENTATION) in TURNED


def _stored_size(content: bytes, path: str | Path) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                return image.height, image.width
    except Exception as error:
        raise DataError(f"{path}: is not an image, or damaged ({error})") from None
