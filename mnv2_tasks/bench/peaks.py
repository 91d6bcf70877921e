"""What a machine can do at most: multiply-adds of large matrices, and bytes moved."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

SIDE = 1024  # of the matrices on a CPU; several times that to fill a GPU


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def matmul_peak(dtype: torch.dtype = torch.float32) -> float:
    """Multiply-adds per second of square matrices, with the threads that torch has."""
    side = 8 * SIDE if device().type == "cuda" else SIDE
    a, b = (torch.randn(side, side, device=device()).to(dtype) for _ in range(2))
    return side**3 / _best(lambda: a @ b)


def bandwidth() -> float:
    """Bytes read and written per second in copying what no cache holds."""
    source = torch.zeros(2**30 if device().type == "cuda" else 2**28, dtype=torch.uint8, device=device())
    target = torch.empty_like(source)
    return 2 * source.numel() / _best(lambda: target.copy_(source))


def _best(call: Callable[[], Any], tries: int = 20) -> float:
    seconds = []
    for _ in range(tries):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def openvino_matmul_peak(threads: int) -> float | None:
    """The same in OpenVINO, whose kernels suit some CPUs better; None where it is not installed."""
    try:
        import openvino  # pyright: ignore[reportMissingImports]
        from openvino import opset13 as ops
    except ImportError:
        return None
    sides = [ops.parameter([SIDE, SIDE], np.float32) for _ in range(2)]
    model = openvino.Model([ops.matmul(*sides, False, False)], sides)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    inputs = [np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32) for _ in range(2)]
    return SIDE**3 / _best(lambda: request.infer(inputs))
