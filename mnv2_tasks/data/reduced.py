"""Pictures made smaller before they are packed, and their annotations with them. None is made larger."""

import io
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from mnv2_tasks.data.images.decode import decode_image, is_deep, opened
from mnv2_tasks.data.reading.records import Records

QUALITY = 95  # of JPEG


def reduced_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """(height, width) once the shorter side has at most so many pixels; the longer as torchvision's Resize has it."""
    height, width = size
    if min(size) <= shorter:
        return size
    longer = int(shorter * max(size) / min(size))
    return (shorter, longer) if height <= width else (longer, shorter)


def reduced_picture(content: bytes, file: str, size: tuple[int, int], shorter: int) -> bytes | None:
    """A JPEG of a picture that is larger; None for others, and for those of 16 bits, which a JPEG has not.

    It is turned as annotations of this size need it, and says nothing of a turn. Pixels are antialiased as those that a
    classifier is validated with. Greys stay greys, colours keep the resolution that a JPEG stored them in.

    Args:
        file: what errors call it.
        size: height and width in whose pixels annotations are.
    """
    if min(size) <= shorter:
        return None
    with opened(io.BytesIO(content), file) as stored:
        if is_deep(stored):
            return None
        grey, sampling = stored.mode in ("1", "L"), JpegImagePlugin.get_sampling(cast(Any, stored))
    height, width = reduced_size(size, shorter)
    picture = Image.fromarray(decode_image(content, file, size)).resize((width, height), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    (picture.convert("L") if grey else picture).save(out, "JPEG", quality=QUALITY, subsampling=max(sampling, 0))
    return out.getvalue()


def reduced_mask(classes: np.ndarray, size: tuple[int, int]) -> bytes:
    """A PNG of class indices (H, W), each pixel that of the nearest one."""
    if classes.shape != size:
        classes = cv2.resize(classes, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    out = io.BytesIO()
    Image.fromarray(classes).save(out, "PNG")
    return out.getvalue()


def reduced_records(records: Records, before: np.ndarray, after: np.ndarray) -> Records:
    """Boxes, areas and sizes in the pixels of pictures that had `before`, and have `after` (n, 2) height and width."""
    owner = records.image_of_box()
    old, new = (np.tile(sizes[owner][:, ::-1], 2).astype(float) for sizes in (before, after))  # (N, 4)
    return replace(
        records,
        sizes=np.where(records.sizes > 0, after, 0).astype(np.int32),
        boxes=records.boxes * new / old,
        areas=records.areas * new[:, :2].prod(axis=1) / old[:, :2].prod(axis=1),
    )
