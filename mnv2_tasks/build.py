"""Config -> data source, tasks, network, weights: where the concrete parts meet."""

import logging
from collections.abc import Callable
from typing import Any

import hydra
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mnv2_tasks.checkpoint import find_weights, load_weights, manifest
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network import Network

log = logging.getLogger(__name__)

NETWORK_KEYS = ("backbone", "tasks", "output_stride", "imgsz", "width", "input")  # what rebuilds a network


def partial_of(config: Any) -> Callable[..., Any]:
    """`_target_` with the config's values filled in, to be called with parts that are already built.

    Partial first: instantiate() would turn parts passed to it into configs.
    """
    return hydra.utils.instantiate(config, _partial_=True, _convert_="all")


def build_source(config: DictConfig) -> DataSource:
    return partial_of(config.data.source)()


def task_kinds(config: DictConfig) -> dict[str, str]:
    """{task name: kind}, in order."""
    return {name: get_class(task._target_).kind for name, task in config.tasks.items()}


def build_network(
    config: DictConfig, class_names: dict[str, list[str]], ground_truth: dict[str, Any] | None = None
) -> Network:
    """The backbone with the taps that the heads read, and the tasks, freshly initialised.

    Args:
        config: needs the keys NETWORK_KEYS, as a passport has them.
        class_names: {task name: names}; their number sizes the head.
        ground_truth: for the detection tasks' metric.
    """
    heads = {name: get_class(task.head._target_) for name, task in config.tasks.items()}
    taps = sorted({tap for head in heads.values() for tap in head.taps})
    backbone = partial_of(config.backbone)(taps=taps)
    tasks = {}
    for name, task in config.tasks.items():
        parts = OmegaConf.to_container(task, resolve=True)
        names = class_names[name]
        head = partial_of(parts.pop("head"))(features=backbone.features, num_classes=len(names))
        extra = {}
        if get_class(task._target_).kind == "detection":
            extra = {"loss": partial_of(parts.pop("loss"))(), "ground_truth": ground_truth}
        tasks[name] = partial_of(parts)(head=head, class_names=names, **extra)
    return Network(backbone=backbone, tasks=tasks, mean=list(config.input.mean), std=list(config.input.std))


def make_passport(config: DictConfig, class_names: dict[str, list[str]], command: str) -> dict[str, Any]:
    content = OmegaConf.to_container(config, resolve=True)
    kept = {key: content[key] for key in NETWORK_KEYS}
    return {"config": kept, "class_names": class_names, "command": command}


def load_network(weights: str) -> tuple[Network, dict[str, Any]]:
    """The network that a file of weights describes, in evaluation mode on the CPU, and its passport."""
    path = find_weights(weights)
    state, passport = load_weights(path)
    if not passport:
        raise ConfigError(f"{path}: has no passport saying which network it belongs to; use a file made by train.py")
    network = build_network(OmegaConf.create(passport["config"]), passport["class_names"])
    load_strictly(network, state, str(path))
    return network.eval(), passport


def load_strictly(network: Network, state: dict[str, Tensor], source: str) -> None:
    """Load a whole network.

    Raises:
        ConfigError: a tensor is missing, left over, or of another shape.
    """
    own = network.state_dict()
    wrong = [n for n in own if n not in state] + [n for n in state if n not in own]
    wrong += [n for n in own if n in state and own[n].shape != state[n].shape]
    if wrong:
        raise ConfigError(f"{source}: {len(wrong)} tensors do not fit this network, such as {wrong[0]}")
    network.load_state_dict(state)


def start_from_weights(network: Network, config: DictConfig) -> str:
    """Copy the tensors that `config.weights` offers into a new network, and say what was done.

    The backbone must fit as a whole; heads of the same task, classes and shape come along, others start anew.

    Raises:
        ConfigError: the weights are of another backbone or width.
    """
    weights = config.weights
    if weights == "auto":
        weights = _published_backbone(config)
    if weights == "none":
        return "weights: none, training starts from scratch"
    path = find_weights(weights)
    state, passport = load_weights(path)
    own = network.state_dict()
    _check_backbone(str(weights), own, state, passport, config)
    fits = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    for task, names in passport.get("class_names", {}).items():
        if task in network.tasks and names != network.tasks[task].class_names:
            fits = {name: tensor for name, tensor in fits.items() if not name.startswith(f"tasks.{task}.")}
    network.load_state_dict(fits, strict=False)
    anew = sorted({name.split(".")[1] for name in own if name not in fits and name.startswith("tasks.")})
    left = len(own) - len(fits)
    rest = f"; {left} head tensors of {', '.join(anew)} start anew" if left else ""
    return f"weights: {weights}, transferred {len(fits)} of {len(own)} tensors{rest}"


def _published_backbone(config: DictConfig) -> str:
    """The manifest's backbone for this data and backbone, or "none"."""
    for name, entry in manifest().items():
        if entry.get("start_for") == config.choices.data and entry["backbone"] == config.choices.backbone:
            if entry["width"] == config.width:
                return name
    return "none"


def _check_backbone(
    weights: str,
    own: dict[str, Tensor],
    state: dict[str, Tensor],
    passport: dict[str, Any],
    config: DictConfig,
) -> None:
    theirs = passport.get("config", {"backbone": {"_target_": "mnv2_tasks.backbones.mobilenet_v2.MobileNetV2"}})
    if theirs["backbone"]["_target_"] != config.backbone._target_:
        raise ConfigError(
            f"weights={weights} is a {theirs['backbone']['_target_'].split('.')[-1]}; you asked for "
            f"{config.backbone._target_.split('.')[-1]} (backbone={config.choices.backbone}). "
            f"Use weights=none, or its backbone"
        )
    width = theirs["backbone"].get("width", 1.0 if not passport else None)
    if width is not None and width != config.backbone.get("width"):
        raise ConfigError(
            f"weights={weights} is width {width}; you asked for {config.backbone.get('width')}. "
            f"Say width={width}, or weights=none"
        )
    wrong = [n for n in own if n.startswith("backbone.") and (n not in state or state[n].shape != own[n].shape)]
    if wrong:
        raise ConfigError(f"weights={weights}: {len(wrong)} backbone tensors are missing or differ, such as {wrong[0]}")


def class_names_of(source: DataSource, config: DictConfig) -> dict[str, list[str]]:
    return {name: source.class_names(kind) for name, kind in task_kinds(config).items()}
