"""Darknet's classifier Darknet-19 and detector YOLOv2: a .weights file, and the .cfg beside it that says its layers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mnv2_tasks.data.class_lists import imagenet_devkit_order, imagenet_names
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.complete import classes_of, with_counters
from mnv2_tasks.weights.importers.darknet_cfg import read_cfg
from mnv2_tasks.weights.importers.darknet_layers import DarknetNetwork, layers_of, network_of
from mnv2_tasks.weights.importers.darknet_weights import read_header, read_tensors
from mnv2_tasks.weights.importers.family import CLASSIFIER, Imported

SEEN = "tasks.yolov2.criterion.seen"  # the loss of the first 12,800 images has a term of its own
INPUT = ["input.mean=[0,0,0]", "input.std=[255,255,255]"]


def is_darknet(path: Path) -> bool:
    """Whether a file is one of Darknet's, by its name or by what it begins with."""
    return path.suffix == ".weights" or (path.is_file() and read_header(path) is not None)


def read_darknet(path: Path) -> Imported:
    """Convert Darknet-19 or YOLOv2. A file that stops behind one of its layers (.conv.23) gives the layers before.

    Args:
        path: of the weights; the .cfg has the same name, with this ending.

    Raises:
        ConfigError: there is no .cfg, it is of a network that is not ours, or the weights do not fit it.
    """
    header = read_header(path)
    if header is None:
        raise ConfigError(f"{path}: is no file of Darknet's weights: it does not begin with the version of Darknet")
    if not 0 <= header.seen < 2**63:
        raise ConfigError(f"{path}: says that it was trained on {header.seen:,} images: it is damaged")
    cfg = _cfg_beside(path)
    network = network_of(read_cfg(cfg), str(cfg))
    layers = layers_of(network)
    state, missing = read_tensors(path, header, layers, cfg)
    task = "yolov2" if network.anchors else "classification"
    data, names = classes_of(task, network.classes)
    if names == imagenet_names() and f"{CLASSIFIER}.bias" in state:
        state = with_classes(state, torch.tensor(imagenet_devkit_order()).argsort())
    if network.anchors:
        state = state | {SEEN: torch.tensor(header.seen)}
    return Imported(
        f"Darknet {network}",
        with_counters(state),
        [f"task={task}", f"data={data}", "backbone=darknet19", f"imgsz={network.side}", *INPUT, *_settings(network)],
        {task: names},
        {f"layer {index}": "is missing: the file ends before it" for index in missing},
        header,
    )


def with_classes(state: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    """The classifier's outputs in another order: Darknet has ImageNet's classes in that of ILSVRC's devkit.

    Args:
        order: of each new output, the present one.
    """
    return dict(state) | {name: state[name][order] for name in (f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias")}


def _cfg_beside(path: Path) -> Path:
    """yolov2.cfg of yolov2.weights, darknet19_448.cfg of darknet19_448.conv.23."""
    stems = path.name.split(".")
    names = [".".join(stems[:count]) + ".cfg" for count in range(max(1, len(stems) - 1), 0, -1)]
    for name in names:
        if path.with_name(name).is_file():
            return path.with_name(name)
    raise ConfigError(
        f"{path}: Darknet's weights do not say their layers: put the .cfg of this network beside them, as {names[-1]}"
    )


def _settings(network: DarknetNetwork) -> list[str]:
    """How Darknet makes an image the input, and what the head is made of."""
    if not network.anchors:
        return ["input.fit=centre_crop", f"input.resize={network.side}"]
    passthrough = "null" if network.passthrough is None else network.passthrough
    return [
        f"input.fit={'square' if network.passthrough is None else 'letterbox'}",  # since March 2017
        "width=1.0",
        f"tasks.yolov2.head.channels={network.channels}",
        f"tasks.yolov2.head.passthrough_channels={passthrough}",
        f"tasks.yolov2.head.anchors={network.anchors}".replace(" ", ""),
    ]
