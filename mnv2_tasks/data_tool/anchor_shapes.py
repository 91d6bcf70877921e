"""Anchors of the shapes that a data set's boxes have (YOLO9000, arXiv:1612.08242, section 2, "Dimension Clusters")."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.console import Console

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data_tool.examine import usable_boxes
from mnv2_tasks.drawing.canvas import AS_WRITTEN
from mnv2_tasks.errors import DataError
from mnv2_tasks.heads.yolov2 import CELL
from mnv2_tasks.whole_files import written_whole

STARTS = 10  # of which the best is taken: k-means ends in the nearest optimum
ROUNDS = 300
DOTS = 20_000  # boxes in the picture


class Anchors(NamedTuple):
    shapes: np.ndarray  # (k, 2) width, height in cells of CELL pixels, smallest area first
    shares: np.ndarray  # (k,) of the boxes, that each overlaps most
    mean_iou: float  # of each box with its best anchor, their centres being one


def training_boxes(source: DataSource) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) xyxy pixels of the boxes that can be learned, and (N, 2) height, width of their pictures.

    Raises:
        DataError: there are none.
    """
    if isinstance(source, FileSource):
        records, problems, sizes = source.problems("train")
        usable = usable_boxes(records, problems, sizes)
        boxes, pictures = records.boxes[usable], sizes[records.image_of_box()[usable]]
    else:
        source.prepare(["train"])
        found, sizes = [], []
        for index in range(source.length("train")):
            sample = source.sample("train", 0, index)
            found.append(np.asarray(sample.boxes))
            sizes += [sample.image.shape[:2]] * len(found[-1])
        boxes, pictures = np.concatenate(found), np.array(sizes).reshape(-1, 2)
    if not len(boxes):
        raise DataError("train has no boxes to take shapes from")
    return np.minimum(boxes, np.tile(pictures[:, ::-1], 2)).clip(0), pictures


def in_cells(boxes: np.ndarray, pictures: np.ndarray, side: int, *, letterbox: bool) -> np.ndarray:
    """(N, 2) width and height in cells of an input of `side` pixels.

    Args:
        letterbox: the picture keeps its aspect ratio, see `data.images.fit.Fit`; else it is squeezed into the square.
    """
    sides = pictures[:, ::-1].astype(float)  # width, height
    scale = side / (sides.max(axis=1, keepdims=True) if letterbox else sides)
    return (boxes[:, 2:] - boxes[:, :2]) * scale / CELL


def cluster(boxes: np.ndarray, k: int) -> Anchors:
    """k-means by 1 - IoU of boxes with a common centre, not by Euclid, to whom large boxes are the farthest.

    Args:
        boxes: (N, 2) width, height > 0.

    Raises:
        DataError: they have fewer than k shapes.
    """
    shapes = len(np.unique(boxes.round(6), axis=0))
    if shapes < k:
        raise DataError(f"train has boxes of {shapes} different shapes: k={k} anchors cannot be made of them")
    rng = np.random.default_rng(0)
    tries = [_settled(boxes, _spread(boxes, k, rng)) for _ in range(STARTS)]
    best = max(tries, key=lambda means: overlaps(boxes, means).max(axis=1).mean())
    best = best[np.argsort(best.prod(axis=1))]
    overlap = overlaps(boxes, best)
    shares = np.bincount(overlap.argmax(axis=1), minlength=k) / len(boxes)
    return Anchors(best, shares, float(overlap.max(axis=1).mean()))


def overlaps(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(N, k) IoU of (N, 2) and (k, 2) widths and heights, centres being one."""
    shared = np.minimum(boxes[:, None, 0], anchors[:, 0]) * np.minimum(boxes[:, None, 1], anchors[:, 1])
    return shared / (boxes.prod(axis=1)[:, None] + anchors.prod(axis=1) - shared)


def _spread(boxes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes to start from, each likely to be far from those before (k-means++)."""
    chosen = boxes[[rng.integers(len(boxes))]]
    while len(chosen) < k:
        distance = (1 - overlaps(boxes, chosen).max(axis=1)).clip(0) ** 2
        chosen = np.concatenate([chosen, boxes[[rng.choice(len(boxes), p=distance / distance.sum())]]])
    return chosen


def _settled(boxes: np.ndarray, means: np.ndarray) -> np.ndarray:
    for _ in range(ROUNDS):
        nearest = overlaps(boxes, means).argmax(axis=1)
        counts = np.bincount(nearest, minlength=len(means))[:, None]
        sums = np.stack([np.bincount(nearest, boxes[:, side], len(means)) for side in (0, 1)], axis=1)
        moved = np.where(counts > 0, sums / counts.clip(1), means)
        if np.allclose(moved, means, rtol=0, atol=1e-6):
            break
        means = moved
    return means


def print_anchors(found: Anchors, boxes: int, side: int, console: Console) -> None:
    """With the words to train with them."""
    for (width, height), share in zip(found.shapes, found.shares):
        console.print(f"  {CELL * width:6.1f} x {CELL * height:6.1f} px of {side}, best of {share:4.0%} of the boxes")
    console.print(f"mean IoU of {boxes:,} training boxes with their best anchor, by shape alone: {found.mean_iou:.3f}")
    cells = ",".join(f"[{width:.5g},{height:.5g}]" for width, height in found.shapes)
    console.print(f"to train with them: task=yolov2 imgsz={side} 'tasks.yolov2.head.anchors=[{cells}]'")


@rc_context(AS_WRITTEN)
def plot_anchors(boxes: np.ndarray, found: Anchors, path: Path) -> None:
    """Widths and heights of the boxes, and the anchors among them, in pixels of the input."""
    figure = Figure(figsize=(7, 6.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    some = boxes[:: max(1, len(boxes) // DOTS)] * CELL
    axes.plot(*some.T, ".", markersize=2, alpha=0.25, color="C0", label=f"{len(boxes):,} training boxes")
    axes.plot(*(found.shapes * CELL).T, "s", color="C1", label=f"{len(found.shapes)} anchors")
    axes.set_xlabel("width, pixels of the input")
    axes.set_ylabel("height, pixels of the input")
    axes.set_title(f"mean IoU of a box with its best anchor: {found.mean_iou:.3f}")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    with written_whole(path) as file:
        figure.savefig(file, format="png")
