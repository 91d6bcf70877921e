"""Real pictures, fitted to a network's input: to compare results on, and to calibrate int8 with."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
from omegaconf import DictConfig

from mnv2_tasks.build import build_sources, data_config
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.prediction.inputs import find_images

log = logging.getLogger(__name__)


def available_sources(config: DictConfig, class_names: Mapping[str, list[str]]) -> dict[str, DataSource]:
    """{task: its data set, ready to validate on}; empty where no folder was given for one that needs it.

    Raises:
        ConfigError: the data's classes are not the weights'.
    """
    try:
        sources = build_sources(config)
        for source in sources.values():
            source.prepare(("val",))
    except ConfigError as error:
        if any(data_config(config, task).get("root") for task in config.tasks):
            raise
        log.info("no labelled images to score on: %s", str(error).splitlines()[0])
        return {}
    for task, source in sources.items():
        if source.class_names != class_names[task]:
            raise ConfigError(
                f"{task}: the data has {len(source.class_names)} classes that are not those of the weights"
            )
    return sources


def comparison_images(source: str | None, sources: Mapping[str, DataSource], fit: Fit, count: int) -> np.ndarray:
    """(N, H, W, 3) of what `source` names, else of the validation images, else of embedded scenes."""
    if source is not None:
        return fitted((read_image(path, white=fit.white) for path in find_images(source)), fit, count)
    return fitted(_samples(sources, "val", count) if sources else _scenes("val", fit.size), fit, count)


def calibration_images(source: str | None, sources: Mapping[str, DataSource], fit: Fit, count: int) -> np.ndarray:
    """(N, H, W, 3) of what `source` names, else of the training images.

    Raises:
        ConfigError: there are neither.
    """
    if source is not None:
        return fitted((read_image(path, white=fit.white) for path in find_images(source)), fit, count)
    if not sources:
        raise ConfigError(
            "precision=int8 measures the range of every layer on images like those that it will see: "
            "say calibration=<folder or glob>, or data.root=<folder>, whose training images are taken"
        )
    for data in sources.values():
        data.prepare(("train",))
    return fitted(_samples(sources, "train", count), fit, count)


def _samples(sources: Mapping[str, DataSource], split: str, count: int) -> Iterator[np.ndarray]:
    """Evenly spread over the split: data sets are often sorted by class."""
    source = next(iter(sources.values()))
    for index in spread_evenly(source.length(split), 2 * count):
        yield source.sample(split, 0, index).image


def _scenes(split: str, size: int) -> Iterator[np.ndarray]:
    index = 0
    while True:
        yield draw_scene(0, split, index, size).image
        index += 1


def fitted(images: Iterator[np.ndarray], fit: Fit, count: int) -> np.ndarray:
    """The first `count` whose input has the network's own size; padding leaves large pictures larger."""
    inputs = (fit(image)[0] for image in images)
    kept = list(islice((image for image in inputs if image.shape[:2] == (fit.size, fit.size)), count))
    if not kept:
        raise ConfigError(f"no image fits into {fit.size} x {fit.size} pixels; choose others, or a larger imgsz")
    return np.stack(kept)
