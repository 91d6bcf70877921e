"""How a picture was held: EXIF's orientation tag, and the turn that it asks for."""

import re
import struct

import cv2
import numpy as np

TAG = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # its values that swap height and width
FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # OpenCV's code of what each does once the sides have changed places
BACK = {6: 8, 8: 6}  # what undoes a turn; the others undo themselves
IN_JPEG = re.compile(rb"\xff\xe1..(?=Exif\0\0)", re.DOTALL)
VALUES = {3: "H", 4: "I"}  # TIFF's types of whole numbers


def in_jpeg(content: bytes) -> int:
    """The orientation that a JPEG's bytes ask for, 1 to 8; 1, upright, where they say nothing.

    Not Pillow's `getexif`, which takes a tenth of a small photo's decoding.
    """
    if b"Exif" not in content:
        return 1
    found = IN_JPEG.search(content)
    return in_exif(content[found.end() : found.end() + (1 << 16)]) if found else 1


def in_exif(block: bytes) -> int:
    """Of a block of EXIF; a damaged one turns nothing."""
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, place)
            if tag == TAG and kind in VALUES:
                return valid(struct.unpack_from(f"{order}{VALUES[kind]}", tiff, place + 8)[0])
    except struct.error:
        pass
    return 1


def valid(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) or (H, W, C) uint8 as stored -> upright."""
    if orientation in SIDEWAYS:
        image = cv2.transpose(image)
    if orientation in FLIPS:
        image = cv2.flip(image, FLIPS[orientation])
    return image


def stored(image: np.ndarray, orientation: int) -> np.ndarray:
    """Upright -> as stored."""
    return turned(image, BACK.get(orientation, orientation))
