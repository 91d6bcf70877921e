"""A split that holds nothing of what its task learns and scores: an error, rather than a run that measures nothing."""

from collections.abc import Callable, Sequence

import numpy as np

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.errors import DataError
from mnv2_tasks.wording import counted

BACKGROUND = "background"


def nothing_to_learn(
    kind: str, records: Records, class_names: Sequence[str], mask: Callable[[int], np.ndarray]
) -> tuple[str, str] | None:
    """(what, remedy) of a split without an object, or without a pixel of a class; None for any other.

    Args:
        mask: index of an image -> its class indices; of segmentation only, and called until one has a class.
    """
    if kind == "detection":
        return None if (~records.crowd).any() else _no_object(records)
    if kind == "segmentation":
        return None if _has_class(records, class_names, mask) else _no_pixel(records, class_names)
    return None  # every image of a classification set has its label


def _no_object(records: Records) -> tuple[str, str]:
    images = counted(len(records), "image")
    if not len(records.boxes):
        return f"none of its {images} has an object", "Are the labels where they are looked for, named as the images?"
    return (
        f"all {counted(len(records.boxes), 'box')} of its {images} are crowds (iscrowd 1, as tools export brush masks) "
        f"or marked difficult, which are neither trained on nor scored",
        "data.crowd=train takes them as objects; or export them again without that mark",
    )


def _has_class(records: Records, class_names: Sequence[str], mask: Callable[[int], np.ndarray]) -> bool:
    if len(records.outlines):
        return bool((~records.crowd).any())
    empty = {IGNORE, *(i for i, name in enumerate(class_names) if name.lower() == BACKGROUND and len(class_names) > 1)}
    for index in range(len(records)):
        try:
            if not set(np.unique(mask(index)).tolist()) <= empty:
                return True
        except DataError:
            continue  # a problem of its own
    return False


def _no_pixel(records: Records, class_names: Sequence[str]) -> tuple[str, str]:
    return (
        f"no mask of its {counted(len(records), 'image')} has a pixel of a class, only of the background or {IGNORE}",
        f"The classes are the mask's values 0 to {len(class_names) - 1}: correct the masks, or the class list",
    )
