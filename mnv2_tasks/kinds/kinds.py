"""What only one kind of task knows, beside its task, head, loss and metric: one module for each, all alike.

A kind says which batch its samples make, how its results are told, drawn, stored and compared, and what of them an
exported file returns. Beside this folder, readers and checks of data ask for the kind, whose annotations they read, and
what is for one kind alone, such as mixing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from mnv2_tasks.boxes.postprocess import Suppress
from mnv2_tasks.contracts import Batch, Diagnosis, ExportedOutput, Frames, Sample
from mnv2_tasks.kinds import classification, detection, segmentation


class Kind(Protocol):
    """A module of this folder. A result is that of one image, as `Task.results` returns it, unless said otherwise."""

    SCORE: str  # the key of metrics.json that says which checkpoint is best
    SCORE_TITLE: str  # the same for people
    CLASS_SCORES: str  # the key of {class: score}
    CLASS_SCORE_TITLE: str
    COUNTED: str  # what annotations are counted in
    OUTPUTS: dict[str, ExportedOutput]  # what an exported file returns, in order
    FIELDS: tuple[str, ...]  # names of what a `Result` offers
    FILES: str  # what of a result JSON cannot hold, as `predict save=` calls it; may be empty
    ANY_SIZE: bool  # whether an exported file takes images of any height and width

    def collate(self, samples: Sequence[Sample], images: Tensor, image_ids: Tensor, frames: Frames) -> Batch: ...

    def exported(self, output: Any, size: tuple[int, int], task: Any, suppress: Suppress) -> tuple[Tensor, ...]:
        """The head's output for a batch -> `OUTPUTS`; traced, so no shape depends on a value.

        Args:
            size: height, width of the network's input.
        """
        ...

    def from_exported(self, outputs: Sequence[Tensor], frames: Frames) -> Any:
        """`OUTPUTS` of a batch -> what `Task.results` returns for it."""
        ...

    def differences(self, ours: Any, theirs: Any) -> Iterator[tuple[str, float, str | None]]:
        """(quantity, value, which limit of export/differences.py it has; None: only told)."""
        ...

    def resized(self, result: Any, size: Sequence[int], original: Sequence[int]) -> Any:
        """On the CPU, from the (height, width) that it was computed in to the image's own."""
        ...

    def as_arrays(self, result: Any, least: np.ndarray) -> Any:
        """What `resized` returned, as numpy: one array, or a tuple that names `FIELDS`.

        The functions below take the one and the other.

        Args:
            least: (K,) float32, the least score of each class's boxes; others are left out.
        """
        ...

    def as_json(self, result: Any, class_names: Sequence[str], min_score: float) -> Any:
        """As results.json has it."""
        ...

    def in_words(self, content: Any) -> str:
        """What `as_json` returned in a few words, such as "4 person, 1 bus"."""
        ...

    def write_files(self, result: Any, content: Any, image: np.ndarray, folder: Path, stem: str) -> None:
        """Write `FILES`, and their names into `content`, which `as_json` returned."""
        ...

    def draw(self, image: np.ndarray, result: Any, class_names: Sequence[str], min_score: float) -> np.ndarray: ...

    def draw_annotations(self, sample: Sample, class_names: Sequence[str]) -> np.ndarray: ...

    def scores_in_words(self, name: str, scores: Mapping[str, Any], metric: Any) -> str:
        """The lines that stand above the table of classes; may be empty."""
        ...

    def remark(self, scores: Mapping[str, Any]) -> str:
        """What a reader of the score should know of the other numbers; may be empty.

        Args:
            scores: of metrics.json, which a former version may have written.
        """
        ...

    def conditions(self, task: Any, views: str) -> str:
        """What moves a score beside weights and input; may be empty.

        Args:
            task: its config.
            views: the scales and mirrored views that were asked for, in words.
        """
        ...

    def diagnosis(self, metric: Any, class_names: Sequence[str]) -> Diagnosis:
        """What plots/ and samples/ show of a split, once the metric is computed. It loads matplotlib."""
        ...

    def server_results(self, metric: Any) -> list[dict[str, Any]] | None:
        """What the data set's own evaluation server takes, where there is one."""
        ...

    def thresholds(self, metric: Any) -> dict[str, float] | None:
        """{class: the score from which on its boxes are worth keeping}, where a kind has boxes."""
        ...


KINDS: dict[str, Kind] = {
    "classification": classification,
    "detection": detection,
    "segmentation": segmentation,
}
