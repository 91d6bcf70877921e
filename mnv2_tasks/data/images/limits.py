"""How large a picture may be: a few hundred bytes can decompress to terabytes."""

import os

from PIL import Image

from mnv2_tasks.errors import ConfigError

LONGEST_SIDE = 1 << 20  # pixels
RAISED = "MNV2_MOST_PIXELS"  # environment variable: all processes that a run starts need it; OpenCV's, see __init__.py


def _most_pixels() -> int:
    """178,956,970, where Pillow speaks of a decompression bomb, or what the user says instead."""
    said, usual = os.environ.get(RAISED), 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if not said:
        return usual
    if not said.isdecimal() or not 0 < int(said) <= LONGEST_SIDE**2:
        raise ConfigError(f"{RAISED}={said}: expected a number of pixels, such as {2 * usual}")
    Image.MAX_IMAGE_PIXELS = -(-int(said) // 2)  # Pillow refuses twice as many
    return int(said)


MOST_PIXELS = _most_pixels()


def too_many_pixels(size: tuple[int, int]) -> str:
    """Of (height, width), for an error."""
    return f"{size[1]:,} x {size[0]:,} pixels, {beyond(size[0] * size[1])}"


def beyond(pixels: int) -> str:
    """Why so many are refused, and what to do."""
    return (
        f"more than {MOST_PIXELS:,}, which a small file that unpacks without end may have too; make smaller pictures "
        f"of it, or if you trust the file say {RAISED}={pixels} before the command"
    )
