"""What is wrong with a data set, and the one policy for it: refuse at the start, or go on without and count it."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import brief, visible

log = logging.getLogger(__name__)

POLICIES = ("refuse", "skip")
SHOWN = 10
SLACK = 2.0  # pixels that a box may reach past its image, by rounding and by tools that count from 1: it is cut
ROUNDING = 0.05  # pixels that are cut without a word


class Problem(NamedTuple):
    """One record that cannot be used. Without `box` the whole image goes; without `image` there is nothing to drop."""

    file: str  # the file to look at: annotation file or picture
    what: str  # such as "annotation 17 has no area: (3.0, 4.0, 3.0, 9.0)"
    remedy: str
    image: int | None  # index in the split's records; None: an annotation that could not become a box of any image
    box: int | None = None  # index in the split's boxes

    def __str__(self) -> str:
        return visible(f"{self.file}: {self.what}. {self.remedy}")


def check_policy(on_bad: str) -> None:
    if on_bad not in POLICIES:
        raise ConfigError(f"data.on_bad={on_bad}: expected {' or '.join(POLICIES)}")


def each_once(problems: Iterable[Problem]) -> list[Problem]:
    """Problems that say the same as one, which says how often."""
    times = Counter((problem.file, problem.what, problem.remedy) for problem in problems)
    return [
        Problem(file, what if number == 1 else f"{what} ({number:,} times)", remedy, None)
        for (file, what, remedy), number in times.items()
    ]


def reach(records: Records, sizes: np.ndarray) -> np.ndarray:
    """(N,) pixels by which each box leaves its image; (n, 2) sizes as below."""
    limit = _limits(records, sizes)
    out = np.concatenate([-records.boxes, records.boxes - limit], axis=1)
    return out.max(axis=1, initial=0)


def _limits(records: Records, sizes: np.ndarray) -> np.ndarray:
    """(N, 4) width, height, width, height of each box's image; endless where they are not known."""
    limit = np.tile(sizes[records.image_of_box()][:, ::-1], 2).astype(float)
    limit[limit == 0] = np.inf
    return limit


def box_problems(records: Records, class_names: Sequence[str], sizes: np.ndarray) -> list[Problem]:
    """Boxes that no detector can learn from, or that contradict their picture.

    Args:
        sizes: (n, 2) height and width of the pictures in whose pixels the boxes are; rows of 0 are not known.
    """
    boxes, owner = records.boxes, records.image_of_box()
    height, width = (sizes[owner].T if len(owner) else np.zeros((2, 0))).astype(float)
    known = height > 0
    x0, y0, x1, y1 = boxes.T
    with np.errstate(invalid="ignore"):
        faults = [
            (~np.isfinite(boxes).all(axis=1), "is not a number"),
            (~np.isfinite(records.areas), "has an area that is no number"),
            ((x1 < x0) | (y1 < y0), "has its corners reversed"),
            ((x1 == x0) | (y1 == y0), "has no area"),
            (known & ((x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height)), "lies outside its image"),
            (known & (reach(records, sizes) > SLACK), f"reaches out of its image by more than {SLACK:g} pixels"),
            ((records.box_labels < 0) | (records.box_labels >= len(class_names)), "has a class that does not exist"),
        ]
    found, seen = [], np.zeros(len(boxes), bool)
    for fault, what in faults:
        for i in np.flatnonzero(fault & ~seen):
            image = int(owner[i])
            size = f", the image has {int(width[i])} x {int(height[i])} pixels" if known[i] else ""
            corners = ", ".join(f"{side:.6g}" for side in boxes[i])
            label = int(records.box_labels[i])
            name = brief(class_names[label]) if 0 <= label < len(class_names) else f"class {label}"
            text = f"box {records.box_ids[i]} {what}: {name}, corners ({corners}){size}"
            found.append(Problem(records.files[image], text, "Correct or delete this box", image, int(i)))
        seen |= fault
    return sorted(found, key=lambda problem: (problem.image, problem.box))


def apply_policy(records: Records, problems: Sequence[Problem], on_bad: str, split: str) -> tuple[Records, str | None]:
    """The records without what is bad, and a line that says what was left out.

    Raises:
        DataError: the policy is to refuse; the first problems are named, with the ways out.
    """
    if not problems:
        return records, None
    distinct = each_once(problems)
    listed = "\n".join(f"  {problem}" for problem in distinct[:SHOWN])
    more = f"\n  ... and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else ""
    if on_bad == "refuse":
        raise DataError(
            f"{len(problems)} bad records in {split}:\n{listed}{more}\n"
            f"Mend them, or go on without them: data.on_bad=skip. "
            f"`python tools/data.py check` with the same data=... data.root=... lists all of them in bad_files.txt"
        )
    images, boxes = np.ones(len(records), bool), np.ones(len(records.boxes), bool)
    for problem in problems:
        if problem.box is not None:
            boxes[problem.box] = False
        elif problem.image is not None:
            images[problem.image] = False
    kept = records.keep(images, boxes)
    lost = len(records.boxes) - len(kept.boxes)
    line = f"skipped in {split}: {(~images).sum()} of {len(records)} images, {lost} of {len(records.boxes)} boxes"
    stray = sum(problem.image is None for problem in problems)
    line += f", {stray} annotations without a place" if stray else ""
    log.warning("%s\n%s%s", line, listed, more)
    return kept, line


def clip_boxes(records: Records, sizes: np.ndarray) -> int:
    """Cut the slack off, in place, and say how many boxes lost more than `ROUNDING`: (n, 2) sizes as above."""
    cut = int((reach(records, sizes) > ROUNDING).sum())
    np.clip(records.boxes, 0, _limits(records, sizes), out=records.boxes)
    return cut


def first_alike(records: Records) -> np.ndarray:
    """(N,) int64 index of the first box of the same image, class and corners: its own, unless it is given again."""
    rows = np.column_stack([records.image_of_box(), records.box_labels, records.crowd, records.boxes])
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)]  # NumPy 2.0 shaped the inverse like the input
