"""`.npz` files of Google's networks whose batch norms are folded into the convolutions.

`NNN_w` (out, in / groups, k, k) and `NNN_b` (out), numbered in network order; the last one is the head's.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.data.reading.npz_files import read_arrays
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.complete import complete_family
from mnv2_tasks.weights.importers.family import CLASSIFIER, DEEPLAB, Family, Imported, in_network_order
from mnv2_tasks.weights.importers.folded import bias_as_norm
from mnv2_tasks.weights.importers.huggingface import CLASSIFICATION, SEGMENTATION
from mnv2_tasks.wording import brief

MOST_BYTES = 1 << 30  # a hundred times the largest of these networks
BRANCHES = [f"{DEEPLAB}.{part}.0" for part in ("pointwise", "pool", "project")]


class FoldedLayout(NamedTuple):
    family: Family
    convolutions: list[str]  # ours, in the file's order: those that a norm follows
    head: str  # the last one


LAYOUTS = [
    FoldedLayout(
        CLASSIFICATION._replace(name="TensorFlow's MobileNetV2, folded"),
        in_network_order()[::2],
        CLASSIFIER,
    ),
    FoldedLayout(
        SEGMENTATION._replace(name="TensorFlow's Mobile-DeepLabv3, folded"),
        in_network_order(final=False)[::2] + BRANCHES,
        f"{DEEPLAB}.logits",
    ),
]


def read_npz(path: Path) -> Imported:
    """Convert a file of folded convolutions: a classifier's, or Mobile-DeepLabv3's.

    Raises:
        ConfigError: the file is damaged, or of another network.
    """
    found = read_arrays(path, str(path), most_bytes=MOST_BYTES)
    arrays = {name: torch.from_numpy(_numbers(array, name, path)) for name, array in found.items()}
    family, convolutions, head = _layout(arrays.keys(), path)
    state: dict[str, Tensor] = {}
    for n, convolution in enumerate(convolutions):
        norm = convolution.removesuffix("0") + "1"
        state[f"{convolution}.weight"] = arrays[f"{n:03d}_w"]
        state |= bias_as_norm(arrays[f"{n:03d}_b"], norm)
    weight, bias = arrays[f"{len(convolutions):03d}_w"], arrays[f"{len(convolutions):03d}_b"]
    state |= {f"{head}.weight": weight.flatten(1) if head == CLASSIFIER else weight, f"{head}.bias": bias}
    return complete_family(family, state, len(bias), str(path), left_out={})


def _numbers(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    """float32."""
    with np.errstate(all="ignore"):
        if array.dtype.kind not in "fiu" or not np.isfinite(numbers := array.astype(np.float32)).all():
            raise ConfigError(f"{path}: {name} holds what are no numbers of 32 bits")
    return numbers


def _layout(names: Collection[str], path: Path) -> FoldedLayout:
    for layout in LAYOUTS:
        if set(names) == {f"{n:03d}_{kind}" for n in range(len(layout.convolutions) + 1) for kind in "wb"}:
            return layout
    counts = " or ".join(f"{len(layout.convolutions) + 1} ({layout.family.name})" for layout in LAYOUTS)
    raise ConfigError(
        f"{path}: expected the arrays 000_w, 000_b, 001_w ... of {counts} convolutions; it holds {len(names)} arrays, "
        f"such as {brief(', '.join(list(names)[:3]))}"
    )
