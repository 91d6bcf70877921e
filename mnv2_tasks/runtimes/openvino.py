"""OpenVINO's IR: an .xml and, beside it, a .bin with the weights; converted from ONNX."""

import errno
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnv2_tasks.runtimes import onnx


def write(graph: Any, example: torch.Tensor, metadata: dict[str, str], path: Path, precision: str) -> None:
    """As ONNX's, converted. fp16 stores the weights in half and computes in float32 where the processor has no half;
    bf16 is computed in; int8 is converted from an int8 .onnx, see export/int8.
    """
    source = path.with_suffix(".onnx.part")
    try:
        onnx.write(graph, example, metadata, source, "fp32")
        convert(source, metadata, path, precision)
    finally:
        source.unlink(missing_ok=True)


def convert(source: Path, metadata: dict[str, str], path: Path, precision: str) -> None:
    """From a .onnx file."""
    import openvino

    model = openvino.convert_model(source)
    for key, value in metadata.items():
        model.set_rt_info(value, ["mnv2_tasks", key])
    model.set_rt_info({"bf16": "bf16"}.get(precision, "f32"), ["mnv2_tasks", "computed_in"])
    try:
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    except RuntimeError as error:  # of its stream, which does not say what ails the disk
        raise OSError(errno.ENOSPC, f"OpenVINO: {error}", str(path)) from None


@cache
def core() -> Any:
    """The one of this process. Each gives its thread a stack for handlers of signals, and the end of several of them in
    the order in which they began leaves one that is no longer memory: the next signal then kills the process.
    """
    import openvino

    return openvino.Core()


class Session:
    def __init__(self, path: Path, threads: int | None = None):
        model = core().read_model(path)
        self.metadata = {key: str(value.value) for key, value in model.get_rt_info()["mnv2_tasks"].items()}
        # without the hint OpenVINO takes bf16 wherever the processor has it, whatever the file says
        settings = {"INFERENCE_PRECISION_HINT": self.metadata["computed_in"], "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        self.model = core().compile_model(model, "CPU", settings)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return list(self.model(images).values())
