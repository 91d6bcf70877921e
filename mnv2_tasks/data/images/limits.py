"""How large a picture may be: a few hundred bytes can decompress to terabytes."""

from PIL import Image

LONGEST_SIDE = 1 << 20  # pixels
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # 178,956,970: where Pillow speaks of a decompression bomb


def too_many_pixels(size: tuple[int, int]) -> str:
    """Of (height, width), for an error."""
    return f"{size[1]:,} x {size[0]:,} pixels, more than {MOST_PIXELS:,}; make smaller pictures of it"
