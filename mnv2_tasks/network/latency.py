"""How long a call takes: the median and the tail of many, in milliseconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Latency:
    p50: float  # milliseconds; half of the calls are faster
    p95: float  # milliseconds
    repeats: int
    threads: int  # that torch computes with on the CPU


def measure(call: Callable[[], Any], *, repeats: int = 30, warmup: int = 5) -> Latency:
    """Latency of `call`, one after the other; on a GPU each call is waited for."""
    return measure_alternately({"call": call}, repeats=repeats, warmup=warmup)["call"]


@torch.inference_mode()
def measure_alternately(
    calls: dict[str, Callable[[], Any]], *, repeats: int = 30, warmup: int = 5
) -> dict[str, Latency]:
    """Latency of several calls that take turns, so that a machine busy for a while slows all of them alike.

    Args:
        repeats: timed rounds.
        warmup: rounds before those, which fill caches and let libraries choose their algorithms.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats={repeats}, warmup={warmup}: expected at least 1 and at least 0")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(warmup + repeats):
        for name, call in calls.items():
            _wait()
            began = time.perf_counter()
            call()
            _wait()
            if round_number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return {
        name: Latency(
            p50=1e3 * float(np.percentile(times, 50)),
            p95=1e3 * float(np.percentile(times, 95)),
            repeats=repeats,
            threads=torch.get_num_threads(),
        )
        for name, times in seconds.items()
    }


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
