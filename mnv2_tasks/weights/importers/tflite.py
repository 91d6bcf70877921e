"""MobileNetV2 classifiers and Mobile-DeepLabv3 in .tflite files: constants in the order of the operations."""

import contextlib
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runtimes.contents import members
from mnv2_tasks.stored.checked_passport import LONGEST_NAME
from mnv2_tasks.weights.importers.complete import complete
from mnv2_tasks.weights.importers.family import TF_INPUT, TF_LAYERS, Imported, in_network_order
from mnv2_tasks.weights.importers.folded import bias_as_norm
from mnv2_tasks.wording import visible

BACKBONE = [name.removesuffix(".0") for name in in_network_order(final=False)[::2]]  # convolution and norm
# what MobileNetV2 does besides convolving. Anything else, such as a MUL that rescales the input, is not in our network
HARMLESS = {
    "ADD", "ARG_MAX", "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "CAST", "CONCATENATION", "DEQUANTIZE", "MEAN", "PACK",
    "PAD", "QUANTIZE", "RESHAPE", "RESIZE_BILINEAR", "SHAPE", "SOFTMAX", "SPACE_TO_BATCH_ND", "SQUEEZE",
    "STRIDED_SLICE",
}  # fmt: skip
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
MOST_LABELS = 4 << 20  # bytes
DTYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2", "INT32": "<i4", "UINT8": "u1", "INT8": "i1"}


class Convolution(NamedTuple):
    kind: str  # one of CONVOLUTIONS
    weight: Tensor  # float32, in torch's layout
    bias: Tensor  # (out,) float32
    activation: str  # fused into it: NONE, RELU, RELU6 ...
    on_one_cell: bool  # whether its input is 1x1
    quantised: bool  # its output is integers, whose range may stand for the activation


