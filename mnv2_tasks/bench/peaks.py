"""What a benchmark runs on, at most."""

from importlib import import_module
from typing import Any

import numpy as np
import torch

from mnv2_tasks.network.latency import least_seconds
from mnv2_tasks.runtimes.openvino import core

SIDE = 1024  # of the matrices on a CPU; several times that to fill a GPU
COPIED = 2**28  # bytes


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def matmul_peak(dtype: torch.dtype = torch.float32) -> float:
    """Multiply-adds per second of square matrices, with the threads that torch has."""
    side = 8 * SIDE if device().type == "cuda" else SIDE
    a, b = (torch.randn(side, side, device=device()).to(dtype) for _ in range(2))
    return side**3 / least_seconds(lambda: a @ b)


def memory_bandwidth() -> float:
    """Bytes per second that a copy of a tensor too large for any cache reads and writes."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=device())
    target = torch.empty_like(source)
    return 2 * COPIED / least_seconds(lambda: target.copy_(source))


def openvino_matmul_peak(threads: int) -> float | None:
    """The same in OpenVINO, whose kernels suit some CPUs better; None where it is not installed."""
    try:
        openvino: Any = import_module("openvino")
        ops: Any = import_module("openvino.opset13")
    except ImportError:
        return None
    sides = [ops.parameter([SIDE, SIDE], np.float32) for _ in range(2)]
    model = openvino.Model([ops.matmul(*sides, False, False)], sides)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core().compile_model(model, "CPU", settings).create_infer_request()
    inputs = [np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32) for _ in range(2)]
    return SIDE**3 / least_seconds(lambda: request.infer(inputs))
