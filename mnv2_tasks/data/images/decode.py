"""A file -> pixels: pictures as RGB, masks as class indices."""

import io
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mnv2_tasks.data.images.file_bytes import content_of
from mnv2_tasks.data.images.limits import MOST_PIXELS, too_many_pixels
from mnv2_tasks.data.images.mat_files import read_mat
from mnv2_tasks.errors import DataError

ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that swap height and width
JPEG = b"\xff\xd8"
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # others' readers may start programs, as that of EPS
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
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{path}: OpenCV cannot decode it ({error.err})") from None
    if image is None:
        raise DataError(f"{path}: OpenCV cannot decode this kind of image; convert it to PNG or JPEG")
    return image


def check_image(path: str | Path) -> Header:
    """Decode the whole file.

    Raises:
        DataError: it cannot be opened, is empty, no image, damaged or cut short.
    """
    with _opened(io.BytesIO(content_of(path)), path) as image:
        header = Header((image.height, image.width), _turned(image), image.mode)
        image.draft("L", (1, 1))  # JPEG: reads the whole file, computes an eighth of the pixels
        image.load()
    return header


@contextmanager
def _opened(source: Path | io.BytesIO, path: str | Path) -> Iterator[Image.Image]:
    """A picture whose header was read, and is of a picture of a size that can be decoded.

    Raises:
        DataError: it is not, or what stands inside fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about size, palettes and tags: the pixels are OpenCV's affair
            with Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise DataError(f"{path}: has {too_many_pixels((image.height, image.width))}")
                yield image
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: is not an image, whatever its name says") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: has more than {MOST_PIXELS:,} pixels; make smaller pictures of it") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{path}: is damaged or cut short ({error})") from None


def read_mask(path: str | Path, *, known: Collection[int] = ()) -> np.ndarray:
    """(H, W) uint8 class indices of an index or palette image, or of an SBD `.mat` (Hariharan et al. 2011).

    OpenCV turns a palette into colours, so this is Pillow's. Colours that are greys throughout are indices too.

    Args:
        known: values that mark pixels without a class; those beyond 255 are returned as 255.

    Raises:
        DataError: it is not an image of indices, or cannot be read.
    """
    content = content_of(path)
    if str(path).endswith(".mat"):
        return _read_sbd(path, content)
    with _opened(io.BytesIO(content), path) as image:
        values = np.array(image)
        grey = values.ndim == 3 and (image.mode == "LA" or (values[..., :1] == values[..., 1:3]).all())
        if image.mode in ("RGB", "RGBA", "LA") and grey:
            values = values[..., 0]
        elif image.mode not in ("P", "L", "1", "I", "I;16"):
            raise DataError(
                f"{path}: has colours (mode {image.mode}) where a mask needs one class index per pixel; "
                f"save it as a palette or greyscale image whose values are 0 .. classes - 1, 255 for no class, "
                f"or say which colour is which class: data.colours=<file>"
            )
    if values.dtype.itemsize > 1 and (beyond := [value for value in known if not 0 <= value <= 255]):
        values = np.where(np.isin(values, beyond), 255, values)
    if values.dtype.itemsize > 1 and (values.max(initial=0) > 255 or values.min(initial=0) < 0):
        raise DataError(
            f"{path}: holds values from {values.min()} up to {values.max()}; class indices go to 254, 255 is no class"
        )
    return values.astype(np.uint8, copy=False)


def read_colours(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a mask; of a palette its colours, of 16 bits the upper ones.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(io.BytesIO(content_of(path)), path) as image:
        if image.mode not in ("I", "I;16"):
            return np.array(image.convert("RGBA"))[..., :3]  # by RGBA: palettes may have transparency
        values = np.array(image)
    values = values >> 8 if values.max(initial=0) > 255 else values
    return np.repeat(values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _read_sbd(path: str | Path, content: bytes) -> np.ndarray:
    try:
        values = read_mat(content)["GTcls"][0]["Segmentation"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path}: is no class annotation of SBD, GTcls.Segmentation is missing ({error})") from None
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim != 2:
        raise DataError(f"{path}: is no class annotation of SBD, its GTcls.Segmentation is no picture of 8 bits")
    return values


def upright_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a file's picture (of no member of a shard) as it is looked at, from its header alone.

    Raises:
        DataError: it has none.
    """
    with _opened(Path(path), path) as image:
        return (image.width, image.height) if _turned(image) else (image.height, image.width)


def _turned(image: Image.Image) -> bool:
    return image.getexif().get(ORIENTATION) in TURNED


def _stored_size(content: bytes, path: str | Path) -> tuple[int, int]:
    with _opened(io.BytesIO(content), path) as image:
        return image.height, image.width
