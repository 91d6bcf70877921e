"""The classes of masks that are drawn from outlines: what no outline holds is background."""

from dataclasses import replace

import numpy as np

from mnv2_tasks.data.reading.records import Records

BACKGROUND = "background"


def with_background(names: list[str]) -> tuple[list[str], np.ndarray]:
    """(class names, background first; (K,) int64 the mask value of each of `names`)

    A class that is called background already is that one: outlines of it cut holes.
    """
    others = [name for name in names if name.strip("_ ").lower() != BACKGROUND]
    value_of = {name: value for value, name in enumerate(others, start=1)}
    return [BACKGROUND, *others], np.array([value_of.get(name, 0) for name in names], np.int64)


def relabelled(records: Records, value_of: np.ndarray) -> Records:
    """With mask values as the labels of its outlines."""
    return replace(records, box_labels=value_of[records.box_labels])
