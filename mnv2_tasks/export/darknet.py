"""format=darknet: a .weights file, its .cfg and its .names, which Darknet and what reads its files run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mnv2_tasks.backbones.darknet import Darknet19
from mnv2_tasks.data.class_lists import imagenet_devkit_order, imagenet_names
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.darknet import INPUT, SEEN, read_darknet, with_classes
from mnv2_tasks.weights.importers.darknet_cfg import cfg_text
from mnv2_tasks.weights.importers.darknet_layers import HEAD, DarknetNetwork, cfg_sections, layers_of
from mnv2_tasks.weights.importers.darknet_weights import WeightsHeader, write_tensors
from mnv2_tasks.weights.weight_files import Weights
from mnv2_tasks.whole_files import made_together, write_text, written_whole

TASKS = ("classification", "yolov2")


def write_darknet(weights: Weights, config: DictConfig, class_names: Mapping[str, list[str]], out: Path) -> None:
    """Write the files, a class in each line of .names, and read them again before they take their names.

    Raises:
        ConfigError: Darknet has no such network; then there are no files.
    """
    settings: Any = OmegaConf.to_container(config, resolve=True)
    names, *_ = class_names.values()
    network = _network(settings, weights.state, len(names))
    layers, state = layers_of(network), weights.state
    wrong = [n for layer in layers for n, shape in layer.tensors() if n not in state or state[n].shape != shape]
    if wrong:
        raise ConfigError(f"format=darknet: {wrong[0]} of these weights is missing, or not as in Darknet's {network}")
    header = weights.header if isinstance(weights.header, WeightsHeader) else WeightsHeader()
    if SEEN in state:
        header = header._replace(seen=int(state[SEEN]))
    theirs = state
    if names == imagenet_names():
        order = imagenet_devkit_order()
        theirs, names = with_classes(state, torch.tensor(order)), [names[label] for label in order]
    with made_together(out) as part:
        with written_whole(part.with_suffix(".cfg")) as file:
            file.write(cfg_text(cfg_sections(network)).encode())
        write_text(part.with_suffix(".names"), "".join(f"{name}\n" for name in names))
        with written_whole(part) as file:
            write_tensors(file, header, layers, theirs)
        again = read_darknet(part)
        changed = [n for layer in layers for n, _ in layer.tensors() if not _equal_bits(state[n], again.state[n])]
        if changed or again.header != header:
            raise ConfigError(f"{out}: not written, read again it gives another {changed or 'header'}")


def _equal_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


def _network(config: Mapping[str, Any], state: Mapping[str, Tensor], classes: int) -> DarknetNetwork:
    """What the .cfg is to say.

    Raises:
        ConfigError: a .cfg cannot say it.
    """
    (task, settings), *others = config["tasks"].items()
    if others or task not in TASKS:
        raise ConfigError(f"format=darknet: holds one task, {' or '.join(TASKS)}, not {', '.join(config['tasks'])}")
    if config["backbone"]["_target_"] != f"{Darknet19.__module__}.{Darknet19.__qualname__}":
        raise ConfigError(f"format=darknet: is for backbone=darknet19, not for {config['choices']['backbone']}")
    if config["output_stride"] != 32:
        raise ConfigError(f"format=darknet: has no dilated layers, as output_stride={config['output_stride']} needs")
    given = config["input"]
    if any(given["mean"]) or any(value != 255 for value in given["std"]):
        raise ConfigError(
            f"format=darknet: Darknet divides pixels by 255, and these weights go with input.mean={given['mean']} "
            f"input.std={given['std']}. Train with {' '.join(INPUT)}"
        )
    if task == "classification":
        return DarknetNetwork(config["imgsz"], classes)
    conv, passthrough = (state.get(f"{HEAD}.{part}.0.weight") for part in ("conv1", "passthrough"))
    return DarknetNetwork(
        config["imgsz"],
        classes,
        settings["head"]["anchors"],
        0 if conv is None else len(conv),
        None if passthrough is None else len(passthrough),
    )
