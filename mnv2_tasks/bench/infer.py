"""what=infer: from pixels to results, in PyTorch and in every runtime that a network can be exported to."""

import json
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.infer_reference import OTHER_NETWORKS, PEERS
from mnv2_tasks.bench.peaks import device, matmul_peak, openvino_matmul_peak
from mnv2_tasks.bench.turns import Turns, repeat, take_turns
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Frames
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.write import write
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.compiled import CompiledNetwork
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.network import Network
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.runtimes.formats import FORMATS
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.wording import nearest

log = logging.getLogger(__name__)

CLASSES = {"classification": 1000, "ssdlite": 80, "mobile_deeplabv3": 21}
SIZES = {"classification": 224, "ssdlite": 320, "mobile_deeplabv3": 513, "multitask": 513}  # pixels
TURN = 0.15  # seconds that a turn lasts at least
TOGETHER = 2**22  # pixels of a batch, up to which all contestants fit into memory at once
CALIBRATION = 8  # images; which ones does not matter for speed


def measure(config: DictConfig, out: Path) -> list[Table]:
    cores = torch.get_num_threads()
    batches = (1, 32) if config.batch is None else (config.batch,)
    settings = [(1, 1)] if config.quick else [(batch, threads) for batch in batches for threads in sorted({1, cores})]
    tables = []
    if config.batch is not None and config.batch < 1:
        raise ConfigError(f"batch={config.batch}: expected at least 1 image")
    if config.only is not None and config.only not in SIZES:
        raise ConfigError(f"only={config.only}: unknown. {nearest(config.only, list(SIZES))}")
    for task, size in SIZES.items():
        if config.only not in (None, task):
            continue
        with tempfile.TemporaryDirectory() as folder:
            files = export_all(task, 64 if config.quick else size, Path(folder), config.quick)
            for batch, threads in settings:
                tables.append(_measure(task, 64 if config.quick else size, batch, threads, files, config))
        if config.quick:
            break
    return tables


