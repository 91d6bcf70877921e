"""what=infer: from pixels to results, in PyTorch and in every runtime that a network can be exported to."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.contestants import OTHER_NETWORKS, PEERS, SIZES, our_config, our_network, their_prediction
from mnv2_tasks.bench.peaks import device, matmul_peak, openvino_matmul_peak
from mnv2_tasks.bench.turns import Turns, repeat, table_rows, take_turns
from mnv2_tasks.contracts import Frames
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.write import least_metadata, write
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.compiled import CompiledNetwork
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.runtimes.formats import FORMATS
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.wording import nearest

log = logging.getLogger(__name__)

TURN = 0.15  # seconds that a turn lasts at least
TOGETHER = 2**22  # pixels of a batch, up to which all contestants fit into memory at once
CALIBRATION = 8  # images; which ones does not matter for speed
OURS = {  # contestant -> how it runs
    "ours, eager": "eager",
    "ours, eager, freed memory kept": "kept",
    "ours, compile=true": "compiled",
    "ours, compile=true, bf16": "bf16",
}


def measure(config: DictConfig) -> Iterator[Table]:
    if config.batch is not None and config.batch < 1:
        raise ConfigError(f"batch={config.batch}: expected at least 1 image")
    if config.only is not None and config.only not in SIZES:
        raise ConfigError(f"only={config.only}: unknown. {nearest(config.only, list(SIZES))}")
    batches = (1, 32) if config.batch is None else (config.batch,)
    threads = sorted({1, torch.get_num_threads()})
    settings = [(1, 1)] if config.quick else [(batch, number) for batch in batches for number in threads]
    tasks = [config.only] if config.only else list(SIZES)
    for task in tasks[:1] if config.quick else tasks:
        size = 64 if config.quick else SIZES[task]
        with tempfile.TemporaryDirectory() as folder:
            files = export_all(task, size, Path(folder), config.quick)
            for batch, number in settings:
                found = _turns(task, size, batch, number, files, config)
                yield _table(task, size, batch, number, found)


def _turns(
    task: str, size: int, batch: int, threads: int, files: dict[str, Path | str], config: DictConfig
) -> dict[str, Turns | str]:
    pace: dict[str, Any] = {"rounds": config.repeats or 7, "warmup": 1, "seconds": TURN}
    if config.quick:
        pace = {"rounds": 1, "warmup": 1}
    elif batch == 1:
        pace = {"rounds": config.repeats or 15, "warmup": 3, "seconds": TURN, "calls": 5}
    chosen = {name: how for name, how in OURS.items() if not (config.quick and "compile" in name)}
    ours = {name: partial(predicting, task, size, batch, how) for name, how in chosen.items()}
    theirs = {name: partial(their_prediction, task, make, size, batch) for name, make in PEERS[task].items()}
    prepared = {**theirs, **ours} if task == "classification" else {**ours, **theirs}  # times are those of the first
    written = {name: file for name, file in files.items() if isinstance(file, Path)}
    prepared |= {name: partial(exported, file, size, batch, threads) for name, file in written.items()}
    contestants = {name: partial(repeat, prepare) for name, prepare in prepared.items()}
    groups = [contestants]
    if batch * size**2 > TOGETHER:  # one after another: each keeps gigabytes, and all at once fill 24 of them
        groups = [{name: contestant} for name, contestant in contestants.items()]
    found: dict[str, Turns | str] = {}
    for group in groups:
        found |= take_turns(group, threads=threads, **pace)
    return found | {name: reason for name, reason in files.items() if isinstance(reason, str)}


def _table(task: str, size: int, batch: int, threads: int, found: dict[str, Turns | str]) -> Table:
    torch.set_num_threads(threads)
    peaks = {"torch": matmul_peak(), "OpenVINO": openvino_matmul_peak(threads) or 0.0}
    fastest = max(peaks, key=lambda name: peaks[name])
    madds = batch * model_cost(our_network(our_config(task, size)), size).madds
    first = next(iter(found.values()))

    def cells(name: str, turns: Turns) -> list[Any]:
        p50, p95 = (turns.percentile(percent) for percent in (50, 95))
        times = turns.times_as_fast_as(first)
        share = None if name in OTHER_NETWORKS else f"{madds / p50 / peaks[fastest]:.0%}"
        return [1e3 * p50, 1e3 * p95, times and 1 / times, turns.peak(10**6), share]

    return Table(
        f"{task} at {size} px, batch {batch}, {threads} thread{'s' if threads > 1 else ''}",
        ["contestant", "p50, ms", "p95, ms", "of the first's time", "memory, MB", "of matmul peak"],
        table_rows(found, cells),
        [
            f"{madds / 1e9:.3f} G multiply-adds; the peak is {fastest}'s float32: {peaks[fastest] / 1e9:.0f} G a "
            "second. Boxes are chosen and class maps enlarged within the time; the weights are random."
        ],
    )


def predicting(task: str, size: int, batch: int, how: str) -> Callable[[], Any]:
    if how != "eager":  # the mark for the others: a network as PyTorch runs it
        keep_freed_memory()  # as tools/predict.py and tools/eval.py do
    network = our_network(our_config(task, size)).eval().to(device()).to(memory_format=torch.channels_last)
    if how in ("compiled", "bf16"):
        network = CompiledNetwork(network)
    images, sizes = pixels(size, batch), torch.full((batch, 2), size)
    frames = Frames((size, size), sizes, sizes)

    def call() -> Any:
        with torch.autocast(device().type, torch.bfloat16, enabled=how == "bf16"):
            return network.predict(torch.from_numpy(images).permute(0, 3, 1, 2).to(device()), frames)

    return call


def exported(path: Path, size: int, batch: int, threads: int) -> Callable[[], Any]:
    session, images = Exported(path, threads, trust=True), pixels(size, batch)
    return lambda: session.run(images)


def pixels(size: int, batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def export_all(task: str, size: int, folder: Path, quick: bool) -> dict[str, Path | str]:
    """{format and precision: file, or why there is none}."""
    files: dict[str, Path | str] = {}
    for name, about in list(FORMATS.items())[: 1 if quick else None]:
        for precision in about.precisions[: 1 if quick else None]:
            try:
                files[f"{name} {precision}"] = export_one(task, size, folder, name, precision)
            except Exception as error:  # a library's own; the others go on
                files[f"{name} {precision}"] = str(error).split("\n")[0]
            log.info("exported %s as %s %s", task, name, precision)
    return files


def export_one(task: str, size: int, folder: Path, format: str, precision: str) -> Path:
    config = our_config(task, size)
    network = our_network(config).eval()
    passport = make_passport(config, {name: task.class_names for name, task in network.tasks.items()}, "bench")
    path = folder / f"{format}-{precision}{FORMATS[format].suffix}"
    example = torch.from_numpy(pixels(size, CALIBRATION if precision == "int8" else 2))
    write(network, format, example, least_metadata(network, passport, precision), path, precision)
    return path
