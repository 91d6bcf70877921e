"""The same validation images, as annotated and as each group's network sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from mnv2_tasks.build import build_sources
from mnv2_tasks.contracts import Sample
from mnv2_tasks.drawing.canvas import class_colours, fit
from mnv2_tasks.drawing.predictions import mask_colours
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.prediction.predictor import predict_images
from mnv2_tasks.studies.compare.finished_run import FinishedRun
from mnv2_tasks.studies.compare.measure import MeasuredNetwork

MIN_SCORE = 0.4  # of the boxes to draw
SIDE = 420  # pixels of the longer side of a picture on the page
TOP = 3  # classes named under a picture


class Shown(NamedTuple):
    """One picture with what stands below it."""

    picture: np.ndarray | None  # (H, W, 3) uint8 RGB; None: words alone
    words: list[str]


class SampleRow(NamedTuple):
    """One validation image."""

    image_id: int
    truth: Shown
    predictions: list[Shown | None]  # of each network; None: it is not there


def read_samples(run: FinishedRun, task: str, count: int) -> list[Sample]:
    """Validation images spread evenly over the split, so that nobody picks them."""
    source = build_sources(run.config)[task]
    source.prepare(("val",))
    length = source.length("val")
    return [source.sample("val", 0, index) for index in spread_evenly(length, count)]


def draw_rows(
    samples: Sequence[Sample],
    kind: str,
    class_names: Sequence[str],
    networks: Sequence[tuple[MeasuredNetwork | None, str]],
) -> list[SampleRow]:
    """
    Args:
        networks: each with the name of its task of this kind.
    """
    results = [_results(samples, network, task) for network, task in networks]
    return [
        SampleRow(
            sample.image_id,
            _truth(sample, kind, class_names),
            [_prediction(sample, of_image[i], kind, class_names) if of_image else None for of_image in results],
        )
        for i, sample in enumerate(samples)
    ]


def _results(samples: Sequence[Sample], measured: MeasuredNetwork | None, task: str) -> list[Any] | None:
    """Of each image; None without a network."""
    if measured is None:
        return None
    images = [sample.image for sample in samples]
    return [results[task] for results in predict_images(measured.network, images, measured.fit)]


def colours_shown(samples: Sequence[Sample], kind: str, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """[(class, its colour as CSS has it)] of the classes annotated on these images; a background has none."""
    if kind == "classification":
        return []
    annotated = [sample.mask if kind == "segmentation" else sample.box_labels for sample in samples]
    labels = {int(v) for values in annotated if values is not None for v in np.unique(values)}
    colours = mask_colours(class_names) if kind == "segmentation" else dict(enumerate(class_colours(len(class_names))))
    return [
        (class_names[label], "#{:02x}{:02x}{:02x}".format(*colours[label]))
        for label in sorted(labels)
        if label in colours
    ]


def _truth(sample: Sample, kind: str, class_names: Sequence[str]) -> Shown:
    if kind == "classification":
        assert sample.label is not None
        return Shown(_reduced(fit(sample.image)[0]), [class_names[sample.label]])
    return Shown(_without_strip(KINDS[kind].draw_annotations(sample, class_names), sample), [])


def _prediction(sample: Sample, result: Any, kind: str, class_names: Sequence[str]) -> Shown:
    if kind != "classification":
        return Shown(_without_strip(KINDS[kind].draw(sample.image, result, class_names, MIN_SCORE), sample), [])
    best = result.argsort(descending=True)[:TOP].tolist()
    words = [f"{class_names[label]} {100 * float(result[label]):.0f} %" for label in best]
    return Shown(None, [("✓ " if best[0] == sample.label else "✗ ") + words[0], *words[1:]])


def _without_strip(picture: np.ndarray, sample: Sample) -> np.ndarray:
    """Without the dark strip of class names below the image: the page has one legend for all, and may be printed."""
    height, width = sample.image.shape[:2]
    scale = fit(sample.image)[1]
    return _reduced(picture[: round(height * scale), : round(width * scale)])


def _reduced(picture: np.ndarray) -> np.ndarray:
    scale = SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
