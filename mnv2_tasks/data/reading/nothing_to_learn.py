"""A split that holds nothing of what its task learns and scores: an error, rather than a run that measures nothing."""

from collections.abc import Callable, Sequence

import numpy as np

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.errors import DataError
from mnv2_tasks.wording import counted, visible

BACKGROUND = "background"


def nothing_to_learn(
    split: str, kind: str, records: Records, class_names: Sequence[str], mask: Callable[[int], np.ndarray]
) -> tuple[str, str] | None:
    """(what, remedy) of a split without an object, or with one class alone; None for any other.

    Args:
        split: of classes, "train" alone needs two.
        mask: index of an image -> its class indices; of segmentation only, and called until there are two classes.
    """
    if kind == "detection":
        return _of_boxes(records, records.boxes[~records.crowd])
    if kind == "segmentation":
        return _of_masks(split, records, class_names, mask)
    return _of_labels(records, class_names) if split == "train" else None


def _of_boxes(records: Records, boxes: np.ndarray) -> tuple[str, str] | None:
    if not len(boxes):
        return _no_object(records)
    if (boxes <= 1).all():
        return (
            f"all {counted(len(boxes), 'box')} of its {counted(len(records), 'image')} lie within one pixel, as "
            f"fractions of the image's sides would",
            "Pixels belong here: export it again",
        )
    return None


def _no_object(records: Records) -> tuple[str, str]:
    images = counted(len(records), "image")
    if not len(records.boxes):
        return f"none of its {images} has an object", "Are the labels where they are looked for, named as the images?"
    return (
        f"all {counted(len(records.boxes), 'box')} of its {images} are crowds (iscrowd 1, as tools export brush masks) "
        f"or marked difficult, which are neither trained on nor scored",
        "data.crowd=train takes them as objects; or export them again without that mark",
    )


def _of_masks(
    split: str, records: Records, class_names: Sequence[str], mask: Callable[[int], np.ndarray]
) -> tuple[str, str] | None:
    if not len(records.masks) and records.crowd.all():
        return _no_object(records)
    held: set[str] = set()
    for index in range(len(records)):
        try:
            held |= {class_names[int(label)] for label in np.unique(mask(index)).tolist() if label < len(class_names)}
        except DataError:
            continue  # a problem of its own
        if len(held) > 1 or (split != "train" and not _only_background(held)):
            return None
    images = counted(len(records), "image")
    if _only_background(held):
        what = f"no mask of its {images} has a pixel of a class, only of the background or {IGNORE}"
    else:
        what = f"the masks of its {images} hold one class alone, {visible(min(held))}"
    return what, f"The classes are the mask's values 0 to {len(class_names) - 1}: correct the masks, or the class list"


def _only_background(names: set[str]) -> bool:
    return all(name.lower() == BACKGROUND for name in names)


def _of_labels(records: Records, class_names: Sequence[str]) -> tuple[str, str] | None:
    held = np.unique(records.labels).tolist()
    if len(held) > 1:
        return None
    verb = "is" if len(records) == 1 else "are"
    what = f"its {counted(len(records), 'image')} {verb} of one class alone, {visible(class_names[int(held[0])])}"
    return what, "Add images of another class: every class needs some to train on"
