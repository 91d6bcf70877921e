"""Contestants in processes of their own that take turns: equal noise for all, and each one's own memory."""

import io
import math
import multiprocessing as mp
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np
import torch

from mnv2_tasks.network.latency import times_as_fast, wait_for_gpu
from mnv2_tasks.network.process_memory import peak_memory

# what most contestants import, once for all; nothing that asks for a GPU, which no fork survives
PRELOADED = ["mnv2_tasks.training.assemble", "torchvision.models"]
LEFT_OUT = "left out: the time was up"

Contestant = Callable[[Iterable[None]], Any]  # prepares itself, then does its work once for each item: that is timed


@dataclass(frozen=True)
class Turns:
    rounds: list[list[float]]  # seconds of each time that the work was done, of each turn
    processor: list[float]  # seconds of all threads, of each turn
    peak_bytes: int | None  # what the process took from its first turn on; on a GPU, of its memory. None on Windows
    answer: Any  # what the contestant returned

    def percentile(self, percent: float) -> float:
        return float(np.percentile(list(chain(*self.rounds)), percent))

    def peak(self, unit: int) -> int | None:
        return None if self.peak_bytes is None else self.peak_bytes // unit

    def times_as_fast_as(self, other: "Turns | str", *, processor: bool = False) -> float | None:
        """By the clock, or in the time of the processor. None if the other failed."""
        if isinstance(other, str):
            return None
        return times_as_fast(*(t.processor if processor else list(map(median, t.rounds)) for t in (self, other)))


def take_turns(
    contestants: Mapping[str, Contestant],
    *,
    rounds: int,
    warmup: int,
    threads: int,
    calls: int = 1,
    seconds: float = 0,
    deadline: float = math.inf,
) -> dict[str, Turns | str]:
    """Time each contestant in every round; or the error of one that failed.

    Args:
        contestants: each can be pickled.
        warmup: rounds before those that count.
        threads: that torch has in each.
        calls, seconds: how often and how long a turn does the work at least. Its first calls find caches full of what
            others left there.
        deadline: by time.monotonic; who has not had all turns by then is left out, and is told so.
    """
    if time.monotonic() >= deadline:
        return dict.fromkeys(contestants, LEFT_OUT)
    # fork: neither CUDA nor OpenMP survives it; spawn is all that Windows has
    context: Any = mp.get_context("forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn")
    context.set_forkserver_preload(PRELOADED)
    pipes, processes = {}, {}
    for name, contestant in contestants.items():
        pipes[name], far_end = context.Pipe()
        turn = _Turn(far_end, calls, seconds)
        processes[name] = context.Process(target=_take_part, args=(contestant, turn, threads), daemon=True)
        processes[name].start()
        far_end.close()
    taken: dict[str, list[tuple[list[float], float]]] = {name: [] for name in contestants}
    found: dict[str, Turns | str] = {}
    for another in [True] * (warmup + rounds) + [False]:
        for name in [name for name in contestants if name not in found]:
            reply = _ask(pipes[name], another, deadline)
            if isinstance(reply, str):
                found[name] = reply
            elif another:
                taken[name].append(reply)
            else:
                times, processor = map(list, zip(*taken[name][warmup:]))
                found[name] = Turns(times, processor, *reply)
    for name, process in processes.items():
        if found[name] == LEFT_OUT:
            process.terminate()
        process.join()
    return {name: found[name] for name in contestants}


def table_rows(found: Mapping[str, Turns | str], cells_of: Callable[[str, Turns], list[Any]]) -> list[list[Any]]:
    """A row for each contestant: its name, and cells of what was found or its error."""
    return [[name, *([turns] if isinstance(turns, str) else cells_of(name, turns))] for name, turns in found.items()]


def repeat(prepare: Callable[[], Callable[[], Any]], turns: Iterable[None]) -> None:
    """A contestant that prepares a call, and then makes it again and again."""
    call: Callable[[], Any] | None = None
    for _ in turns:
        call = call or prepare()  # in the first turn, which warms up, so that no two prepare at once
        with torch.inference_mode():
            call()


def _ask(pipe: Connection, another: bool, deadline: float) -> Any:
    """(seconds of each call, of the processor) of another turn; or at the end (peak_bytes, answer); or an error."""
    with suppress(OSError):  # it failed before its turn, and left word
        pipe.send(another)
    try:
        in_time = deadline == math.inf or pipe.poll(max(0.0, deadline - time.monotonic()))
        return pipe.recv() if in_time else LEFT_OUT
    except (EOFError, OSError):
        return "its process ended, for want of memory perhaps"


@dataclass
class _Turn:
    """An item for each time that the contestant shall do its work, as the other end of the pipe asks for turns."""

    pipe: Connection
    calls: int
    seconds: float
    peak_before: int | None = None

    def __iter__(self) -> Iterator[None]:
        self.peak_before = peak_memory()
        while self.pipe.recv():
            times, processor_began = [], time.process_time()
            while len(times) < self.calls or sum(times) < self.seconds:
                began = time.perf_counter()
                yield
                wait_for_gpu()
                times.append(time.perf_counter() - began)
            self.pipe.send((times, time.process_time() - processor_began))

    def peak_bytes(self) -> int | None:
        peak = peak_memory()
        return None if peak is None or self.peak_before is None else peak - self.peak_before


def _take_part(contestant: Contestant, turn: _Turn, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        with redirect_stdout(io.StringIO()):
            answer = contestant(turn)
        on_gpu = torch.cuda.is_initialized()
        turn.pipe.send((torch.cuda.max_memory_reserved() if on_gpu else turn.peak_bytes(), answer))
    except Exception as error:  # the others go on
        traceback.print_exc()
        turn.pipe.send(f"{type(error).__name__}: {error}".split("\n")[0])
