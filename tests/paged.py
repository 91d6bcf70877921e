"""Files of several pictures."""

import numpy as np
from PIL import Image

FRAMES = [np.full((12, 16, 3), (40 * i, 200 - 30 * i, 10), np.uint8) for i in range(5)]


def write(path, frames=FRAMES, **settings):
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, **settings)
    return path


def broken(path, page):
    """The TIFF of `write`, compressed, with bytes of one page's strip damaged."""
    content = bytearray(write(path, compression="tiff_lzw").read_bytes())
    with Image.open(path) as image:
        image.seek(page - 1)
        start, size = image.tag_v2[273][0], image.tag_v2[279][0]
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return path
