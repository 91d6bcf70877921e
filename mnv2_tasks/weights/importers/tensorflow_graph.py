"""Frozen graphs of TensorFlow 1 (.pb): the networks of `tensorflow.py`, whose variables have become constants.

They are read with the protobuf classes of tensorboard. A graph is data here: none of its operations is run.
"""

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_bytes
from mnv2_tasks.weights.importers.tensorflow_constants import MOST_STEPS, PASSED_ON, Constants, operation_of
from mnv2_tasks.weights.importers.tensorflow_names import NORMALISED, is_weight
from mnv2_tasks.wording import brief

MOST_BYTES = 1 << 27  # five times the largest of these networks
NORM_EPS = 1e-3  # of TF's MobileNets
OF_NORM = [part for part in NORMALISED if part.startswith("BatchNorm/")]
KERNELS = {"Conv2D": "weights", "DepthwiseConv2dNative": "depthwise_weights"}  # the variable of a convolution
VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
SUMS = ("Add", "AddV2", "AddN", "BiasAdd")
# what some tools call a kernel that they have folded a norm into, after its convolution
RENAMED = re.compile(r"(?P<layer>.+)/(?:Conv2D|depthwise)(?:_weights|/merged_input)")


class Folded(NamedTuple):
    """A variable where a batch norm was folded away: a kernel or a bias."""

    constant: str
    factors: str | None = None  # the constant of those that the norm multiplied by, where the kernel is without them


class FrozenGraph:
    """What a file says: its operations, by name, and the values of its constants."""

    def __init__(self, path: Path):
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto import graph_pb2

        self.source = str(path)
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
        self.constants = Constants(self.nodes, self.source)
        self.folded = self._folded()
        named = {name for name in self.nodes if is_weight(name) and self.constants.behind(name)}
        named -= {constant for constant, _ in self.folded.values()}
        left_behind = {f"{name.rpartition('/')[0]}/{part}" for name in self.folded for part in OF_NORM}
        self.variables = sorted(named - left_behind | self.folded.keys())
        if not self.variables:
            self._refuse()

    def _refuse(self) -> NoReturn:
        if variables := [name for name, node in self.nodes.items() if node.op in VARIABLES]:
            raise ConfigError(
                f"{self.source}: a graph that is not frozen: the values of {len(variables)} variables, such as "
                f"{brief(variables[0])}, are not in it; name the checkpoint beside it, or freeze it"
            )
        raise ConfigError(
            f"{self.source}: a graph of {len(self.nodes)} operations, such as {brief(next(iter(self.nodes)))}, none of "
            f"whose constants is named as a weight of TF slim, the Object Detection API or DeepLab: another network, "
            f"or one of Keras, which converts its models to .tflite"
        )

    def numbered(self, pattern: str) -> list[np.ndarray]:
        """Values of the constants whose names match, in the order of the number that the pattern finds; none is 0."""
        constants = [name for name, node in self.nodes.items() if node.op == "Const"]
        found = [match for name in constants if (match := re.fullmatch(pattern, name))]
        return [self.constants.values(match[0]) for match in sorted(found, key=lambda match: int(match[1] or 0))]

    def values(self, variable: str) -> np.ndarray:
        """A variable's numbers, in TF's layout.

        Raises:
            ConfigError: it has none that are read.
        """
        constant, factors = self.folded.get(variable, Folded(variable))
        values = self.constants.values(self.constants.behind(constant) or constant)
        if factors is None:
            return values
        scale = self.constants.values(factors)
        channels = values.shape[2:] if variable.endswith("depthwise_weights") else values.shape[-1:]
        if values.ndim != 4 or scale.shape != (math.prod(channels),):
            raise ConfigError(f"{self.source}: {brief(factors)}: has not one factor for each channel that it scales")
        return values * scale.reshape(channels)

    def _folded(self) -> dict[str, Folded]:
        """Kernels and biases of layers without a norm, under the names that variables have.

        What follows a convolution counts: the norm's own constants may still be there, and nothing read them.
        """
        readers: dict[str, list[Any]] = defaultdict(list)  # {operation: those that read its result}
        for node in self.nodes.values():
            for tensor in node.input:
                readers[operation_of(tensor)].append(node)
        found = {}
        for node in self.nodes.values():
            kernel = self.constants.behind(node.input[1]) if node.op in KERNELS and len(node.input) > 1 else None
            if kernel is None or not (is_weight(kernel) or RENAMED.fullmatch(kernel)):
                continue
            renamed = None if is_weight(kernel) else RENAMED.fullmatch(kernel)
            layer = renamed["layer"] if renamed else kernel.rpartition("/")[0]
            factors, bias = self._factors_and_bias(node, readers)
            if bias is not None and Folded(bias) in found.values():
                raise ConfigError(
                    f"{self.source}: {brief(bias)} is added behind two convolutions, so that nothing tells their own "
                    f"biases; name the frozen graph from before it was optimised, or the checkpoint"
                )
            if bias is not None:
                layer = re.sub(r"^(\w+)/\1/", r"\1/", layer)  # operations of slim's MobileNetV1, unlike variables
                found[f"{layer}/{KERNELS[node.op]}"] = Folded(kernel, factors)
                found[f"{layer}/biases"] = Folded(bias)
        return found

    def _factors_and_bias(self, node: Any, readers: dict[str, list[Any]]) -> tuple[str | None, str | None]:
        """The constants by which what a convolution gives is multiplied, and which are then added."""
        factors = None
        for _ in range(MOST_STEPS):
            if len(readers[node.name]) != 1:
                break
            (node,) = readers[node.name]
            constants = [name for tensor in node.input if (name := self.constants.behind(tensor))]
            if node.op in SUMS and len(constants) == 1:
                return factors, constants[0]
            if node.op == "Mul" and len(constants) == 1 and factors is None:
                factors = constants[0]
            elif node.op not in (*PASSED_ON, *SUMS, "BatchToSpaceND"):  # a sum: grappler adds the shortcut first
                break
        return factors, None

    def check_layers(self) -> None:
        """Refuse convolutions that have neither biases nor a batch norm, and norms of another epsilon."""
        names = set(self.variables)
        for name in self.variables:
            layer, _, part = name.rpartition("/")
            missing = [part for part in OF_NORM if f"{layer}/{part}" not in names]
            if part in KERNELS.values() and missing and f"{layer}/biases" not in names:
                raise ConfigError(
                    f"{self.source}: {brief(layer)} has no {missing[0]}, and no bias that its batch norm was folded "
                    f"into; name the frozen graph from before it was optimised, or the checkpoint"
                )
        for name, node in self.nodes.items():
            epsilon = node.attr["epsilon"].f if node.op.startswith("FusedBatchNorm") else NORM_EPS
            if "Mobilenet" in name and not math.isclose(epsilon, NORM_EPS, rel_tol=1e-3):
                raise ConfigError(f"{self.source}: {brief(name)} has epsilon {epsilon:.3g}, MobileNet's has {NORM_EPS}")

    def left_out(self) -> dict[str, str]:
        """{operation: why it was not taken}."""
        ranges = [name for name, node in self.nodes.items() if node.op.startswith("FakeQuant")]
        return dict.fromkeys(ranges, "ranges of a fake quantisation: the weights are those before rounding")

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
