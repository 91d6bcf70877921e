"""The numbers in a graph of TensorFlow: constants, as they are or as bytes that stand for numbers."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import brief

MOST_VALUES = 1 << 25  # of all tensors, five times the largest of these networks: a file may say one value for many
MOST_DIMENSIONS = 4
PASSED_ON = ("Identity", "Cast", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
MOST_STEPS = 8  # of operations that pass a tensor on


class Number(NamedTuple):
    packed: str  # NumPy's type of them in tensor_content
    field: str  # that holds them one by one otherwise
    read: str  # the type that they are read as


NUMBERS = {  # by TensorFlow's DT_FLOAT, DT_INT32, DT_QUINT8 and DT_HALF
    1: Number("<f4", "float_val", "<f4"),
    3: Number("<i4", "int_val", "<i4"),
    12: Number("u1", "int_val", "<f4"),
    19: Number("<f2", "half_val", "<f4"),
}


class Constants:
    """The constants among operations.

    Args:
        nodes: {name: operation, as protobuf gives it}.
        source: the file, for messages.
    """

    def __init__(self, nodes: Mapping[str, Any], source: str):
        self.nodes, self.source, self.left = nodes, source, MOST_VALUES

    def behind(self, tensor: str) -> str | None:
        """The constant, or bytes turned back, that a tensor is, if operations do no more than pass it on."""
        for _ in range(MOST_STEPS):
            node = self.nodes.get(operation_of(tensor))
            if node is None or node.op in ("Const", "Dequantize"):
                return node and node.name
            if node.op not in PASSED_ON or not node.input:
                return None
            tensor = node.input[0]
        return None

    def values(self, name: str) -> np.ndarray:
        """The numbers of what `behind` found, float32 or int32.

        Raises:
            ConfigError: it has none that are read, or not as many as its shape says.
        """
        node, shown = self.nodes[name], f"{self.source}: {brief(name)}"
        if node.op == "Dequantize":
            return self._turned_back(node, shown)
        tensor = node.attr["value"].tensor
        shape = [dimension.size for dimension in tensor.tensor_shape.dim]
        if tensor.dtype not in NUMBERS or len(shape) > MOST_DIMENSIONS or min(shape, default=1) < 1:
            raise ConfigError(
                f"{shown}: is no tensor of float32, float16 or bytes with up to {MOST_DIMENSIONS} dimensions"
            )
        count = math.prod(shape)
        self.left -= count
        if self.left < 0:
            raise ConfigError(f"{shown}: with it the tensors have more than {MOST_VALUES:,} numbers")
        number = NUMBERS[tensor.dtype]
        kind, content = np.dtype(number.packed), tensor.tensor_content
        if content:
            found = np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)
        else:
            found = np.array(getattr(tensor, number.field))
            found = found.astype("<u2").view(kind) if number.field == "half_val" else found  # their bits
        if len(content) not in (0, kind.itemsize * count) or not 1 <= len(found) <= count:
            raise ConfigError(f"{shown}: holds {len(found):,} numbers, its shape {shape} says {count:,}")
        found = np.append(found, np.full(count - len(found), found[-1]))  # the last one stands for all that follow
        if not np.isfinite(found).all():
            raise ConfigError(f"{shown}: holds NaN or infinity")
        return found.reshape(shape).astype(number.read)

    def _turned_back(self, node: Any, shown: str) -> np.ndarray:
        """As `quantize_weights` of TensorFlow's graph_transforms stores a tensor: bytes, their least and their most."""
        mode, parts = node.attr["mode"].s, [operation_of(tensor) for tensor in node.input]
        constant = all(name in self.nodes and self.nodes[name].op == "Const" for name in parts)
        if mode not in (b"", b"MIN_COMBINED", b"MIN_FIRST") or len(parts) != 3 or not constant:
            raise ConfigError(f"{shown}: its bytes stand for numbers in a way that is not read: {brief(mode)}")
        codes, (least, *_), (most, *_) = (self.values(name).astype(np.float64).ravel() for name in parts)
        step = (most - least) / 255
        if mode == b"MIN_FIRST" and step:
            least = np.round(least / step) * step  # so that 0 is a byte
        shape = [dimension.size for dimension in self.nodes[parts[0]].attr["value"].tensor.tensor_shape.dim]
        return (least + codes * step).astype(np.float32).reshape(shape)


def operation_of(tensor: str) -> str:
    """The operation that gives a tensor, such as split:1, or that is waited for, such as ^split."""
    return tensor.removeprefix("^").partition(":")[0]
