"""What only classification knows. A result is (K,) probabilities. See `kinds.Kind`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.contracts import ClassificationBatch, Diagnosis, ExportedOutput, Frames, Sample
from mnv2_tasks.drawing.annotations import draw_label
from mnv2_tasks.drawing.predictions import TOP, draw_scores

SCORE: str = "top1"
SCORE_TITLE: str = "top-1"
CLASS_SCORES: str = "top1_per_class"
CLASS_SCORE_TITLE: str = "top-1"
COUNTED: str = "images"
OUTPUTS = {"probabilities": ExportedOutput("probability of each class, 0 to 1", ("classes",))}
FIELDS: tuple[str, ...] = ("probabilities",)
FILES: str = ""
ANY_SIZE: bool = False


def collate(samples: Sequence[Sample], images: Tensor, image_ids: Tensor, frames: Frames) -> ClassificationBatch:
    return ClassificationBatch(images, torch.tensor([sample.label for sample in samples]), image_ids, frames)


def exported(output: Tensor, size: tuple[int, int], task: Any, suppress: Any) -> tuple[Tensor, ...]:
    return (output.float().softmax(dim=1),)


def from_exported(outputs: Sequence[Tensor], frames: Frames) -> Tensor:
    return outputs[0]


def differences(ours: Tensor, theirs: Tensor) -> Iterator[tuple[str, float, str | None]]:
    yield "largest difference of a probability", float((ours - theirs).abs().max()), "score"
    yield "images with another best class", float(ours.argmax() != theirs.argmax()), None


def resized(result: Tensor, size: Sequence[int], original: Sequence[int]) -> Tensor:
    return result.cpu()


def as_arrays(result: Tensor, least: np.ndarray) -> np.ndarray:
    """(K,) float32."""
    return result.float().numpy()


def as_json(result: Tensor | np.ndarray, class_names: Sequence[str], min_score: float) -> list[dict[str, Any]]:
    """The best five classes."""
    scores = np.asarray(result)
    best = np.argsort(-scores, kind="stable")[:TOP]
    return [{"class": class_names[label], "score": round(float(scores[label]), 4)} for label in best]


def in_words(content: list[dict[str, Any]]) -> str:
    return f"{content[0]['class']} {content[0]['score']:.0%}"


def write_files(result: Any, content: Any, image: np.ndarray, folder: Path, stem: str) -> None:
    pass


def draw(image: np.ndarray, result: Tensor | np.ndarray, class_names: Sequence[str], min_score: float) -> np.ndarray:
    return draw_scores(image, result, class_names)


def draw_annotations(sample: Sample, class_names: Sequence[str]) -> np.ndarray:
    assert sample.label is not None
    return draw_label(sample.image, sample.label, class_names)


def scores_in_words(name: str, scores: Mapping[str, Any], metric: Any) -> str:
    return f"{name}: top-1 {scores['top1']:.4f}  top-5 {scores['top5']:.4f}  of {scores['images']} images"


def remark(scores: Mapping[str, Any]) -> str:
    return ""


def conditions(task: Any, views: str) -> str:
    return ""


def diagnosis(metric: Any, class_names: Sequence[str]) -> Diagnosis:
    from mnv2_tasks.drawing.charts import reliability
    from mnv2_tasks.drawing.confusion import plot_confusion

    words = {"score": "probability of the best class", "right": "share of the images whose class it is"}
    guesses = sorted(metric.guesses.items())
    return Diagnosis(
        {
            "confusion": partial(plot_confusion, metric.confusion(), class_names, "images"),
            "calibration": partial(reliability, *metric.calibration(), **words, what="images"),
        },
        np.array([image_id for image_id, _ in guesses], np.int64),
        np.array([guess.truth_score for _, guess in guesses]),
        "probability of its class",
    )


def server_results(metric: Any) -> None:
    return None


def thresholds(metric: Any) -> None:
    return None
