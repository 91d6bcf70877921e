"""Files of weights with faults by chance, the same in every run: refused with an error of ours that names the file."""

import io

import flatbuffers
import numpy as np
import pytest
import torch
from faults import bounded, spoilt, spoilt_inside
from frozen_graphs import NORM, folded
from safetensors.torch import save
from torchvision.models import mobilenet_v2

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.npz import read_npz
from mnv2_tasks.weights.importers.tflite import read_tflite
from mnv2_tasks.weights.weight_files import load_weights

TIMES = 40


def npz():
    """Folded convolutions of one number each."""
    file = io.BytesIO()
    np.savez(file, **{f"{n:03d}_{kind}": np.ones((1,) * (4 if kind == "w" else 1)) for n in range(53) for kind in "wb"})
    return file.getvalue()


def state():
    with torch.device("meta"):
        names = list(mobilenet_v2(width_mult=0.35).state_dict())
    return {name: torch.ones(2) for name in names}


def pth():
    file = io.BytesIO()
    torch.save({"state_dict": state()}, file)
    return file.getvalue()


def tflite():
    """A convolution of one pixel."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    buffers = [schema.BufferT(), schema.BufferT(), schema.BufferT()]
    buffers[1].data = np.ones(4, np.float32).view(np.uint8)
    tensors = []
    for shape, buffer in (([1, 1, 1, 4], 0), ([1, 1, 1, 4], 1), ([1, 1, 1, 1], 2)):
        tensor = schema.TensorT()
        tensor.shape, tensor.buffer, tensor.name, tensor.type = shape, buffer, b"t", 0
        tensors.append(tensor)
    operator, graph, code, model = schema.OperatorT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.ModelT()
    operator.inputs, operator.outputs = [0, 1], [2]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, schema.Conv2DOptionsT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [2], [operator]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    model.version, model.buffers, model.subgraphs, model.operatorCodes = 3, buffers, [graph], [code]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def pb():
    """Two layers whose norms were folded, one whose kernel is bytes, and a head of halves."""
    shapes = {"Conv/weights": (1, 1, 1, 2), "expanded_conv/depthwise/depthwise_weights": (1, 1, 2, 1)}
    variables = {f"MobilenetV2/{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    for layer in ("Conv", "expanded_conv/depthwise"):
        variables |= {f"MobilenetV2/{layer}/BatchNorm/{part}": np.ones(2, np.float32) for part in NORM}
    graph = folded(variables, "merged")
    graph.quantised("MobilenetV2/Conv_1/weights", np.float32([-1, 1]), "MIN_FIRST")
    graph.constant("MobilenetV2/Conv_1/biases", np.float16([1, 2]))
    graph.constant("MobilenetV2/Logits/Conv2d_1c_1x1/biases", np.float16([1, 2]), packed=False)
    return graph.graph.SerializeToString()


FILES = {
    "a.pb": (pb, load_weights, spoilt),
    "a.npz": (npz, read_npz, spoilt_inside),
    "a.pth": (pth, load_weights, spoilt),
    "b.pth": (pth, load_weights, spoilt_inside),
    "a.safetensors": (lambda: save(state()), load_weights, spoilt),
    "a.tflite": (tflite, read_tflite, spoilt),
}


@pytest.mark.parametrize("file", FILES)
def test_weights_with_faults_are_refused_by_name(tmp_path, file):
    good, read, spoil = FILES[file]
    content, path = good(), tmp_path / file
    for seed in range(TIMES):
        path.write_bytes(spoil(content, np.random.default_rng([seed, *file.encode()])))
        try:
            with bounded():
                read(path)
        except ConfigError as error:
            assert str(path) in str(error), f"{file}, seed {seed}: {error}"
        except Exception as error:
            raise AssertionError(f"{file}, seed {seed}: {type(error).__name__}: {error}") from error
        else:
            raise AssertionError(f"{file}, seed {seed}: numbers of no network were read")
