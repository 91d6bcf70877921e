"""Training starts from weights: what fits is copied, and a line says what was, what was not, and why."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from mnv2_tasks.backbones.mobilenet_v2 import EXPANSION
from mnv2_tasks.build import load_with_passport
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.finite import is_finite
from mnv2_tasks.network.network import Network
from mnv2_tasks.weights.find import find_weights, manifest
from mnv2_tasks.weights.passport import head_settings
from mnv2_tasks.weights.weight_files import Weights

SCALES = {"width": None, "expansion": EXPANSION}  # of backbones; what holds where a passport or the manifest is silent


def draw_weights(network: Network, widths: Mapping[str, Any], within: str = "") -> None:
    """Draw the kernels and matrices of some parts anew, as TF's truncated normal does.

    Args:
        widths: {part of the network: the standard deviation, beyond twice which it is drawn again; None: it stays as it
            is; or the same of its own parts}.

    Raises:
        ConfigError: there is no such part, or a width is not above 0.
    """
    for name, width in widths.items():
        path = f"{within}{name}"
        if isinstance(width, Mapping):
            draw_weights(network, width, f"{path}.")
        elif width is not None:
            _draw(network, path, width)


def _draw(network: Network, path: str, width: float) -> None:
    try:
        part = network.get_submodule(path)
    except AttributeError:
        raise ConfigError(f"init_std.{path}: this network has no such part") from None
    if not width > 0:
        raise ConfigError(f"init_std.{path}={width}: expected a standard deviation above 0")
    for weight in part.parameters():
        if weight.ndim > 1:
            nn.init.trunc_normal_(weight, std=width, a=-2 * width, b=2 * width)


def start_from_weights(network: Network, config: DictConfig) -> str:
    """Copy the tensors that `config.weights` offers into a new network, and say what was done.

    The backbone must fit as a whole; heads of the same task, classes and shape come along, others start anew.

    Raises:
        ConfigError: the weights are of another backbone, width or expansion.
    """
    name = _published_backbone(config) if config.weights == "auto" else config.weights
    if name == "none":
        return "weights: none, training starts from scratch"
    try:
        path = find_weights(name, config.choices.backbone)
    except ConfigError as error:
        if config.weights != "auto":
            raise
        return f"weights: none, training starts from scratch and will score far lower than it could. {error}"
    weights = load_with_passport(path, trust=config.trust)
    own = network.state_dict()
    optional = {f"backbone.{tensor}" for tensor in getattr(network.backbone, "optional_tensors", ())}
    missing = sorted(own.keys() & optional - weights.state.keys())
    _check_backbone(str(name), {k: t for k, t in own.items() if k not in missing}, weights, config)
    fits = {k: t for k, t in weights.state.items() if k in own and own[k].shape == t.shape and k not in ("mean", "std")}
    reasons = {}
    for task, module in network.tasks.items():
        prefix = f"tasks.{task}."
        theirs = weights.passport["class_names"].get(task)
        other_anchors = theirs is not None and _anchors(weights.passport["config"], task) != _anchors(config, task)
        if theirs != module.class_names or other_anchors:
            fits = {k: t for k, t in fits.items() if not k.startswith(prefix)}
        lacking = any(k not in weights.state for k in own if k.startswith(prefix))
        reasons[task] = _why_anew(theirs, module.class_names, weights.passport, other_anchors, lacking)
    broken = next((k for k, tensor in fits.items() if not is_finite(tensor)), None)
    if broken:
        raise ConfigError(f"weights={name}: {broken} holds numbers that are NaN or infinite: take other weights")
    network.load_state_dict(fits, strict=False)
    anew = Counter(k.split(".")[1] for k in own if k not in fits and k.startswith("tasks."))
    rest = "".join(f"; {count} head tensors of {task} start anew: {reasons[task]}" for task, count in anew.items())
    rest += "".join(f"; {name} starts anew: the weights lack it" for name in missing)
    left = Counter(weights.left_out.values())
    unused = "".join(f"; left out {count}: {why}" for why, count in left.items())
    stride = weights.passport["config"]["output_stride"]
    if "backbone" in config.freeze and stride != config.output_stride:
        unused += f"; trained at output stride {stride}: at {config.output_stride} the old heads see other features"
    return f"weights: {name} ({weights.family}), transferred {len(fits)} of {len(own) - 2} tensors{rest}{unused}"


def _why_anew(
    theirs: list[str] | None, ours: list[str], passport: dict[str, Any], other_anchors: bool, lacking: bool
) -> str:
    if theirs is None:
        return f"the weights are for {', '.join(passport['class_names'])}"
    if len(theirs) != len(ours):
        return f"{len(theirs)} -> {len(ours)} classes"
    if theirs != ours:
        return f"other classes, such as {next(a for a, b in zip(theirs, ours) if a != b)}"
    if other_anchors:
        return "other anchors"
    return "the weights lack them" if lacking else "the head has another shape"


def _anchors(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Of a detector: the same tensors with other anchors mean other boxes."""
    head = config["tasks"][task]["head"]
    found = {key: value for key, value in head_settings(head).items() if "anchor" in key}
    return ({"anchor_last_scale": 1.0, "anchor_cells": None} if head["_target_"].endswith(".SSDHead") else {}) | found


def _published_backbone(config: DictConfig) -> str:
    """The manifest's backbone for this data and backbone, or "none"."""
    for name, entry in manifest().items():
        if config.choices.data in entry.get("start_for", ()) and entry["backbone"] == config.choices.backbone:
            fits = [entry.get(key, other) == config.backbone.get(key, other) for key, other in SCALES.items()]
            if all(fits):
                return name
    return "none"


def _check_backbone(name: str, own: dict[str, Tensor], weights: Weights, config: DictConfig) -> None:
    theirs = weights.passport["config"]
    if theirs["backbone"]["_target_"] != config.backbone._target_:
        raise ConfigError(
            f"weights={name} is a {theirs['backbone']['_target_'].split('.')[-1]}; you asked for "
            f"{config.backbone._target_.split('.')[-1]} (backbone={config.choices.backbone}). "
            f"Use weights=none, or its backbone={theirs['choices']['backbone']}"
        )
    for key, silent in SCALES.items():
        scale, asked = theirs["backbone"].get(key, silent), config.backbone.get(key, silent)
        if scale != asked:
            say = key if key in config else f"backbone.{key}"  # width is set at the top
            raise ConfigError(
                f"weights={name}: this is {key} {scale}; you asked for {asked}. Say {say}={scale}, or weights=none"
            )
    names = [n for n in own if n.startswith("backbone.")]
    wrong = [n for n in names if n not in weights.state or weights.state[n].shape != own[n].shape]
    if wrong:
        raise ConfigError(f"weights={name}: {len(wrong)} backbone tensors are missing or differ, such as {wrong[0]}")
