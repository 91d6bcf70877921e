"""A file -> pixels: pictures as RGB, masks as class indices."""

import io
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from mnv2_tasks.data.images import orientation
from mnv2_tasks.data.images.deep import FULL, eight_bits
from mnv2_tasks.data.images.file_bytes import content_of
from mnv2_tasks.data.images.limits import MOST_PIXELS, beyond, too_many_pixels
from mnv2_tasks.data.images.mat_files import read_mat
from mnv2_tasks.data.images.unwarned import unwarned
from mnv2_tasks.errors import DataError

JPEG = b"\xff\xd8"
TAIL = 1 << 14  # bytes at the end of a PNG, where some tools put its EXIF
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what a whole file has within its last kilobyte
UNREAD = {  # by their first bytes: what nobody here can decode, and its name does not say
    "a TIFF whose pixels are of a kind that cannot be read": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "HEIC or AVIF": (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftypavif"),
    "JPEG 2000": (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"),
}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # others' readers may start programs, as that of EPS
# the names say grey, but beside IMREAD_COLOR_RGB they are the scale alone: IMREAD_REDUCED_COLOR_* ask for BGR
REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}


class Header(NamedTuple):
    """What a picture's file says of itself."""

    stored: tuple[int, int]  # (height, width)
    orientation: int  # EXIF's: 1 is upright, 2 to 4 are mirrored or upside down, from 5 on the sides change places
    format: str  # Pillow's: JPEG, PNG, TIFF ...
    deep: bool  # 16 bits a colour
    peak: int = 0  # the largest value of a deep picture, where it was decoded
    brightest: int = 255  # the same of others; of a JPEG of means of 8 x 8 pixels

    @property
    def upright(self) -> tuple[int, int]:
        height, width = self.stored
        return (width, height) if self.orientation in orientation.SIDEWAYS else (height, width)


def read_image(
    path: str | Path, annotated: tuple[int, int] | None = None, *, least: int | None = None, white: int = FULL
) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Greyscale, palette, CMYK and 16-bit pictures are converted, transparency is dropped.

    Args:
        path: of a file, or of a member of a shard, see file_bytes.py.
        annotated: (height, width) of the picture in whose pixels boxes are given. Where it is the stored picture's and
            not the upright one's, the picture is left as stored; else it is turned as the camera's EXIF tag asks.
        least: pixels that the shorter side needs. A JPEG is then decoded at an eighth, a quarter or half of its size,
            where that leaves so many; None: in full. The size is that of `annotated`, which must be given.
        white: value of a picture with 16 bits a colour that becomes 255.

    Raises:
        DataError: the file cannot be opened or decoded. One that is cut short is half a picture here, in silence:
            `check_image` finds it.
    """
    return decode_image(content_of(path), path, annotated, least=least, white=white)


def decode_image(
    content: bytes,
    path: str | Path,
    annotated: tuple[int, int] | None = None,
    *,
    least: int | None = None,
    white: int = FULL,
) -> np.ndarray:
    """As `read_image`, of a file's bytes.

    Args:
        path: what errors call it.
    """
    jpeg = content.startswith(JPEG)
    # a second look at each file is a tenth of its decoding: an upright JPEG needs none
    header = None if jpeg and orientation.in_jpeg(content) == 1 else _header_of(content, path)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION  # one reader of the tag for pictures and masks
    if jpeg and least and annotated is not None and 0 not in annotated:
        flags |= next((flag for factor, flag in REDUCED.items() if min(annotated) >= factor * least), 0)
    if header is not None and header.deep:
        image = eight_bits(_deep_pixels(content, path), white)
    else:
        image = _pixels(content, path, flags)
    if header is None or header.orientation == 1:
        return image
    as_stored = annotated is not None and tuple(annotated) == header.stored != header.upright
    if header.format == "TIFF":  # which OpenCV turns whatever the flag says
        return orientation.stored(image, header.orientation) if as_stored else image
    return image if as_stored else orientation.turned(image, header.orientation)


def check_image(path: str | Path) -> Header:
    """Decode the whole file.

    Raises:
        DataError: it cannot be opened, is empty, no image, damaged or cut short.
    """
    return check_content(content_of(path), path)


def check_content(content: bytes, path: str | Path) -> Header:
    """As `check_image`, of a file's bytes."""
    with opened(io.BytesIO(content), path) as image:
        header = _header(image, path)
        image.draft("L", (1, 1))  # JPEG: reads the whole file, computes an eighth of the pixels
        image.load()
        if not header.deep:
            ranges = (image if image.mode == "L" else image.convert("RGB")).getextrema()
            header = header._replace(brightest=int(np.max(ranges)))
    if header.deep:  # Pillow halves its colours to 8 bits
        header = header._replace(peak=int(_deep_pixels(content, path).max()))
    return header


def read_header(path: str | Path) -> Header | None:
    """Of a file that nothing is wrong with as far as its beginning and its end tell, such as one cut short.

    None: `check_image` must tell, which knows 16 bits' largest value and what is wrong, or the format marks no end.
    """
    try:
        with opened(Path(path), path) as image:
            header, mark = _header(image, path), ENDS.get(image.format or "")
            return header if mark and not header.deep and _ends_with(mark, cast(Any, image).fp, 1 << 10) else None
    except DataError:
        return None


def _pixels(content: bytes, path: str | Path, flags: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned in a TIFF. What `check_image` decoded is read, such as a TIFF's rarer packings."""
    image = _by_opencv(content, flags)
    return _by_pillow(content, path) if image is None else image


def _deep_pixels(content: bytes, path: str | Path) -> np.ndarray:
    """The same in uint16."""
    # not IMREAD_COLOR_RGB: with 16 bits it returns a TIFF's colours from memory that nothing was written to
    image = _by_opencv(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    return _by_pillow(content, path) if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _by_opencv(content: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None


def _by_pillow(content: bytes, path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8, or uint16 where there are 16 bits; not turned, but for a TIFF."""
    with opened(io.BytesIO(content), path) as image:
        if image.mode.startswith("I;16"):
            return np.stack([np.asarray(image).astype(np.uint16)] * 3, axis=2)
        deep = is_deep(image)
        pixels = np.array(image.convert("RGB"))
        return 257 * pixels.astype(np.uint16) if deep else pixels


def from_pillow(image: Image.Image, name: str, *, white: int = FULL) -> np.ndarray:
    """As `read_image`, of a picture that a program has opened with Pillow.

    Raises:
        DataError: its values have no white, or its file is damaged.
    """
    turn = _header(image, name).orientation
    try:
        with unwarned():
            if image.mode.startswith("I;16"):
                pixels = eight_bits(np.stack([np.asarray(image).astype(np.uint16)] * 3, axis=2), white)
            else:  # by RGBA: a palette's transparency is dropped, as that of others
                pixels = np.array((image.convert("RGBA") if image.mode in ("P", "PA") else image).convert("RGB"))
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{name}: is damaged or cut short ({error})") from None
    return pixels if isinstance(image, TiffImageFile) else orientation.turned(pixels, turn)


@contextmanager
def opened(source: Path | io.BytesIO, path: str | Path) -> Iterator[Image.Image]:
    """A picture whose header was read, and is of a picture of a size that can be decoded.

    Raises:
        DataError: it is not, or what stands inside fails.
    """
    try:
        with unwarned():  # about size, palettes and tags: the pixels are OpenCV's affair
            with Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise DataError(f"{path}: has {too_many_pixels((image.height, image.width))}")
                yield image
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: {_unread(source)}") from None
    except Image.DecompressionBombError as error:
        pixels = max(map(int, re.findall(r"\d+", str(error))), default=0)
        raise DataError(f"{path}: has {pixels:,} pixels, {beyond(pixels)}") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{path}: is damaged or cut short ({error})") from None


def _unread(source: Path | io.BytesIO) -> str:
    """What a file is that Pillow does not know."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            start = file.read(16)
    else:
        start = source.getvalue()[:16]
    for what, marks in UNREAD.items():
        if start.startswith(marks) or start[4:].startswith(marks):
            return f"is {what}, or damaged. Save it as JPEG, or as PNG or TIFF with 8 or 16 bits a colour"
    return "is not an image, whatever its name says"


def read_mask(path: str | Path, *, known: Collection[int] = ()) -> np.ndarray:
    """(H, W) uint8 class indices of an index or palette image, or of an SBD `.mat` (Hariharan et al. 2011).

    Turned as its own EXIF tag asks. OpenCV turns a palette into colours, so this is Pillow's. Colours that are greys
    throughout are indices too.

    Args:
        known: values that mark pixels without a class; those beyond 255 are returned as 255.

    Raises:
        DataError: it is not an image of indices, or cannot be read.
    """
    content = content_of(path)
    if str(path).endswith(".mat"):
        return _read_sbd(path, content)
    with opened(io.BytesIO(content), path) as image:
        turn = _mask_turn(image)
        values = np.array(image)
        grey = values.ndim == 3 and (image.mode == "LA" or (values[..., :1] == values[..., 1:3]).all())
        if image.mode in ("RGB", "RGBA", "LA") and grey:
            values = values[..., 0]
        elif image.mode == "F":
            raise DataError(f"{path}: has fractions as values (mode F); class indices are whole numbers of 8 bits")
        elif image.mode not in ("P", "L", "1", "I", "I;16"):
            raise DataError(
                f"{path}: has colours (mode {image.mode}) where a mask needs one class index per pixel; "
                f"save it as a palette or greyscale image whose values are 0 .. classes - 1, 255 for no class, "
                f"or say which colour is which class: data.colours=<file>"
            )
        if image.format == "JPEG":
            raise DataError(
                f"{path}: is a JPEG, which changes values at edges, and so classes; save the mask as PNG, from its "
                f"source (masks of black and white alone: data.binary=true)"
            )
    if values.dtype.itemsize > 1 and (beyond := [value for value in known if not 0 <= value <= 255]):
        values = np.where(np.isin(values, beyond), 255, values)
    if values.dtype.itemsize > 1 and (values.max(initial=0) > 255 or values.min(initial=0) < 0):
        raise DataError(
            f"{path}: holds values from {values.min()} up to {values.max()}; class indices go to 254, 255 is no class"
        )
    return orientation.turned(values.astype(np.uint8, copy=False), turn)


def palette_of(path: str | Path) -> dict[int, int]:
    """{value: its colour, 0xRRGGBB} of the pixels of a palette image, without colours of several values; else nothing.

    Raises:
        DataError: it cannot be read.
    """
    with opened(io.BytesIO(content_of(path)), path) as image:
        if image.mode != "P":
            return {}
        rgb = np.array(image.getpalette("RGB"), np.int64).reshape(-1, 3)
        held = np.unique(np.array(image))
    colours = (rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2]).tolist()
    return {
        value: colours[value] for value in held.tolist() if value < len(colours) and colours.count(colours[value]) == 1
    }


def read_colours(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a mask, turned as `read_mask` does; of a palette its colours, of 16 bits the upper ones.

    Raises:
        DataError: it cannot be read.
    """
    with opened(io.BytesIO(content_of(path)), path) as image:
        turn = _mask_turn(image)
        deep = image.mode in ("I", "I;16")
        values = np.array(image if deep else image.convert("RGBA"))  # by RGBA: palettes may have transparency
    if deep:
        values = values >> 8 if values.max(initial=0) > 255 else values
        values = np.repeat(values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return orientation.turned(np.ascontiguousarray(values[..., :3]), turn)


def _mask_turn(image: Image.Image) -> int:
    """The orientation that is still to be undone: Pillow turns TIFF itself."""
    return 1 if isinstance(image, TiffImageFile) else _orientation(image)


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
    with opened(Path(path), path) as image:
        return _header(image, path).upright


def _header_of(content: bytes, path: str | Path) -> Header:
    with opened(io.BytesIO(content), path) as image:
        return _header(image, path)


def _header(image: Image.Image, path: str | Path) -> Header:
    """Of a picture; of one whose values have no white, such as heights in metres, it is refused."""
    if image.mode in ("F", "I"):
        kind = "fractions" if image.mode == "F" else "signed numbers or 32 bits"
        raise DataError(
            f"{path}: has {kind} as values (mode {image.mode}), and nothing says which of them are black and white; "
            f"scale them, and save 8 or 16 bits a colour without sign"
        )
    deep, turn = is_deep(image), _orientation(image)
    size = image.height, image.width
    if isinstance(image, TiffImageFile) and turn in orientation.SIDEWAYS:  # whose size Pillow turns
        size = image.width, image.height
    return Header(size, turn, image.format or "", deep)


def is_deep(image: Image.Image) -> bool:
    """Before the picture is loaded: whether a colour has 16 bits. (All colours together have them in BMP's BGR;16.)"""
    if image.mode.startswith("I;16"):
        return True
    return image.format in ("PNG", "TIFF") and any(";16" in str(tile.args) for tile in cast(Any, image).tile[:1])


def _orientation(image: Image.Image) -> int:
    """By the EXIF tag; of XMP's, which few programs follow, nothing is read."""
    if isinstance(image, TiffImageFile):
        return orientation.valid(image.tag_v2.get(orientation.TAG))
    if "exif" not in image.info and image.format == "PNG" and _ends_with(b"eXIf", cast(Any, image).fp, TAIL):
        image.load()
    return orientation.in_exif(image.info.get("exif") or b"")


def _ends_with(mark: bytes, file: Any, within: int) -> bool:
    """Whether the last bytes of a picture's file hold a mark, such as the EXIF that exiftool writes behind a PNG's
    pixels; of one that was loaded all was read."""
    if file is None:
        return False
    place = file.tell()
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - within, 0))
    found = mark in file.read()
    file.seek(place)
    return found
