"""How long calls take, alone or by turns, where a machine that is busy for a while slows all of them alike.

torch's Timer, which times one call alone here, knows no turns.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer, timer


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
    calls: dict[str, Callable[[], Any]], *, repeats: int = 30, warmup: int = 5, pause: float = 0.0
) -> dict[str, Latency]:
    """Latency of several calls that take turns.

    Args:
        repeats: timed rounds.
        warmup: rounds before those, which fill caches and let libraries choose their algorithms.
        pause: see `by_turns`.
    """
    return {
        name: Latency(
            p50=1e3 * float(np.percentile(seconds, 50)),
            p95=1e3 * float(np.percentile(seconds, 95)),
            repeats=repeats,
            threads=torch.get_num_threads(),
        )
        for name, seconds in by_turns(calls, rounds=repeats, warmup=warmup, pause=pause).items()
    }


def by_turns(
    calls: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warmup: int,
    pause: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each call takes in each round; on a GPU each is waited for.

    Args:
        warmup: rounds before those that count.
        pause: seconds before each call. Threads of one runtime go on waiting busily after a call, for a millisecond
            or so, and would take the cores from the call of another.
        clock: seconds, such as `time.process_time` for those of the processor.
    """
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds={rounds}, warmup={warmup}: expected at least 1 and at least 0")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(warmup + rounds):
        for name, call in calls.items():
            wait_for_gpu()
            if pause:
                time.sleep(pause)
            began = clock()
            call()
            wait_for_gpu()
            seconds[name].append(clock() - began)
    return {name: taken[warmup:] for name, taken in seconds.items()}


def least_seconds(call: Callable[[], Any], *, during: float = 0.5, clock: Callable[[], float] = timer) -> float:
    """Seconds of the fastest of the calls during some seconds: what else the machine does only adds to it."""
    timed = Timer("call()", timer=clock, globals={"call": call}, num_threads=torch.get_num_threads())
    return min(timed.blocked_autorange(min_run_time=during).times)


def times_as_fast(own: Sequence[float], others: Sequence[float]) -> float:
    """How many times as long the others take: the median over the rounds of the ratio within each."""
    return median(theirs / ours for ours, theirs in zip(own, others))


def wait_for_gpu() -> None:
    if torch.cuda.is_initialized():  # else nothing runs there
        torch.cuda.synchronize()
