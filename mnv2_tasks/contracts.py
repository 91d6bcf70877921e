"""READ FIRST: everything that travels between the parts, with shapes and units.

    images -> backbone(taps) -> head -> loss | results -> metric

Dimensions: B batch, K foreground classes, A anchors, N most objects in an image, M detections, s stride.
Sizes are (height, width). Boxes are float32 xyxy *fractions* of the image, in [0, 1], everywhere inside;
pixels exist only at the two edges: `Sample` (annotation file in) and `Detections` (results out).

The tuples are NamedTuples because those pass through Lightning's device transfer; a dataclass does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

IGNORE = 255  # mask value without a class: counts neither in the loss nor in the metric


# ---------------------------------------------------------------- data set -> batch


class Sample(NamedTuple):
    """One image and all that its data set knows about it. A field that the data set lacks is None."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    image_id: int
    label: int | None = None  # class of the main object, in [0, K)
    boxes: np.ndarray | None = None  # (N, 4) float32 xyxy pixels, N may be 0
    box_labels: np.ndarray | None = None  # (N,) int64 in [0, K)
    mask: np.ndarray | None = None  # (H, W) uint8 in [0, K), IGNORE = no class


class Frames(NamedTuple):
    """Where each image of a batch lies in the network's input. Its tensors stay on the CPU, whatever the images do."""

    input_size: tuple[int, int]  # height, width of the network's input
    content_sizes: Tensor  # (B, 2) int64 height, width of the part that holds the image
    original_sizes: Tensor  # (B, 2) int64 height, width of the image itself
    offsets: Tensor | None = None  # (B, 2) int64 top, left of that part; None: it is the top-left one

    def corners(self) -> Tensor:
        """(B, 2) int64 top, left of the part that holds the image."""
        return torch.zeros_like(self.content_sizes) if self.offsets is None else self.offsets


class BoxTargets(NamedTuple):
    """Objects of each image, padded to those of the image that has the most; N may be 0."""

    boxes: Tensor  # (B, N, 4) float32 xyxy fractions; of padding 0
    labels: Tensor  # (B, N) int64 in [0, K): background is nobody's label; of padding 0
    valid: Tensor  # (B, N) bool: the others are padding


class ClassificationBatch(NamedTuple):
    images: Tensor  # (B, 3, H, W) uint8, or float in [0, 255] where images are mixed
    labels: Tensor  # (B,) int64 in [0, K), or (B, K) float shares of each class where images are mixed
    image_ids: Tensor  # (B,) int64
    frames: Frames


class DetectionBatch(NamedTuple):
    images: Tensor  # (B, 3, H, W) uint8
    targets: BoxTargets
    image_ids: Tensor  # (B,) int64
    frames: Frames


class SegmentationBatch(NamedTuple):
    images: Tensor  # (B, 3, H, W) uint8
    masks: Tensor  # (B, H, W) uint8 in [0, K), or IGNORE; in evaluation as annotated, padded with IGNORE to equal sizes
    image_ids: Tensor  # (B,) int64
    frames: Frames


Batch = ClassificationBatch | DetectionBatch | SegmentationBatch


# ---------------------------------------------------------------- network


@dataclass(frozen=True)
class FeatureSpec:
    channels: int
    stride: int  # input pixels per cell *as built*: c5 has stride 16 when output_stride=16


