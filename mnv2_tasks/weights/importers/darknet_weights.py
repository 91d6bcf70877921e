"""Darknet's .weights files: a header, then the tensors of each convolution, as float32 without names or shapes."""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_start
from mnv2_tasks.weights.importers.darknet_layers import Layer

FLOAT = 4  # bytes
LONGEST_HEADER = 20
LARGEST_VERSION = 1000  # what is larger means a layout of 2014, and is the sign of other files


class WeightsHeader(NamedTuple):
    """The version of the program that wrote the file, and how many images the network was trained on."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def layout(self) -> str:
        """Before version 0.2 the images are counted with 32 bits."""
        return "<iiiQ" if self.major * 10 + self.minor >= 2 else "<iiii"

    @property
    def size(self) -> int:
        return struct.calcsize(self.layout)

    def to_bytes(self) -> bytes:
        return struct.pack(self.layout, *self)


def read_header(path: Path) -> WeightsHeader | None:
    """The header, or None where the file does not begin with one.

    Raises:
        ConfigError: the file cannot be opened.
    """
    start = read_start(path, LONGEST_HEADER)
    if len(start) < LONGEST_HEADER:  # no file has a header alone
        return None
    version = WeightsHeader(*struct.unpack("<iii", start[:12]))
    if version[:2] == (0, 0) or not all(0 <= number < LARGEST_VERSION for number in version[:3]):
        return None
    return WeightsHeader(*struct.unpack(version.layout, start[: version.size]))


def read_tensors(
    path: Path, header: WeightsHeader, layers: Sequence[Layer], cfg: Path
) -> tuple[dict[str, Tensor], list[int]]:
    """{our name: tensor} as they stand in the file, mapped into memory, and the layers that a shorter file lacks.

    Raises:
        ConfigError: the file does not end behind one of these layers.
    """
    left = path.stat().st_size - header.size
    tensors: list[tuple[str, tuple[int, ...]]] = []
    missing = []
    for index, layer in enumerate(layers):
        needed = FLOAT * sum(math.prod(shape) for _, shape in layer.tensors())
        if needed and not left:
            missing.append(index)
        elif needed > left:
            raise ConfigError(
                f"{path}: ends within layer {index} [{layer.section.kind}], of whose {needed:,} bytes it has {left:,}: "
                f"it is cut short, or {cfg} is of another network"
            )
        else:
            tensors += layer.tensors()
            left -= needed
    if not tensors:
        raise ConfigError(f"{path}: ends before the first layer: it is cut short")
    if left:
        raise ConfigError(f"{path}: has {left:,} bytes behind the last layer of {cfg}, which is of another network")
    numbers = torch.from_numpy(np.memmap(path, "<f4", mode="c", offset=header.size))  # what is changed stays in memory
    sizes = [math.prod(shape) for _, shape in tensors]
    return {name: part.view(shape) for (name, shape), part in zip(tensors, numbers.split(sizes))}, missing


def write_tensors(file: BinaryIO, header: WeightsHeader, layers: Sequence[Layer], state: Mapping[str, Tensor]) -> None:
    """What `read_tensors` reads."""
    file.write(header.to_bytes())
    for layer in layers:
        for name, _ in layer.tensors():
            file.write(state[name].detach().cpu().contiguous().numpy().astype("<f4").tobytes())