def _measure(task: str, size: int, batch: int, threads: int, files: dict[str, Path | str], config: DictConfig) -> Table:
    rounds, warmup, calls = (15, 3, 5) if batch == 1 else (7, 1, 1)
    rounds, seconds = config.repeats or rounds, TURN
    if config.quick:
        rounds, warmup, calls, seconds = 1, 1, 1, 0.0
    said = {name: file for name, file in files.items() if isinstance(file, str)}
    prepared = _torch(task, size, batch, config.quick)
    contestants = {name: repeat(prepare, calls, seconds) for name, prepare in prepared.items()}
    contestants |= {
        name: repeat(partial(exported, file, size, batch, threads), calls, seconds)
        for name, file in files.items()
        if isinstance(file, Path)
    }
    together = [contestants]
    if batch * size**2 > TOGETHER:  # one after another: each keeps gigabytes, and all at once fill 24 of them
        together = [{name: contestant} for name, contestant in contestants.items()]
    found: dict[str, Turns | str] = {}
    for some in together:
        found |= take_turns(some, rounds=rounds, warmup=warmup, threads=threads)
    found |= said
    torch.set_num_threads(threads)
    peaks = {"torch": matmul_peak(), "OpenVINO": openvino_matmul_peak(threads)}
    name, peak = max(((name, peak) for name, peak in peaks.items() if peak), key=lambda pair: pair[1])
    madds = batch * model_cost(our_network(task, size), size).madds
    table = Table(
        f"{task} at {size} px, batch {batch}, {threads} thread{'s' if threads > 1 else ''}",
        ["contestant", "p50, ms", "p95, ms", "of the first's time", "memory, MB", "of matmul peak"],
        notes=[
            f"{madds / 1e9:.3f} G multiply-adds; the peak is {name}'s float32: {peak / 1e9:.0f} G a second. "
            "Boxes are chosen and class maps enlarged within the time; the weights are random."
        ],
    )
    log.info("measured %s", table.title)
    first = next(iter(found.values()))
    for name, turns in found.items():
        if isinstance(turns, str):
            table.rows.append([name, turns, *[None] * 4])
            continue
        ratio = 1 / turns.times_faster_than(first) if isinstance(first, Turns) else None
        share = f"{madds / turns.percentile(50) / peak:.0%}" if name not in OTHER_NETWORKS else None
        p50, p95 = (1e3 * turns.percentile(percent) for percent in (50, 95))
        table.rows.append([name, p50, p95, ratio, turns.peak_bytes // 10**6, share])
    return table


def _torch(task: str, size: int, batch: int, quick: bool) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Contestants in PyTorch; times are relative to the first."""
    ours = {
        "ours, eager": partial(predicting, task, size, batch, "eager"),
        "ours, eager, freed memory kept": partial(predicting, task, size, batch, "kept"),
        "ours, folded": partial(predicting, task, size, batch, "folded"),
    }
    if not quick:
        ours["ours, compile=true"] = partial(predicting, task, size, batch, "compiled")
        ours["ours, compile=true, bf16"] = partial(predicting, task, size, batch, "bf16")
    peers = {name: partial(make, size, batch) for name, make in PEERS.get(task, {}).items()}
    return {**peers, **ours} if task == "classification" else {**ours, **peers}


def our_config(task: str, size: int) -> DictConfig:
    return compose("train", [f"task={task}", "width=1.0", f"imgsz={size}", "weights=none"])


def our_network(task: str, size: int) -> Network:
    torch.manual_seed(0)
    config = our_config(task, size)
    return build_network(config, {name: [str(i) for i in range(CLASSES[name])] for name in config.tasks}).eval()


def predicting(task: str, size: int, batch: int, how: str) -> Callable[[], Any]:
    if how != "eager":  # the mark for the others: a network as PyTorch runs it
        keep_freed_memory()  # as tools/predict.py and tools/eval.py do
    network = our_network(task, size).to(device(), memory_format=torch.channels_last)
    if how == "folded":
        network = fold_batch_norms(network)
    elif how in ("compiled", "bf16"):
        network = CompiledNetwork(network)
    frames = Frames((size, size), *(torch.full((batch, 2), size) for _ in range(2)))
    images = pixels(size, batch)

    def call() -> Any:
        with torch.autocast(device().type, torch.bfloat16, enabled=how == "bf16"):
            return network.predict(torch.from_numpy(images).permute(0, 3, 1, 2).to(device()), frames)

    return call


def exported(path: Path, size: int, batch: int, threads: int) -> Callable[[], Any]:
    session, images = Exported(path, threads), pixels(size, batch)
    return lambda: session.run(images)


def pixels(size: int, batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def export_all(task: str, size: int, folder: Path, quick: bool) -> dict[str, Path | str]:
    """{format and precision: file, or why there is none}."""
    network, config = our_network(task, size), our_config(task, size)
    names = {name: part.class_names for name, part in network.tasks.items()}
    metadata = {"passport": json.dumps(make_passport(config, names, "bench")), "tasks": _kinds(network)}
    files: dict[str, Path | str] = {}
    for name, about in list(FORMATS.items())[: 1 if quick else None]:
        for precision in about.precisions[: 1 if quick else None]:
            path = folder / f"{name}-{precision}{about.suffix}"
            example = torch.from_numpy(pixels(size, CALIBRATION if precision == "int8" else 2))
            try:
                write(network, name, example, metadata | {"precision": precision}, path, precision)
                files[f"{name} {precision}"] = path
            except Exception as error:  # a library's own; the others go on
                files[f"{name} {precision}"] = str(error).split("\n")[0]
            log.info("exported %s as %s %s", task, name, precision)
    return files


def _kinds(network: Network) -> str:
    tasks: dict[str, Any] = dict(network.tasks.items())
    return json.dumps({name: task.kind for name, task in tasks.items()})
