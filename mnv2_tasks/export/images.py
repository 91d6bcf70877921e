"""Real pictures, fitted to a network's input: to compare results on, and to calibrate int8 with."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest

import numpy as np
from omegaconf import DictConfig

from mnv2_tasks.build import build_sources, data_config, data_name
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.prediction.inputs import find_images
from mnv2_tasks.wording import counted

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
            root = data_config(config, task).get("root")
            raise ConfigError(
                f"{task}: the data{f' in {root}' if root else ''} has {counted(len(source.class_names), 'class')}, not "
                f"those of the weights. Name their own with data.root=<folder>, or go without: data.root=null"
            )
    return sources


def comparison_images(config: DictConfig, sources: Mapping[str, DataSource], fit: Fit, count: int) -> np.ndarray:
    """(N, H, W, 3) of what `images` names, else of the validation images, else of embedded scenes."""
    if config.images is not None:
        pictures, which = _named(config.images, fit, count), f"pictures of images={config.images}"
    elif sources:
        pictures, which = _of_data(config, sources, "val", fit, count), f"validation images of {_told(config, sources)}"
    else:
        pictures, which = fitted(_scenes("val", fit.size), fit, count), "drawn scenes; images=<folder> names others"
    log.info("compared on %d %s", len(pictures), which)
    return pictures


def calibration_images(config: DictConfig, sources: Mapping[str, DataSource], fit: Fit) -> np.ndarray:
    """(N, H, W, 3) of what `calibration` names, else of the training images.

    Raises:
        ConfigError: there are neither.
    """
    count = config.calibration_images
    if config.calibration is not None:
        pictures, which = _named(config.calibration, fit, count), f"pictures of calibration={config.calibration}"
    elif sources:
        for data in sources.values():
            data.prepare(("train",))
        pictures, which = _of_data(config, sources, "train", fit, count), f"training images of {_told(config, sources)}"
    else:
        raise ConfigError(
            "precision=int8 measures the range of every layer on images like those that it will see: "
            "say calibration=<folder or glob>, or data.root=<folder>, whose training images are taken"
        )
    log.info("calibrated on %d %s", len(pictures), which)
    return pictures


def _named(source: str, fit: Fit, count: int) -> np.ndarray:
    return fitted((read_image(path, white=fit.white) for path in find_images(source)), fit, count)


def _of_data(config: DictConfig, sources: Mapping[str, DataSource], split: str, fit: Fit, count: int) -> np.ndarray:
    """Of each data set in turn."""
    of_each = [_samples(sources[task], split, count) for task in _data_sets(config, sources).values()]
    return fitted((image for turn in zip_longest(*of_each) for image in turn if image is not None), fit, count)


def _data_sets(config: DictConfig, sources: Mapping[str, DataSource]) -> dict[str, str]:
    """{name and place of a data set: the first task that has it}"""
    found: dict[str, str] = {}
    for task in sources:
        root = data_config(config, task).get("root")
        found.setdefault(data_name(config, task) + (f" in {root}" if root else ""), task)
    return found


def _told(config: DictConfig, sources: Mapping[str, DataSource]) -> str:
    return " and ".join(_data_sets(config, sources))


def _samples(source: DataSource, split: str, count: int) -> Iterator[np.ndarray]:
    """Evenly spread over the split: data sets are often sorted by class."""
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
