"""COCO's three ways to write an object's outline -> one: compressed run lengths."""

import math
from collections.abc import Sequence
from typing import Any

import hotcoco
import numpy as np
from pycocotools import mask as run_length

from mnv2_tasks.errors import DataError
from mnv2_tasks.wording import brief

LONGEST_OUTLINE = 2_000_000  # pixels along a polygon, to which pycocotools needs 200 bytes each


def compressed_outline(segmentation: Any, size: tuple[int, int]) -> str:
    """Run lengths in COCO's compressed format, for `outline_mask`.

    Args:
        segmentation: an annotation's field: polygons [[x, y, x, y, ...], ...] in pixels, or {"size", "counts"} with
            run lengths as a list or as a compressed string.
        size: (height, width) of the image.

    Raises:
        DataError: it is none of these, encloses nothing, or belongs to an image of another size. The message goes on
            from "annotation 17 ".
    """
    height, width = size
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError("has no outline ('segmentation')")
    if not any(isinstance(part, list | str) for part in segmentation) and len(segmentation) >= 6:
        segmentation = [segmentation]  # VIA writes the one polygon without the list around it
    # Two points enclose nothing, and pycocotools takes four numbers for a box
    polygons = [polygon for polygon in segmentation if not isinstance(polygon, list) or len(polygon) >= 6]
    if not polygons:
        raise DataError("has an outline of fewer than three points")
    for polygon in polygons:
        _check_polygon(polygon, size)
    drawn = run_length.merge(run_length.frPyObjects(polygons, height, width))
    if not run_length.area(drawn) and all(map(_is_line, polygons)):
        raise DataError("has an outline without area")
    return _text(drawn)


def outline_mask(outline: str, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels inside what `compressed_outline` returned. (pycocotools' own warns on NumPy 2.)"""
    try:
        return hotcoco.mask.decode({"size": list(size), "counts": outline}).astype(bool)
    except ValueError as error:  # in a shard, whose outlines are not looked at beforehand
        raise DataError(f"an outline cannot be drawn ({error})") from None


def outline_box(outline: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels of what `compressed_outline` returned."""
    x, y, width, height = run_length.toBbox({"size": list(size), "counts": outline.encode()}).tolist()
    return x, y, width, height


def _check_polygon(polygon: Any, size: tuple[int, int]) -> None:
    """pycocotools checks nothing: it would draw a line to infinity, or crash."""
    try:
        paired = len(polygon) % 2 == 0 and math.isfinite(sum(polygon))
    except (TypeError, OverflowError):
        paired = False
    if not paired:
        raise DataError(f"has an outline that is no list of x and y: {brief(polygon)}")
    if min(polygon) < -max(size) or max(polygon) > 2 * max(size):
        raise DataError(
            f"has an outline from {min(polygon):g} to {max(polygon):g}, "
            f"far out of its image of {size[1]} x {size[0]} pixels"
        )
    if (
        len(polygon) * max(size) > LONGEST_OUTLINE
        and np.abs(np.diff(np.reshape(polygon, (-1, 2)), axis=0)).sum() > LONGEST_OUTLINE
    ):
        raise DataError(f"has an outline longer than {LONGEST_OUTLINE:,} pixels")


def _is_line(polygon: list[float]) -> bool:
    """Whether its points lie on one line, or are one point; an object of less than a pixel has an area."""
    points = np.reshape(polygon, (-1, 2))
    return int(np.linalg.matrix_rank(points - points[0])) < 2


def _from_runs(segmentation: dict[str, Any], size: tuple[int, int]) -> str:
    counts: Any = segmentation.get("counts")
    try:
        if isinstance(counts, list):
            uncompressed: Any = {"size": list(size), "counts": counts}
            counts = _text(run_length.frPyObjects(uncompressed, *size))
        lengths = _runs(counts)
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise DataError(f"has run lengths that cannot be read: {brief(counts)}") from None
    pixels = sum(lengths)  # pycocotools does not check it, and draws whatever lies in memory instead
    if min(lengths, default=0) < 0:
        raise DataError("has negative run lengths")
    if segmentation.get("size", [*size]) not in ([*size], size) or pixels != size[0] * size[1]:
        raise DataError(
            f"has run lengths of {pixels} pixels and size {brief(segmentation.get('size'))}, "
            f"its image has {size[0]} rows of {size[1]}"
        )
    return counts


def _text(coded: Any) -> str:
    return coded["counts"].decode()  # pycocotools gives bytes, its type hints say otherwise


def _runs(counts: str) -> list[int]:
    """Run lengths of COCO's compressed string: 5 bits a character, least first; from the fourth on, the change since
    the last but one. Neither hotcoco nor pycocotools would say how many pixels they come to.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("ascii"):
        chunk = byte - 48
        value |= (chunk & 0x1F) << shift
        shift += 5
        if shift > 64:
            raise ValueError("a run of more pixels than 64 bits count")
        if not chunk & 0x20:  # the run's last character, which holds the sign
            value -= (chunk & 0x10) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def crosses_itself(outline: Sequence[tuple[float, float]]) -> bool:
    """Whether two sides of a polygon that are no neighbours meet."""
    start = np.array([point for point, after in zip(outline, [*outline[1:], outline[0]]) if point != after])
    if len(start) < 4:
        return False
    end = np.roll(start, -1, axis=0)
    i, j = np.triu_indices(len(start), 2)
    i, j = i[j - i < len(start) - 1], j[j - i < len(start) - 1]  # the last side is a neighbour of the first

    def sides(line: np.ndarray, points: np.ndarray) -> np.ndarray:
        """-1, 0 or 1: on which side of a line each point lies."""
        along, to = end[line] - start[line], points - start[line]
        return np.sign((along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0]).round(9))

    of = sides(i, start[j]), sides(i, end[j]), sides(j, start[i]), sides(j, end[i])
    return bool(((of[0] * of[1] <= 0) & (of[2] * of[3] <= 0) & np.any(of, axis=0)).any())