class Backbone(Protocol):
    """An nn.Module that offers its feature maps by meaning, so that heads can be swapped untouched.

    Taps: `c1` .. `c5` end of the stage at nominal stride 2 .. 32; `c4_expand` the widened stride-16 activation
    that enters the first stride-32 block (paper section 6.2; a network without expansions returns c4);
    `final` the last map before pooling. Only layers up to the deepest requested tap are built.
    """

    features: Mapping[str, FeatureSpec]  # one entry per requested tap, in depth order

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised float images -> {tap: (B, channels, ceil(H / stride), ceil(W / stride))}."""
        ...


class SSDOutput(NamedTuple):
    class_logits: Tensor  # (B, A, K + 1), background is the LAST column
    box_deltas: Tensor  # (B, A, 4), see boxes/coding.py
    anchors: Tensor  # (A, 4) xyxy fractions


class YOLOv2Output(NamedTuple):
    """Rows are cell-major, then anchor. A = rows * columns * anchors of a cell."""

    class_logits: Tensor  # (B, A, K), of a softmax
    objectness: Tensor  # (B, A) logits
    box_deltas: Tensor  # (B, A, 4) x, y, w, h, see boxes/cells.py
    anchors: Tensor  # (A, 4) xyxy fractions, each in the middle of its cell
    grid: tuple[int, int]  # rows, columns


class Head(Protocol):
    """An nn.Module that reads feature maps. `taps` says which; build.py asks the backbone for their union.

    A head that cannot take any size of input has `size_multiple`, the pixels that its sides are a multiple of.
    """

    taps: tuple[str, ...]

    def __call__(self, features: dict[str, Tensor]) -> Tensor | SSDOutput | YOLOv2Output: ...


# ---------------------------------------------------------------- results


class ExportedOutput(NamedTuple):
    """What an exported file returns, for those who run it without us."""

    meaning: str
    shape: tuple[str, ...]  # of an image: "height" and "width" are the input's


class Detections(NamedTuple):
    """On the CPU."""

    boxes: Tensor  # (M, 4) float32 xyxy pixels of the original image
    scores: Tensor  # (M,) float32 in [0, 1], descending
    labels: Tensor  # (M,) int64 in [0, K)


class FoundBoxes(NamedTuple):
    """`Detections` of one image for whoever reads them, without torch."""

    boxes: np.ndarray  # (M, 4) float32 xyxy pixels of the original image
    scores: np.ndarray  # (M,) float32 in [0, 1], descending
    labels: np.ndarray  # (M,) int64 in [0, K)


class Diagnosis(NamedTuple):
    """What a split's predictions show beside their score, for people."""

    charts: Mapping[str, Callable[[], Any]]  # {name of a file: draws matplotlib's Figure}
    image_ids: np.ndarray  # (I,) int64
    image_scores: np.ndarray  # (I,) in [0, 1], lower is worse; NaN where there is nothing to be right or wrong about
    image_score: str  # what it is, for people
    min_score: float = 0.5  # of the boxes to draw


class Metric(Protocol):
    """Collects predictions of a whole split, keyed by image id, so that no image can count twice."""

    primary: str  # the key that says which checkpoint is best; higher is better

    def reset(self) -> None: ...
    def update(self, predictions: Any, batch: Any) -> None: ...
    def merge(self, other: Any) -> None: ...
    def compute(self) -> dict[str, Any]: ...

    def outcomes(self) -> Any: ...  # after compute: what each image came to, see metrics/outcomes.py


class Task(Protocol):
    """Head + loss + results + metric, an nn.Module without Lightning. Its head runs once, for all that follows."""

    kind: str  # "classification" | "detection" | "segmentation": which batch it takes
    class_names: list[str]
    head: Head
    metric: Metric

    def loss(self, output: Any, batch: Any) -> dict[str, Tensor]:
        """What the head returned for this batch -> named scalar terms; their sum is optimised."""
        ...

    def results(self, output: Any, frames: Frames) -> Any:
        """What the head returned -> results in the pixels of the original images."""
        ...


class Model(Protocol):
    """What predicts: a network, or a file that one was exported to."""

    tasks: Any  # {name: of a Task at least `kind` and `class_names`}

    @property
    def device(self) -> torch.device: ...

    def predict(self, images: Tensor, frames: Frames) -> dict[str, Any]:
        """(B, 3, H, W) uint8 -> {task name: its `results`}."""
        ...

    def predict_task(self, task: str, images: Tensor, frames: Frames) -> Any:
        """One task's results."""
        ...


class DataSource(Protocol):
    """A data set as a user has it, for one kind of task: the splits "train" and "val" of samples."""

    kind: str  # "classification" | "detection" | "segmentation"
    class_names: list[str]  # index i is label i; of segmentation, mask value i

    def prepare(self, splits: Sequence[str]) -> None:
        """Read these splits, and refuse what is bad in them, before a long run starts."""
        ...

    def length(self, split: str) -> int: ...
    def image_ids(self, split: str) -> np.ndarray: ...  # (n,) int64, by index
    def largest(self, split: str) -> int: ...  # pixels of the longest side of any image
    def sample(self, split: str, epoch: int, index: int, least: int | None = None) -> Sample:
        """`least`: pixels that the image's shorter side needs: it may come smaller than it is, its boxes with it.

        None: all its pixels.
        """
        ...

    def shards(self, split: str) -> Sequence[np.ndarray] | None: ...  # indices that lie together; None: anywhere

    def class_counts(self, split: str, indices: Sequence[int] | None = None) -> csr_array:
        """(n, K) int64: how many images, objects or pixels of each class each of these images has. None: all images."""
        ...

    def describe(self) -> str: ...  # what was found, for people
    def fingerprint(self) -> str: ...  # equal data, equal string
    def coco_ground_truth(self) -> dict[str, Any]: ...  # the validation boxes in COCO's format
