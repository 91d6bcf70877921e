"""Sheets of pictures: what is annotated beside what a network finds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mnv2_tasks.contracts import DataSource, Diagnosis, Model, Sample
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.drawing.canvas import LIGHT, Canvas, scaled_size, strip
from mnv2_tasks.drawing.canvas import fit as fit_for_looking
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import sheet
from mnv2_tasks.kinds.kinds import KINDS, Kind
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.prediction.predictor import predict_images
from mnv2_tasks.prediction.results import side_by_side

COUNT = 12
COLUMNS = 2
SIDE = 400  # pixels of the longer side of an image on the sheet


def save_samples(model: Model, task: str, source: DataSource, fit: Fit, found: Diagnosis, path: Path) -> None:
    """Validation images spread evenly over the split, so that nobody picks them."""
    _save(model, task, source, fit, found, spread_evenly(source.length("val"), COUNT), path)


def save_worst(model: Model, task: str, source: DataSource, fit: Fit, found: Diagnosis, path: Path) -> None:
    """The validation images with the lowest scores, the worst first; nothing where no image has one."""
    scored = np.flatnonzero(~np.isnan(found.image_scores))
    worst = found.image_ids[scored[np.argsort(found.image_scores[scored], kind="stable")[:COUNT]]]
    ids = source.image_ids("val")
    order = np.argsort(ids, kind="stable")
    _save(model, task, source, fit, found, order[np.searchsorted(ids[order], worst)].tolist(), path)


def _save(
    model: Model, task: str, source: DataSource, fit: Fit, found: Diagnosis, indices: Sequence[int], path: Path
) -> None:
    pictures = []
    for index in indices:  # one by one: photos may be large
        sample = source.sample("val", 0, index)
        (results,) = predict_images(model, [sample.image], fit)
        of_image = found.image_scores[found.image_ids == sample.image_id]
        name = (
            source.file_name("val", sample.image_id) if isinstance(source, FileSource) else f"image {sample.image_id}"
        )
        score = f"{of_image[0]:.3f}" if len(of_image) and not np.isnan(of_image[0]) else "none"
        pair = _pair(sample, results[task], KINDS[model.tasks[task].kind], source.class_names, found.min_score)
        pictures.append(_captioned(pair, [name, f"{found.image_score}: {score}"]))
    if pictures:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, sheet(pictures, COLUMNS))


def _pair(sample: Sample, result: Any, kind: Kind, class_names: Sequence[str], min_score: float) -> np.ndarray:
    panels = {
        "truth": kind.draw_annotations(sample, class_names),
        "prediction": kind.draw(sample.image, result, class_names, min_score),
    }
    scale = min(1.0, SIDE / max(fit_for_looking(sample.image)[0].shape))
    return side_by_side(
        {
            title: cv2.resize(panel, scaled_size(panel, scale), interpolation=cv2.INTER_AREA)
            for title, panel in panels.items()
        }
    )


def _captioned(picture: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    size, width = 16, picture.shape[1]
    canvas = Canvas(strip(round(1.6 * size) * len(lines) + size // 2, width), size)
    for number, line in enumerate(lines):
        canvas.write(size, (number + 0.5) * canvas.row, canvas.elide(line, width - 2 * size), LIGHT)
    return np.concatenate([picture, canvas.array()])
