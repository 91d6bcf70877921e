"""Frozen graphs of TensorFlow 1 (.pb): the networks of `tensorflow.py`, whose variables have become constants.

They are read with the protobuf classes of tensorboard. A graph is data here: none of its operations is run.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_bytes
from mnv2_tasks.weights.importers.tensorflow_names import NORMALISED, is_weight
from mnv2_tasks.wording import brief

MOST_BYTES = 1 << 27  # five times the largest of these networks
MOST_VALUES = MOST_BYTES // 4  # of all tensors: a file may say one value for many
MOST_DIMENSIONS = 4
NUMBERS = {1: ("<f4", "float_val"), 3: ("<i4", "int_val")}  # TensorFlow's DT_FLOAT and DT_INT32
NORM_EPS = 1e-3  # of TF's MobileNets


class FrozenGraph:
    """What a file says: its operations, by name, and the values of its constants."""

    def __init__(self, path: Path):
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto import graph_pb2

        self.source, self.left = str(path), MOST_VALUES
        content = read_bytes(path, most_bytes=MOST_BYTES)
        if content.startswith(b"\x08\x01\x12"):
            raise ConfigError(
                f"{path}: a SavedModel, whose weights lie in variables/ beside it: export it as .tflite, or name "
                f"frozen_inference_graph.pb or the checkpoint of the same archive"
            )
        try:
            nodes = graph_pb2.GraphDef.FromString(content).node  # pyright: ignore[reportAttributeAccessIssue]
        except DecodeError:
            raise ConfigError(f"{path}: is no graph of TensorFlow, or was cut short") from None
        self.nodes: dict[str, Any] = {node.name: node for node in nodes}
        if not self.nodes:
            raise ConfigError(f"{path}: is no graph of TensorFlow: there is no operation in it")
        self.variables = [name for name in self.constants() if is_weight(name)]
        if not self.variables:
            raise ConfigError(
                f"{path}: a graph of {len(self.nodes)} operations, such as {brief(next(iter(self.nodes)))}, with no "
                f"weights of a MobileNet among its constants: one that is not frozen, or of another network"
            )

    def constants(self) -> Iterator[str]:
        return (name for name, node in self.nodes.items() if node.op == "Const")

    def numbered(self, pattern: str) -> list[np.ndarray]:
        """Values of the constants whose names match, in the order of the number that the pattern finds; none is 0."""
        found = [match for name in self.constants() if (match := re.fullmatch(pattern, name))]
        return [self.values(match[0]) for match in sorted(found, key=lambda match: int(match[1] or 0))]

    def values(self, name: str) -> np.ndarray:
        """A constant's numbers.

        Raises:
            ConfigError: it has none of float32 or int32, or not as many as its shape says.
        """
        tensor = self.nodes[name].attr["value"].tensor
        shape = [dimension.size for dimension in tensor.tensor_shape.dim]
        shown = f"{self.source}: {brief(name)}"
        if tensor.dtype not in NUMBERS or len(shape) > MOST_DIMENSIONS or min(shape, default=1) < 1:
            raise ConfigError(f"{shown}: is no tensor of float32 with up to {MOST_DIMENSIONS} dimensions")
        count = math.prod(shape)
        self.left -= count
        if self.left < 0:
            raise ConfigError(f"{shown}: with it the tensors have more than {MOST_VALUES:,} numbers")
        kind, field = NUMBERS[tensor.dtype]
        content = tensor.tensor_content
        found = np.frombuffer(content[: len(content) // 4 * 4], kind) if content else np.array(getattr(tensor, field))
        if len(content) not in (0, 4 * count) or not 1 <= len(found) <= count:
            raise ConfigError(f"{shown}: holds {len(found):,} numbers, its shape {shape} says {count:,}")
        found = np.append(found, np.full(count - len(found), found[-1]))  # the last one stands for all that follow
        if not np.isfinite(found).all():
            raise ConfigError(f"{shown}: holds NaN or infinity")
        return found.reshape(shape).astype(kind)

    def check_layers(self) -> None:
        """Refuse convolutions that have neither biases nor a batch norm, as where norms were folded into them."""
        names = set(self.variables)
        norm = [part for part in NORMALISED if part.startswith("BatchNorm/")]
        for name in self.variables:
            layer, _, part = name.rpartition("/")
            missing = [part for part in norm if f"{layer}/{part}" not in names]
            if part in ("weights", "depthwise_weights") and missing and f"{layer}/biases" not in names:
                raise ConfigError(
                    f"{self.source}: {brief(layer)} has no {missing[0]}: its batch norms were folded or optimised "
                    f"away; name the frozen graph from before, or the checkpoint"
                )
        for name, node in self.nodes.items():
            epsilon = node.attr["epsilon"].f if node.op.startswith("FusedBatchNorm") else NORM_EPS
            if "Mobilenet" in name and not math.isclose(epsilon, NORM_EPS, rel_tol=1e-3):
                raise ConfigError(f"{self.source}: {brief(name)} has epsilon {epsilon:.3g}, MobileNet's has {NORM_EPS}")

    def size(self) -> int | None:
        """Side of the input in pixels, where it is fixed."""
        resized = self.numbered(r"Preprocessor/map/while/ResizeImage()/stack")
        shapes = [node.attr["shape"].shape.dim for node in self.nodes.values() if node.op == "Placeholder"]
        sizes = [tuple(sides.tolist()) for sides in resized] or [
            (shape[1].size, shape[2].size) for shape in shapes if len(shape) == 4 and shape[3].size == 3
        ]
        if not sizes or len(sizes[0]) != 2 or min(sizes[0]) < 1:
            return None
        height, width = sizes[0]
        if height != width:
            raise ConfigError(f"{self.source}: its input has {height} x {width} pixels: expected a square")
        return int(height)
