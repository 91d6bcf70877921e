"""what=gpu: one GPU in nine minutes: whether any step waits for the host, and images per second beside torchvision's.

Batches are drawn here and lie on the GPU before anything is timed: what is measured is the step. Without a GPU tiny
pictures go through the same code on the CPU, which shows that it runs.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.contestants import SIZES, their_prediction
from mnv2_tasks.bench.gpu_steps import (
    SETTLING,
    THEIR_NETWORKS,
    bytes_of_an_image,
    contest_config,
    train_ours,
    train_theirs,
)
from mnv2_tasks.bench.infer import predicting
from mnv2_tasks.bench.peaks import COPIED, device, memory_bandwidth
from mnv2_tasks.bench.train import Contest
from mnv2_tasks.bench.turns import Contestant, Turns, repeat, table_rows, take_turns
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.devices import choose_precision

log = logging.getLogger(__name__)

WATCHED = 20  # steps of each task in which nothing may wait
THEIRS, OURS_EAGER = "torchvision, --amp", "ours, eager"
COMPILED = {"ours, compiled": "default", "ours, compiled, CUDA graphs": "reduce-overhead"}  # their modes
CONTESTS = (
    Contest("classification", "imagenet", SIZES["classification"], 256),
    Contest("ssdlite", "coco", SIZES["ssdlite"], 128),
    Contest("mobile_deeplabv3", "voc", SIZES["mobile_deeplabv3"], 16),
    Contest("multitask", "voc", SIZES["multitask"], 16),
)
YOLOV2 = Contest("yolov2", "voc", 416, 32)  # watched alone
Found = dict[tuple[str, str], Turns | str]  # (task, contestant) -> what was measured


class Pace(NamedTuple):
    """How much is measured, and until when."""

    tiny: bool
    rounds: int
    warmup: int
    steps: int  # that are timed as one, for the host runs ahead of the GPU within them
    deadline: float  # by time.monotonic

    def race(self, contestants: dict[str, Contestant], **other: int) -> dict[str, Turns | str]:
        pace = {"rounds": self.rounds, "warmup": self.warmup} | other
        return take_turns(contestants, threads=torch.get_num_threads(), deadline=self.deadline, **pace)

    def number(self, compute: Callable[[], float]) -> float:
        """In a process of its own, which may fail without the rest; NaN then."""
        (found,) = self.race({"": partial(_answer, compute)}, rounds=1, warmup=0).values()
        return math.nan if isinstance(found, str) else found.answer


def _answer(compute: Callable[[], float], turns: Iterable[None]) -> float:
    (answer,) = (compute() for _ in turns)
    return answer


def measure(config: DictConfig) -> list[Table]:
    if not config.minutes > 0:
        raise ConfigError(f"minutes={config.minutes}: expected more than 0")
    deadline, on_gpu = time.monotonic() + 60 * config.minutes, device().type == "cuda"
    if not on_gpu:
        log.warning("no GPU here: tiny pictures on the CPU show that this runs, not what waits and not how fast")
    if config.quick or not on_gpu:
        pace, watched_steps = Pace(True, 1, 0, 1, deadline), 2
        contests, yolov2 = ([c._replace(size=64, batch=2) for c in some] for some in (CONTESTS, [YOLOV2]))
    else:
        pace, watched_steps = Pace(False, config.repeats or 5, 2, 10, deadline), WATCHED
        contests, yolov2 = list(CONTESTS), [YOLOV2]
    watched: dict[str, Turns | str] = {}
    for contest in [*contests, *yolov2]:
        contestant = partial(train_ours, contest, mode=None, steps=1, watched=on_gpu)
        watched |= pace.race({contest.task: contestant}, rounds=watched_steps, warmup=SETTLING)
        log.info("watched %s", contest.task)
    training, inference = _race(contests, pace)
    moved = {contest.task: pace.number(partial(bytes_of_an_image, contest)) for contest in contests}
    bandwidth = pace.number(memory_bandwidth)
    return [
        _waits_table(watched, watched_steps, on_gpu),
        *(_training_table(contest, training, pace.steps, moved[contest.task], bandwidth) for contest in contests),
        *(_inference_table(contest, inference) for contest in contests),
    ]


def _race(contests: list[Contest], pace: Pace) -> tuple[Found, Found]:
    """Training and inference: all tasks in one way before any in the next, in case that the time is up."""
    training: Found = {}
    for contest in contests:
        contestants = {OURS_EAGER: partial(train_ours, contest, mode=None, steps=pace.steps)}
        if contest.task in THEIR_NETWORKS:
            contestants = {THEIRS: partial(train_theirs, contest, steps=pace.steps), **contestants}
        training |= _of_task(contest, pace.race(contestants))
    inference = _inference(contests, pace, compiled=False)
    for name, mode in ({} if pace.tiny else COMPILED).items():
        for contest in contests:
            training |= _of_task(contest, pace.race({name: partial(train_ours, contest, mode=mode, steps=pace.steps)}))
    return training, inference if pace.tiny else inference | _inference(contests, pace, compiled=True)


def _inference(contests: list[Contest], pace: Pace, *, compiled: bool) -> Found:
    found: Found = {}
    for contest in contests:
        task, size = contest.task, contest.size
        for batch in [1] if pace.tiny else [1, contest.batch]:
            if compiled:
                prepared = {f"ours, compiled, bf16, batch {batch}": partial(predicting, task, size, batch, "bf16")}
            else:
                prepared = {f"ours, eager, batch {batch}": partial(predicting, task, size, batch, "eager")}
            if not compiled and task in THEIR_NETWORKS:
                theirs = partial(their_prediction, task, THEIR_NETWORKS[task], size, batch)
                prepared = {f"torchvision, eager, batch {batch}": theirs, **prepared}
            contestants = {name: partial(repeat, call) for name, call in prepared.items()}
            found |= _of_task(contest, pace.race(contestants, calls=1 if pace.tiny else 10))
    return found


def _of_task(contest: Contest, found: dict[str, Turns | str]) -> Found:
    log.info("measured %s: %s", contest.task, "; ".join(found))
    return {(contest.task, name): turns for name, turns in found.items()}


def _waits_table(watched: dict[str, Turns | str], steps: int, on_gpu: bool) -> Table:
    nothing = f"nothing in {steps} steps" if on_gpu else "not looked at, for want of a GPU"
    rows = [[task, turns if isinstance(turns, str) else nothing] for task, turns in watched.items()]
    note = "As torch.cuda.set_sync_debug_mode('error') finds it, in the loop of tools/train.py."
    return Table("What waits for the GPU in a training step", ["task", "waits"], rows, [note], text_columns=2)


def _training_table(contest: Contest, found: Found, steps: int, moved: float, bandwidth: float) -> Table:
    images = contest.batch * len(contest_config(contest).tasks)
    own = {name: turns for (task, name), turns in found.items() if task == contest.task}

    def cells(name: str, turns: Turns) -> list[Any]:
        step = turns.percentile(50) / steps
        share = None if name == THEIRS else f"{contest.batch * moved / step / bandwidth:.0%}"
        return [images / step, 1e3 * step, turns.times_as_fast_as(own.get(THEIRS, "")), turns.peak(10**6), share]

    return Table(
        f"Training {contest.task} at {contest.size} px, batch {contest.batch} of each task",
        ["contestant", "images/s", "step, ms", "times torchvision's", "memory, MB", "of bandwidth"],
        table_rows(own, cells),
        [
            f"A copy of {COPIED / 1e6:.0f} MB reads and writes {bandwidth / 1e9:.0f} GB/s. The operators of our eager "
            f"step read and write {moved / 1e6:.1f} MB an image; the share is of these; compiled it has fewer.",
            "Theirs: a step of torchvision's references with --amp, on MobileNetV2 and torchvision's parts. Ours: "
            f"tools/train.py's loop in {choose_precision('auto')}, with averaged weights, clipping and logging. "
            "Batches lie on the GPU; eager ones took turns, the compiled ones came after.",
        ],
    )


def _inference_table(contest: Contest, found: Found) -> Table:
    own = {name: turns for (task, name), turns in found.items() if task == contest.task}

    def cells(name: str, turns: Turns) -> list[Any]:
        batch = int(name.rpartition(" ")[2])
        p50, p95 = (turns.percentile(percent) for percent in (50, 95))
        return [1e3 * p50, 1e3 * p95, batch / p50, turns.peak(10**6)]

    return Table(
        f"Inference of {contest.task} at {contest.size} px",
        ["contestant", "p50, ms", "p95, ms", "images/s", "memory, MB"],
        table_rows(own, cells),
        ["Ours from uint8 pixels in the host's memory to results there; theirs from normalised ones on the GPU."],
    )
