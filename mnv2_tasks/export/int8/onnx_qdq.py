"""The int8 file: ONNX with QuantizeLinear and DequantizeLinear nodes, which ONNX Runtime and OpenVINO both compute in.

Weights have 7 bits, symmetric, a scale for each output channel; activations 8 bits, unsigned, a range for each tensor.
Seven, because x86 processors without VNNI add products of 8-bit numbers in pairs that overflow their 16 bits: the file
then gives the same answers everywhere.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

COMPUTED = ("Conv", "Gemm", "MatMul")  # what holds weights
QUANTISED = (*COMPUTED, "Add", "Clip", "Relu")  # and what stands between two of those


def to_int8(
    model: Any, calibration: np.ndarray, path: Path, *, keep_float: Collection[str] = (), ranges: Path | None = None
) -> None:
    """Write a float32 `onnx.ModelProto` of `deploy.onnx.to_onnx` in int8.

    Normalisation before the network and post-processing behind it stay as they are.

    Args:
        calibration: (N, H, W, 3) uint8, fitted to the network's input.
        keep_float: modules of the network whose layers stay in float32, such as "backbone.stem.0".
        ranges: a file that the measured ranges are kept in, and taken from where it exists.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Images(CalibrationDataReader):
        left = iter(calibration[:, None])

        def get_next(self) -> Any:
            image = next(self.left, None)
            return None if image is None else {"images": image}

    copied = type(model)()
    copied.CopyFrom(model)  # it is changed
    copied.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # by the exporter, that is
    _shield(copied, keep_float)
    nodes = [n for n in model.graph.node if n.op_type in QUANTISED and _in_network(n) and layer_of(n) not in keep_float]
    quantize_static(
        copied,
        path,
        Images(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED),
        nodes_to_quantize=[node.name for node in nodes],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        calibration_cache_path=ranges,
    )


def _shield(model: Any, layers: Collection[str]) -> None:
    """Put an identity behind these layers, in place.

    Where integers come in and integers go out, ONNX Runtime (1.32, its WeightBiasQuantization) would round the
    weights itself, with one scale for the whole tensor. It keeps this identity, and computes it within the convolution.
    """
    from onnx import helper

    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if layer_of(node) in layers:
            name = node.output[0]
            node.output[0] = f"{name}_in_float"
            nodes.append(helper.make_node("LeakyRelu", [node.output[0]], [name], alpha=1.0))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def with_biases(model: Any, biases: Mapping[str, torch.Tensor]) -> Any:
    """A copy of a `onnx.ModelProto`, in which these modules of the network have other biases."""
    from onnx import numpy_helper

    copied = type(model)()
    copied.CopyFrom(model)
    for node in copied.graph.node:
        layer = layer_of(node)
        if layer and layer in biases:  # by the node: equal biases may have been made one
            name = f"network.{layer}.corrected_bias"
            copied.graph.initializer.append(numpy_helper.from_array(biases[layer].numpy(), name))
            node.input[2:] = [name]
    return copied


def layer_of(node: Any) -> str | None:
    """The module whose weights a node computes with, as the network names it; None if it has none."""
    if node.op_type not in COMPUTED:
        return None
    return node.input[1].removeprefix("network.").removesuffix(".weight")


def _in_network(node: Any) -> bool:
    """Whether torch's exporter made it from a module of the network: not from what the graph adds around that."""
    scopes = next((json.loads(p.value.replace("'", '"')) for p in node.metadata_props if "name_scopes" in p.key), [])
    return any(scope.startswith(("network.backbone", "network.tasks")) for scope in scopes)
