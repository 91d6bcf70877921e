"""What figures 7 and 8 are drawn of: weights, and pictures with the classes of their pixels where those are known."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.build import load_with_passport
from mnv2_tasks.data.images.decode import read_mask
from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.network.devices import choose_device
from mnv2_tasks.prediction.only_shapes import knows_only_shapes, say_if_only_shapes
from mnv2_tasks.prediction.sources import DEMO, DEMO_SIZE, Input, find_inputs
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.weight_files import Weights
from mnv2_tasks.wording import brief, visible


class Picture(NamedTuple):
    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    truth: np.ndarray | None = None  # (H, W) uint8 class of each pixel, 255 = none


class Material(NamedTuple):
    name: str  # of the weights, as they were asked for
    weights: Weights
    pictures: list[Picture]
    device: torch.device


def read_material(config: DictConfig) -> Material:
    """What `config` names, read whole.

    Raises:
        ConfigError: weights, pictures or masks are not there.
        DataError: one of them cannot be read.
    """
    if type(config.count) is not int or config.count < 1:
        raise ConfigError(f"count={brief(config.count)}: expected a number of images, at least 1")
    device = choose_device(str(config.device))
    name, source = str(config.weights), str(config.images)
    weights = load_with_passport(find_weights(name), trust=config.trust)
    say_if_only_shapes(name, weights.passport, source)
    if source == DEMO:
        if config.masks is not None:
            raise ConfigError(f"masks={config.masks}: the embedded scenes have their own; say images=<folder> too")
        known = knows_only_shapes(weights.passport)  # other weights have other classes
        return Material(name, weights, [_scene(index, known) for index in range(config.count)], device)
    inputs = _found(source)
    chosen = [inputs[index] for index in spread_evenly(len(inputs), config.count)]
    folder = None if config.masks is None else Path(config.masks).expanduser()
    return Material(name, weights, [_picture(one, folder) for one in chosen], device)


def _found(images: str) -> list[Input]:
    try:
        return find_inputs(images)
    except ConfigError as error:  # which calls them by the key of tools/predict.py
        raise ConfigError(str(error).replace("source=", "images=", 1)) from None


def _scene(index: int, known: bool) -> Picture:
    sample = draw_scene(0, "val", index, DEMO_SIZE)
    return Picture(f"scene {index}", sample.image, sample.mask if known else None)


def _picture(source: Input, masks: Path | None) -> Picture:
    image = source.read(FULL)
    if masks is None:
        return Picture(source.name, image)
    path = masks / f"{Path(source.name).stem}.png"
    if not path.is_file():
        raise ConfigError(f"masks={masks}: has no {visible(path.name)}, the truth of {visible(source.name)}")
    truth = read_mask(path)
    if truth.shape != image.shape[:2]:
        sizes = (f"{width} x {height}" for height, width in (truth.shape, image.shape[:2]))
        raise DataError(f"{path}: is of another size than its picture, {' and '.join(sizes)} pixels")
    return Picture(source.name, image, truth)
