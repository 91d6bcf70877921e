"""The width multiplier is not written in the weights; the channels of all layers together tell it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import make_divisible

PUBLISHED = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4, 0.25, 0.1)
WIDTHS = (*PUBLISHED, *(n / 100 for n in range(10, 201)))  # widths with equal channels are one network: the first is it
LAST = "blocks.16.project.0.weight"


def width_overrides(state: Mapping[str, Tensor], source: str, note: str) -> list[str]:
    """["width=0.5"], with "backbone.scale_final=true" where the last convolution is scaled below width 1 too.

    Args:
        state: {our name: tensor} of a whole network; only `backbone.*` counts.
        note: the end of the message when they fit no width.

    Raises:
        ConfigError: a tensor is missing, or the shapes are those of no width.
    """
    found = {name.removeprefix("backbone."): t.shape for name, t in state.items() if name.startswith("backbone.")}
    tap = "final" if "final.0.weight" in found else "c5"
    if missing := _shapes(tap, 1.0, False).keys() - found.keys():
        raise ConfigError(f"{source}: {len(missing)} tensors of the backbone are missing, such as {min(missing)}")
    for width in WIDTHS:
        if make_divisible(320 * width) == found[LAST][0]:  # worth building
            for scale_final in (False, True):
                if _shapes(tap, width, scale_final) == found:
                    return [f"width={width}", *["backbone.scale_final=true"] * scale_final]
    channels = [found[f"{part}.0.weight"][0] for part in ("stem", *(f"blocks.{i}.project" for i in range(17)))]
    raise ConfigError(
        f"{source}: MobileNetV2's layers, but no width multiplier gives their shapes: the stem and the blocks have "
        f"{', '.join(map(str, channels))} channels{note}"
    )


def mobilenet_v1_shapes(state: Mapping[str, Tensor], source: str) -> tuple[float, dict[str, torch.Size]]:
    """MobileNetV1's width, by the last convolution's channels, and {our name: shape} of its whole backbone.

    Raises:
        ConfigError: they are those of no width.
    """
    last = state.get("backbone.layers.13.1.0.weight")
    if last is None or not 128 <= len(last) <= 4096:
        raise ConfigError(f"{source}: MobileNetV1's last convolution is missing, or not of 128 to 4096 channels")
    width = len(last) / 1024
    with torch.device("meta"):
        backbone = MobileNetV1(width=width, output_stride=32, taps=["final"])
    return width, {f"backbone.{name}": tensor.shape for name, tensor in backbone.state_dict().items()}


def _shapes(tap: str, width: float, scale_final: bool) -> dict[str, torch.Size]:
    with torch.device("meta"):
        backbone = MobileNetV2(width=width, output_stride=32, taps=[tap], scale_final=scale_final)
    return {name: tensor.shape for name, tensor in backbone.state_dict().items()}
