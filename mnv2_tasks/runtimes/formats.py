"""The files a network can become: what each is called, at which precisions, and which library writes and runs it.

Behind each stands a module of this room with `write(graph, example, metadata, path, precision)` and a class
`Session(path, threads)`: `metadata`, and a call of (B, H, W, 3) uint8 pixels that returns arrays in the graph's order.
The graph comes finished: an `export.graph.Graph`, of which is used what it takes and returns, `network`, `any_size`,
`dynamic_shape` and `output_names`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.kinds.kinds import KINDS


@dataclass(frozen=True)
class Format:
    module: str  # of this package
    suffix: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...]  # that must be installed; the extra of pyproject.toml has the format's name
    writers: tuple[str, ...] = ()  # needed only to write
    runs_code: bool = False  # of whoever wrote the file, as it is loaded
    one_task: bool = False  # a file for each task of a network
    fit: str | None = None  # how its runtime itself makes pictures the input; None: its callers do


FORMATS = {
    "onnx": Format("onnx", ".onnx", ("fp32", "fp16", "int8"), ("onnx", "onnxscript", "onnxruntime")),
    "openvino": Format("openvino", ".xml", ("fp32", "fp16", "bf16", "int8"), ("openvino", "onnx", "onnxscript")),
    "executorch": Format("executorch", ".pte", ("fp32", "int8"), ("executorch", "torchao")),
    "litert": Format("litert", ".tflite", ("fp32", "fp16", "int8"), ("ai_edge_litert",), ("litert_torch",)),
    "mediapipe": Format(
        "mediapipe",
        ".tflite",
        ("fp32", "fp16", "int8"),
        ("ai_edge_litert",),
        ("litert_torch", "mediapipe"),
        one_task=True,
        fit="tf1_square",
    ),
    "torch": Format("torch_program", ".pt2", ("fp32", "bf16"), (), runs_code=True),
}

SMALLEST, LARGEST = 32, 8192  # pixels of a side, where any size is taken


def output_names(kinds: Mapping[str, str]) -> list[str]:
    """{task: kind} -> names of what a graph returns, in order, however many tasks there are."""
    return [f"{task}_{name}" for task, kind in kinds.items() for name in KINDS[kind].OUTPUTS]


def format_module(name: str, *, to_write: bool = False) -> ModuleType:
    """The module that writes and runs a format.

    Raises:
        ConfigError: what it needs is not installed.
    """
    needed = FORMATS[name].packages + (FORMATS[name].writers if to_write else ())
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        raise ConfigError(f'format={name}: needs {", ".join(missing)}: pip install -e ".[{name}]"')
    return import_module(f"mnv2_tasks.runtimes.{FORMATS[name].module}")


def check_format(name: str, precision: str) -> None:
    """Raise a ConfigError for a format that there is not, or a precision that it does not have."""
    if name not in FORMATS:
        meant = {"tflite": "litert", "pt": "torch", "torchscript": "torch", "ir": "openvino", "pte": "executorch"}
        hint = f"it is called {meant[name]}; " if name in meant else ""
        raise ConfigError(f"format={name}: unknown; {hint}there are {', '.join(FORMATS)}")
    offered = FORMATS[name].precisions
    if precision not in offered:
        others = [other for other, found in FORMATS.items() if precision in found.precisions]
        elsewhere = f"; precision={precision} has format={' or '.join(others)}" if others else ""
        raise ConfigError(f"format={name} precision={precision}: {name} has {', '.join(offered)}{elsewhere}")


def format_of(path: Path) -> str | None:
    """The format that a file's name says it has."""
    return next((name for name, found in FORMATS.items() if found.suffix == path.suffix), None)
