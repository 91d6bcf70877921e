"""Rounding to int8, simulated by torch in float32: what it does to each layer, before any file is written."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mnv2_tasks.contracts import SSDOutput, YOLOv2Output
from mnv2_tasks.network.network import Network

WEIGHT_LEVELS = 64  # on either side of 0: 7 bits, see export/int8/onnx_qdq.py
INPUT_LEVELS = 255
SMALLEST_RANGE = 1e-8
AT_ONCE = 4  # images in a pass
Range = tuple[float, float]


def layers_of(network: Network) -> dict[str, Any]:
    """{name: module} of what multiplies by weights."""
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@torch.no_grad()
def input_ranges(network: Network, images: Tensor) -> dict[str, Range]:
    """The least and the largest value that goes into each layer; 0, which padding adds, is always among them."""
    ranges: dict[str, Range] = {}

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(inputs[0].min())), max(high, float(inputs[0].max())))

        return hook

    handles = [layer.register_forward_pre_hook(look(name)) for name, layer in layers_of(network).items()]
    for part in images.split(AT_ONCE):
        network(part)
    for handle in handles:
        handle.remove()
    return ranges


def round_weight(weight: Tensor) -> Tensor:
    """Symmetric, with a scale for each output channel; gradients pass straight through."""
    scale = weight.detach().abs().flatten(1).amax(1).clamp(min=SMALLEST_RANGE) / WEIGHT_LEVELS
    return torch.fake_quantize_per_channel_affine(
        weight, scale.float(), torch.zeros_like(scale, dtype=torch.int32), 0, -WEIGHT_LEVELS, WEIGHT_LEVELS
    )


def round_input(values: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """With one scale and zero point; what lies beyond `low` and `high` becomes those, and has no gradient."""
    low, high = (torch.as_tensor(end, dtype=torch.float32, device=values.device) for end in (low, high))
    scale = (high - low).clamp(min=SMALLEST_RANGE) / INPUT_LEVELS
    return torch.fake_quantize_per_tensor_affine(values, scale, (-low / scale).round().int(), 0, INPUT_LEVELS)


@contextmanager
def rounded(network: Network, ranges: dict[str, Range], names: Iterable[str]) -> Iterator[None]:
    """Within, these layers compute with rounded weights and inputs."""
    layers, handles, kept = layers_of(network), [], {}
    for name in names:
        kept[name] = layers[name].weight.data
        layers[name].weight.data = round_weight(kept[name])
        handles.append(
            layers[name].register_forward_pre_hook(lambda _, inputs, name=name: round_input(inputs[0], *ranges[name]))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, weight in kept.items():
            layers[name].weight.data = weight


@torch.no_grad()
def head_outputs(network: Network, images: Tensor) -> list[Tensor]:
    """What the heads return for these images, without a detector's anchors, which no image changes."""
    parts = [network(part) for part in images.split(AT_ONCE)]
    rows = [[tensor for head in heads.values() for tensor in _tensors(head)] for heads in parts]
    return [torch.cat(of_all) for of_all in zip(*rows)]


def _tensors(head: Tensor | SSDOutput | YOLOv2Output) -> Sequence[Tensor]:
    if isinstance(head, Tensor):
        return (head,)
    return [values for name, values in head._asdict().items() if name not in ("anchors", "grid")]


def sqnr(exact: Sequence[Tensor], rounded: Sequence[Tensor]) -> float:
    """Signal to quantisation noise in dB: 10 log10 of the signal's power over the error's; of several, the mean."""
    return sum(decibels(e.square().sum(), (e - r).square().sum()) for e, r in zip(exact, rounded)) / len(exact)


def decibels(signal: Tensor, noise: Tensor) -> float:
    return float(10 * torch.log10(signal.clamp(min=1e-20) / noise.clamp(min=1e-20)))


def train_rounded(network: Network) -> None:
    """Quantisation-aware training: from now on each step computes as int8 will, so that the weights learn to bear it.

    Every layer rounds its weights and its input, in training and in evaluation; gradients pass straight through (Jacob
    et al. 2018, arXiv:1712.05877). Ranges are those of the batch, so nothing is kept: parameters, checkpoints and
    averaged weights have the names and shapes that they have without. Batch norms need no folding first: a scale for
    each output channel makes rounding and folding commute.
    """
    for layer in layers_of(network).values():
        layer.register_forward_pre_hook(_round)
        layer.register_forward_hook(_restore, always_call=True)


def as_trained_rounded(network: Network) -> Network:
    """A copy of a network trained so, that computes as it did then: its weights alone do not say it."""
    network = copy.deepcopy(network)
    train_rounded(network)
    return network.eval()


def _round(layer: Any, inputs: tuple[Tensor]) -> Tensor | None:
    if layer.weight.is_meta:  # cost.py counts; torch rounds numbers alone
        return None
    layer.__dict__["weight"] = round_weight(layer.weight)  # hides the parameter, which stays as it is
    low, high = inputs[0].detach().aminmax()
    return round_input(inputs[0], low.clamp(max=0), high.clamp(min=0))


def _restore(layer: Any, inputs: Any, output: Tensor) -> None:
    layer.__dict__.pop("weight", None)
