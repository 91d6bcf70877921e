"""Values of 16 bits -> 8. Cameras and microscopes store 10 to 14 bits in them: which value is white, one must know."""

from functools import cache

import numpy as np

FULL = 2**16 - 1  # white, unless something else is known


def white_above(peak: int) -> int:
    """The white of pictures whose largest value is `peak`: that of the fewest bits which hold it, from 8 on."""
    return (1 << max(8, peak.bit_length())) - 1 if peak else FULL


def eight_bits(values: np.ndarray, white: int) -> np.ndarray:
    """uint16 of any shape -> uint8: `white` and all beyond becomes 255."""
    return _table(white)[values]


@cache
def _table(white: int) -> np.ndarray:
    if white == FULL:
        return (np.arange(FULL + 1) >> 8).astype(np.uint8)  # as OpenCV has it
    return np.minimum(np.arange(FULL + 1) * (255 / white) + 0.5, 255).astype(np.uint8)
