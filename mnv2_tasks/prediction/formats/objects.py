"""Which classes of a mask are objects that a tool outlines."""

from collections.abc import Sequence

import numpy as np

from mnv2_tasks.data.layouts.background import BACKGROUND


def objects_of(mask: np.ndarray, class_names: Sequence[str]) -> list[int]:
    """The classes that a (H, W) uint8 mask holds; a class that is called background is where nothing is."""
    held = [int(label) for label in np.unique(mask)]
    return [label for label in held if class_names[label].strip("_ ").lower() != BACKGROUND]
