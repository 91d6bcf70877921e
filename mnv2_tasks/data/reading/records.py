"""A split's annotations in flat arrays.

Worker processes share the arrays of the process that they were forked from. Lists of dicts they would copy page by
page, because reading a Python object writes its reference count: memory that grows with workers and steps.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np


class Texts:
    """Strings in one array of bytes."""

    def __init__(self, strings: Iterable[str] = ()):
        content, ends = (
            bytearray(),
            array("q"),
        )  # of a million paths a list of their bytes would take 130 MB for a moment
        for string in strings:
            content += string.encode(errors="surrogateescape")  # a file's name may be any bytes
            ends.append(len(content))
        self.content = np.frombuffer(bytes(content), np.uint8)
        self.ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = self.ends[index - 1] if index > 0 else 0
        return self.content[start : self.ends[index]].tobytes().decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Records:
    """n images and their N boxes; a field that the data set lacks is empty."""

    files: Texts  # n paths
    ids: np.ndarray  # (n,) int64, each once
    sizes: np.ndarray  # (n, 2) int32 height and width as annotated, 0 if they are not
    labels: np.ndarray  # (n,) int64, or (0,): class of the whole image
    masks: Texts  # n paths, or none
    starts: np.ndarray  # (n + 1,) int64: boxes starts[i] to starts[i + 1] belong to image i
    boxes: np.ndarray  # (N, 4) float64 xyxy pixels
    box_labels: np.ndarray  # (N,) int64
    box_ids: np.ndarray  # (N,) int64: how the annotation file names the box
    areas: np.ndarray  # (N,) float64 pixels, of the object where its outline is known
    crowd: np.ndarray  # (N,) bool: neither trained on, nor a miss or a false alarm when evaluated
    outlines: Texts  # N run-length encodings (COCO's compressed format), or none

    def __len__(self) -> int:
        return len(self.files)

    def boxes_of(self, index: int) -> slice:
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    def image_of_box(self) -> np.ndarray:
        """(N,) int64 index of the image that each box belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def keep(self, images: np.ndarray, boxes: np.ndarray) -> "Records":
        """Only some images and some boxes, by boolean masks (n,) and (N,); boxes of dropped images go with them."""
        owner = self.image_of_box()
        boxes = boxes & images[owner] if len(owner) else boxes
        counts = np.bincount(owner[boxes], minlength=len(self))[images]

        def texts(of: Texts, kept: np.ndarray) -> Texts:
            return Texts(of[i] for i in np.flatnonzero(kept).tolist()) if len(of) else of

        return replace(
            self,
            files=texts(self.files, images),
            ids=self.ids[images],
            sizes=self.sizes[images],
            labels=self.labels[images] if len(self.labels) else self.labels,
            masks=texts(self.masks, images),
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=self.boxes[boxes],
            box_labels=self.box_labels[boxes],
            box_ids=self.box_ids[boxes],
            areas=self.areas[boxes],
            crowd=self.crowd[boxes],
            outlines=texts(self.outlines, boxes),
        )


def labelled(files: Sequence[str], labels: np.ndarray) -> Records:
    """Records of a classification set; labels (n,) int64. Lean enough for the 1.28 million of ImageNet."""
    return Records(
        files=Texts(files),
        ids=np.arange(len(files), dtype=np.int64),
        sizes=np.zeros((len(files), 2), np.int32),
        labels=labels,
        masks=Texts(),
        starts=np.zeros(len(files) + 1, np.int64),
        boxes=np.zeros((0, 4)),
        box_labels=np.zeros(0, np.int64),
        box_ids=np.zeros(0, np.int64),
        areas=np.zeros(0),
        crowd=np.zeros(0, bool),
        outlines=Texts(),
    )


class Recorder:
    """Collects images one by one; `records()` packs them."""

    def __init__(self):
        self.images: list[tuple] = []
        self.boxes: list[tuple] = []
        self.counts: list[int] = []

    def image(
        self,
        file: str,
        *,
        size: tuple[int, int] = (0, 0),
        image_id: int | None = None,
        label: int | None = None,
        mask: str | None = None,
    ) -> None:
        """Start an image; its boxes follow. Without an id it is numbered by its place."""
        number = len(self.images) if image_id is None else image_id
        self.images.append((file, number, size, label, mask))
        self.counts.append(0)

    def box(
        self,
        xyxy: tuple[float, float, float, float],
        label: int,
        *,
        box_id: int | None = None,
        area: float | None = None,
        crowd: bool = False,
        outline: str | None = None,
    ) -> None:
        """A box of the last image, in pixels. Without an id it is numbered by its place in the image, from 1."""
        self.counts[-1] += 1
        x0, y0, x1, y1 = xyxy
        number = self.counts[-1] if box_id is None else box_id
        self.boxes.append((xyxy, label, number, (x1 - x0) * (y1 - y0) if area is None else area, crowd, outline))

    def records(self) -> Records:
        files, ids, sizes, labels, masks = zip(*self.images) if self.images else ((),) * 5
        boxes, box_labels, box_ids, areas, crowd, outlines = zip(*self.boxes) if self.boxes else ((),) * 6
        return Records(
            files=Texts(files),
            ids=np.array(ids, np.int64),
            sizes=np.array(sizes, np.int32).reshape(-1, 2),
            labels=np.array([x for x in labels if x is not None], np.int64),
            masks=Texts(x for x in masks if x is not None),
            starts=np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64),
            boxes=np.array(boxes, np.float64).reshape(-1, 4),
            box_labels=np.array(box_labels, np.int64),
            box_ids=np.array(box_ids, np.int64),
            areas=np.array(areas, np.float64),
            crowd=np.array(crowd, bool),
            outlines=Texts(x for x in outlines if x is not None),
        )