def read_tflite(path: Path) -> Imported:
    """Convert a MobileNetV2 classifier (1000 or 1001 classes) or a DeepLabv3 on it without atrous branches.

    Batch norms are folded into the convolutions of such a file; ours become identities with a bias. Quantised weights
    are turned back to float; what quantising lost stays lost.

    Args:
        path: a .tflite file: float32, float16, dynamic-range, or fully quantised (its activations become float).

    Raises:
        ConfigError: ai-edge-litert is not installed, the file is broken, or it holds another network.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise ConfigError(f'{path}: reading it needs ai-edge-litert; pip install "mnv2-tasks[tflite]"') from error
    try:
        return _convert(_Graph(path, schema))
    except ConfigError:
        raise
    except Exception as error:  # flatbuffers does not verify a file first
        raise ConfigError(f"{path}: a broken .tflite file, is the download complete? {error}") from error


class _Graph:
    """What a file says, without running it."""

    def __init__(self, path: Path, schema: Any):
        self.source, data = str(path), path.read_bytes()
        if not schema.Model.ModelBufferHasIdentifier(data, 0):
            raise ConfigError(f"{path}: not a .tflite file")
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        self.buffers = model.buffers
        self.tensors = model.subgraphs[0].tensors
        self.inputs = model.subgraphs[0].inputs
        self.types = _names(schema.TensorType)
        self.activations = _names(schema.ActivationFunctionType)
        kinds = _names(schema.BuiltinOperator)
        self.operators = []
        for operator in model.subgraphs[0].operators:
            code = model.operatorCodes[operator.opcodeIndex]
            kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]  # old files have the second one only
            self.operators.append((code.customCode.decode() if kind == "CUSTOM" else kind, operator))
        # float16 files convert every constant before its use
        self.half = {op.outputs[0]: op.inputs[0] for kind, op in self.operators if kind == "DEQUANTIZE"}

    def is_constant(self, index: int) -> bool:
        index = self.half.get(index, index)
        return self.buffers[self.tensors[index].buffer].data is not None

    def constant(self, index: int) -> Tensor:
        """Its values as float32: (q - zero point) * scale if it is quantised, for the tensor or for each channel."""
        tensor = self.tensors[self.half.get(index, index)]
        data, kind = self.buffers[tensor.buffer].data, self.types[tensor.type]
        name = tensor.name.decode()
        if data is None or kind not in DTYPES:
            raise ConfigError(f"{self.source}: tensor {name} ({kind}) is no constant of {', '.join(DTYPES)}")
        values = np.frombuffer(bytes(data), DTYPES[kind]).reshape(tensor.shape).astype(np.float32)
        quantisation = tensor.quantization
        if not kind.startswith("FLOAT"):
            if quantisation is None or quantisation.scale is None:
                raise ConfigError(f"{self.source}: tensor {name} is {kind} without a scale")
            across = [1] * values.ndim
            if len(quantisation.scale) > 1:
                across[quantisation.quantizedDimension] = -1
            zero = np.asarray(quantisation.zeroPoint, np.float32).reshape(across)
            values = (values - zero) * np.asarray(quantisation.scale, np.float32).reshape(across)
        return torch.from_numpy(values)

    def convolutions(self) -> list[Convolution]:
        """In the order of the operations."""
        return [self._convolution(kind, op) for kind, op in self.operators if kind in CONVOLUTIONS]

    def _convolution(self, kind: str, operator: Any) -> Convolution:
        features, kernel, *bias = (int(i) for i in operator.inputs)
        weight = self.constant(kernel)
        if kind == "CONV_2D":
            weight = weight.permute(0, 3, 1, 2)  # (out, kh, kw, in)
        elif kind == "DEPTHWISE_CONV_2D":
            weight = weight.permute(3, 0, 1, 2)  # (1, kh, kw, channels)
        output = self.types[self.tensors[operator.outputs[0]].type]
        return Convolution(
            kind,
            weight.contiguous(),
            self.constant(bias[0]) if bias and bias[0] >= 0 else torch.zeros(len(weight)),
            self.activations[operator.builtinOptions.fusedActivationFunction],
            list(self.tensors[features].shape[1:3]) == [1, 1],
            not output.startswith("FLOAT"),
        )

    def foreign_operations(self) -> list[str]:
        found = {kind for kind, _ in self.operators if kind not in HARMLESS and kind not in CONVOLUTIONS}
        if any(kind == "ADD" and any(self.is_constant(i) for i in op.inputs) for kind, op in self.operators):
            found.add("ADD of a constant")
        return sorted(found)

    def input(self) -> tuple[int, list[str]]:
        """Side of the input in pixels, and overrides of the normalisation: how an image gets into the network."""
        tensor = self.tensors[self.inputs[0]]
        shape, kind = list(tensor.shape), self.types[tensor.type]
        if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise ConfigError(
                f"{self.source}: its input has shape {shape}: expected a square image, (1, side, side, 3)"
            )
        if kind.startswith("FLOAT"):
            return int(shape[1]), TF_INPUT
        # real = (q - zero point) * scale, where q is the pixel, or the pixel - 128 for signed integers
        mean = float(tensor.quantization.zeroPoint[0]) + (128 if kind == "INT8" else 0)
        std = round(1 / float(tensor.quantization.scale[0]), 3)
        return int(shape[1]), [f"input.mean=[{mean},{mean},{mean}]", f"input.std=[{std},{std},{std}]"]


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _convert(graph: _Graph) -> Imported:
    task = _task(graph)
    convolutions = graph.convolutions()
    *normalised, output = convolutions
    names = list(BACKBONE)
    if task == "classification":
        names.append("backbone.final")
        head, rows = "linear", output.weight.flatten(1)
    else:
        pool_first = normalised[-3].on_one_cell
        branches = ("pool", "pointwise") if pool_first else ("pointwise", "pool")
        names += [f"tasks.{task}.head.{part}" for part in (*branches, "project")]
        head, rows = "logits", output.weight
    state: dict[str, Tensor] = {}
    for name, convolution in zip(names, normalised, strict=True):
        if name.startswith("backbone."):
            _check_activation(name, convolution, graph.source)
        state[f"{name}.0.weight"] = convolution.weight
        state |= bias_as_norm(convolution.bias, f"{name}.1")
    background = int(task == "classification" and len(rows) == 1001)  # class 0 is TF's background
    state[f"tasks.{task}.head.{head}.weight"] = rows[background:]
    state[f"tasks.{task}.head.{head}.bias"] = output.bias[background:]
    size, pixels = graph.input()
    return complete(
        state,
        family="TFLite",
        task=task,
        num_classes=len(rows) - background,
        source=graph.source,
        size=size,
        overrides=TF_LAYERS + pixels,
        left_out={"logit 0": "the background class, which no image of ImageNet has"} if background else {},
        labels=_labels(Path(graph.source), len(rows), background),
    )


def _labels(path: Path, rows: int, background: int) -> list[str] | None:
    """The names of the classes in TFLite's metadata, which are files in a zip archive behind the network.

    Of several lists, such as those of other languages, the first counts; one of another length is none.
    """
    for name in members(path):
        with contextlib.suppress(zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError, zlib.error):
            with zipfile.ZipFile(path) as archive:
                if not name.endswith(".txt") or archive.getinfo(name).file_size > MOST_LABELS:
                    continue
                lines = [visible(line.strip()) for line in archive.read(name).decode("utf-8-sig").splitlines()]
            labels = lines[background:] if len(lines) == rows else lines
            if len(labels) == rows - background and all(0 < len(label) <= LONGEST_NAME for label in labels):
                return labels
    return None


def _task(graph: _Graph) -> str:
    """Which of our networks has these operations.

    Raises:
        ConfigError: none.
    """
    kinds = [kind for kind, _ in graph.operators if kind in CONVOLUTIONS]
    found = f"found {len(kinds)} convolutions, {kinds.count('DEPTHWISE_CONV_2D')} of them depthwise"
    if foreign := graph.foreign_operations():
        raise ConfigError(f"{graph.source}: {found}, and operations that our MobileNetV2 has not: {', '.join(foreign)}")
    backbone = ["DEPTHWISE_CONV_2D" if name.endswith("depthwise") else "CONV_2D" for name in BACKBONE]
    tasks = {2: "classification", 4: "mobile_deeplabv3"}  # by the number of convolutions after the blocks
    after = len(kinds) - len(backbone)
    if kinds[: len(backbone)] != backbone or after not in tasks or "DEPTHWISE_CONV_2D" in kinds[-after:]:
        raise ConfigError(
            f"{graph.source}: {found}: neither a MobileNetV2 classifier ({len(backbone) + 2}, 17 depthwise) "
            f"nor a Mobile-DeepLabv3 ({len(backbone) + 4}, 17 depthwise)"
        )
    return tasks[after]


def _check_activation(name: str, convolution: Convolution, source: str) -> None:
    expected = ["NONE"] if name.endswith("project") else ["RELU6"]
    if convolution.quantised:
        expected.append("NONE")  # the range of the integers, 0 to 6, does it
    if convolution.activation not in expected:
        raise ConfigError(
            f"{source}: the convolution at {name} has activation {convolution.activation}, "
            f"MobileNetV2's has {expected[0]}"
        )
