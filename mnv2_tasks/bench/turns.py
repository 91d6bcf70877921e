"""Contestants in processes of their own that take turns: equal noise for all, and each one's own memory."""

import io
import multiprocessing as mp
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

Lap = Callable[[], None]  # says that a part of a turn is done
Contestant = Callable[[Iterator[Lap]], Any]  # prepares itself, then computes once or more in each turn


@dataclass(frozen=True)
class Turns:
    rounds: list[list[float]]  # seconds of each lap, of each turn
    peak_bytes: int  # what the process took beyond its libraries; on a GPU, of its memory

    def percentile(self, percent: float) -> float:
        return float(np.percentile([seconds for laps in self.rounds for seconds in laps], percent))

    def times_faster_than(self, other: "Turns") -> float:
        """The median over the rounds of the ratio within each."""
        return statistics.median(
            statistics.median(theirs) / statistics.median(own) for own, theirs in zip(self.rounds, other.rounds)
        )


def take_turns(
    contestants: Mapping[str, Contestant], *, rounds: int, warmup: int, threads: int
) -> dict[str, Turns | str]:
    """Time each contestant once in every round; or the error of one that failed.

    Args:
        contestants: each can be pickled.
        warmup: rounds before those that count.
        threads: that torch has in each.
    """
    context = mp.get_context("forkserver")  # fork: neither CUDA nor OpenMP survives it
    context.set_forkserver_preload(["mnv2_tasks.bench.train", "mnv2_tasks.bench.infer"])
    pipes, processes = {}, []
    for name, contestant in contestants.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_take_part, args=(contestant, theirs, threads), daemon=True))
        processes[-1].start()
        theirs.close()
    found: dict[str, Any] = {name: [] for name in contestants}
    for _ in range(warmup + rounds):
        for name, pipe in pipes.items():
            if isinstance(found[name], list):
                answer = _ask(pipe, True)
                found[name] = [*found[name], answer] if isinstance(answer, list) else answer
    for name, pipe in pipes.items():
        if isinstance(found[name], list):
            answer = _ask(pipe, False)
            found[name] = Turns(found[name][warmup:], answer) if isinstance(answer, int) else answer
    for process in processes:
        process.join()
    return found


def _ask(pipe: Connection, another: bool) -> Any:
    with suppress(OSError):  # it failed before its turn, and left word
        pipe.send(another)
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return "its process ended, for want of memory perhaps"


def _take_part(contestant: Contestant, pipe: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        with redirect_stdout(io.StringIO()):
            contestant(_turns(pipe))
    except Exception as error:  # the others go on
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {error}".split("\n")[0])


def _turns(pipe: Connection) -> Iterator[Lap]:
    before = _resident()
    while pipe.recv():
        times = [time.perf_counter()]

        def lap(times: list[float] = times) -> None:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            times.append(time.perf_counter())

        yield lap
        if len(times) == 1:
            lap()
        pipe.send([end - begin for begin, end in pairwise(times)])
    pipe.send(torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else _resident() - before)


def _resident() -> int:
    """Most bytes of memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def repeat(prepare: Callable[[], Callable[[], Any]], calls: int, seconds: float = 0.0) -> Contestant:
    """A contestant that prepares a call, and makes it at least so often and for so long in each turn.

    A turn's first calls find caches full of what others left there.
    """
    return partial(_repeat, prepare, calls, seconds)


def _repeat(prepare: Callable[[], Callable[[], Any]], calls: int, seconds: float, turns: Iterator[Lap]) -> None:
    call: Callable[[], Any] | None = None
    for lap in turns:
        call = call or prepare()  # in the first turn, so that no two prepare at once
        with torch.inference_mode():
            done, began = 0, time.perf_counter()
            while done < calls or time.perf_counter() - began < seconds:
                call()
                lap()
                done += 1
