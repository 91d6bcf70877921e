"""What travels from a picture's result to the files of other tools."""

from typing import Any, NamedTuple

from mnv2_tasks.contracts import FoundBoxes


class Annotated(NamedTuple):
    """A picture, and what one task found in it."""

    file: str  # as results.json calls it
    copy: str  # its name in images/, of letters, digits and _.- alone; no other has it, whatever its case or suffix
    size: tuple[int, int]  # height, width in pixels, upright
    found: Any  # FoundBoxes, a (H, W) uint8 mask or (K,) float32 probabilities


def rounded_boxes(found: FoundBoxes) -> list[tuple[int, float, list[float]]]:
    """(label, score, x0 y0 x1 y1 in pixels) of the boxes, in hundredths of a pixel; those without area are none."""
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist())
    boxes = [(label, round(score, 4), [round(side, 2) for side in box]) for label, score, box in rows]
    return [row for row in boxes if row[2][0] < row[2][2] and row[2][1] < row[2][3]]
