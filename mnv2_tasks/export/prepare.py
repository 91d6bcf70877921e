"""What files are made of and compared on: all that can be refused before anything is written."""

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig, open_dict

from mnv2_tasks.build import (
    build_fit,
    build_network,
    data_config,
    data_name,
    ground_truths_of,
    load_tasks,
    no_larger_than,
)
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.differences import results_of
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.export.images import available_sources, calibration_images, comparison_images
from mnv2_tasks.export.write import least_metadata
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.split_plan import FLOAT_BYTES, split_as_asked
from mnv2_tasks.runtimes.formats import FORMATS
from mnv2_tasks.runtimes.mediapipe import check_task
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import Weights

WEB = "web"  # an ONNX file in a folder, with a page that runs it
COMPARED = 16  # images whose results are compared one by one
VALUE_BYTES = {"fp16": 2, "bf16": 2, "int8": 1}  # of what is computed
STORED_IN_FP16 = ("openvino", "litert", "mediapipe")  # the weights alone


class PreparedFile(NamedTuple):
    """A file to write."""

    config: DictConfig
    seen: DictConfig  # the same, with the input as the file's runtime makes it
    network: Network  # that its results are compared with
    written: Network  # the same, in the shares that were asked for
    sources: dict[str, DataSource]
    pictures: np.ndarray  # that results are compared on
    example: np.ndarray  # that it is written with
    metadata: dict[str, str]


def prepare(config: DictConfig, path: Path, weights: Weights) -> list[PreparedFile]:
    """A file for all tasks, or one for each where the format holds no more.

    Raises:
        ConfigError: the network, its input or its classes are none that the format holds.
    """
    return [_prepared(alone, path, weights) for alone in _of_each_file(config)]


def _prepared(config: DictConfig, path: Path, weights: Weights) -> PreparedFile:
    names = {task: weights.passport["class_names"][task] for task in config.tasks}
    seen = _as_seen(config)
    fit, sources = build_fit(seen), available_sources(config, names)
    with no_larger_than(weights.state, str(path)):
        network = build_network(config, names, ground_truths_of(sources))
    load_tasks(network, weights.state, str(path))
    network.eval()
    if FORMATS[graph_format(config)].one_task:
        ((task, about),) = network.tasks.items()
        check_task(about.kind, names[task])
    written = split_as_asked(network, config.split, config.memory, size=config.imgsz, value_bytes=_value_bytes(config))
    pictures = comparison_images(config, sources, fit, COMPARED)
    results_of(network, pictures[:1])  # before anything is converted: it refuses what is not finite
    example = np.concatenate([pictures, pictures])[:2]
    if config.precision == "int8":
        example = calibration_images(config, sources, fit)
    passport = make_passport(seen, names, f"exported from {path}") | {"exported": True}
    return PreparedFile(
        config, seen, network, written, sources, pictures, example, _metadata(seen, network, passport, pictures[:1])
    )


def _value_bytes(config: DictConfig) -> int:
    stored = config.precision == "fp16" and config.format in STORED_IN_FP16
    return FLOAT_BYTES if stored else VALUE_BYTES.get(config.precision, FLOAT_BYTES)


def graph_format(config: DictConfig) -> str:
    """Of the file that holds the network."""
    return "onnx" if config.format == WEB else config.format


def makes_folder(config: DictConfig) -> bool:
    """Whether several tasks make a file each."""
    return config.format in FORMATS and FORMATS[config.format].one_task and len(config.tasks) > 1


def _of_each_file(config: DictConfig) -> list[DictConfig]:
    """Where a file holds one task, the config of each, as task=<task> composes it."""
    if not makes_folder(config):
        return [config]
    alone = {task: copy.deepcopy(config) for task in config.tasks}
    for task, own in alone.items():
        with open_dict(own):
            own.choices = {"task": task, "data": data_name(config, task), "backbone": config.choices.backbone}
            own.data = data_config(own, task)
            for other in alone.keys() - {task}:
                del own.tasks[other]
    return [*alone.values()]


def _as_seen(config: DictConfig) -> DictConfig:
    """With the fit of a runtime that makes the input itself.

    Raises:
        ConfigError: the weights are used to another part of the picture.
    """
    fit = FORMATS[graph_format(config)].fit
    if fit is None:
        return config
    if config.input.fit not in ("square", fit):
        raise ConfigError(
            f"format={config.format}: it squeezes the whole picture into the network's square, and these weights have "
            f"input.fit={config.input.fit}. Say input.fit={fit} to see what they score so"
        )
    seen = copy.deepcopy(config)
    seen.input.fit = fit
    return seen


def _metadata(config: DictConfig, network: Network, passport: dict[str, Any], picture: np.ndarray) -> dict[str, str]:
    """What goes into the file: all that tools/predict.py needs, and the same for people with another program."""
    tasks: dict[str, Any] = dict(network.tasks.items())
    preprocessing = {
        "pixels": "uint8 RGB (batch, height, width, 3); the file normalises them itself",
        "size": config.imgsz,
        "fit": config.input.fit,
        "resize": config.input.resize,
        "fill": list(config.input.mean),
    }
    with torch.inference_mode():
        outputs = Graph(network).outputs(torch.from_numpy(picture))
    return least_metadata(network, passport, config.precision) | {
        "class_names": json.dumps({name: task.class_names for name, task in tasks.items()}),
        "preprocessing": json.dumps(preprocessing),
        "outputs": json.dumps(outputs),
    }
