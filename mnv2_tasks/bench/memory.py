"""what=memory: activations with bottlenecks in shares (paper, section 5.1), counted, and measured in two runtimes."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.contestants import SIZES, optional, our_config, our_network
from mnv2_tasks.bench.turns import Turns, repeat, table_rows, take_turns
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.network.activation_memory import Operation, held, operations_of, peak
from mnv2_tasks.network.allocator import give_back_memory
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.process_memory import measured_peak, start_measuring
from mnv2_tasks.network.split import split_bottlenecks
from mnv2_tasks.network.split_plan import FLOAT_BYTES, split_plan
from mnv2_tasks.prediction.predictor import for_prediction
from mnv2_tasks.runtimes import onnx

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.4)
CLASSIFIED = (96, 128, 160, 192, 224)  # pixels of a side
OTHERS = {"ssdlite": (192, 320), "mobile_deeplabv3": (257, 513)}
AS_PUBLISHED = {"mobile_deeplabv3": ["output_stride=16"]}  # of the paper, table 7
SHARES = (1, 2, 3, 5)
DEVICES = (1, 2, 4)  # MB
TYPES = {"int8": 1, "fp16": 2}  # bytes of a value
# glibc's malloc: blocks of 16 KiB and more go back to the system as they are freed
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "16384"}
MOST = 10**6  # shares: of every channel its own


def measure(config: DictConfig) -> Iterator[Table]:
    networks = {(task, width): sizes for task, width, sizes in _counted(config.quick)}
    rows = {key: _rows(*key, sizes) for key, sizes in networks.items()}
    for name, value_bytes in TYPES.items():
        yield _counts(name, value_bytes, [row for of_network in rows.values() for row in of_network])
    yield _measured(64 if config.quick else SIZES["classification"], config)


def _counted(quick: bool) -> Iterator[tuple[str, float, tuple[int, ...]]]:
    if quick:
        yield "classification", WIDTHS[0], CLASSIFIED[:1]
        return
    yield from (("classification", width, CLASSIFIED) for width in WIDTHS)
    yield from ((task, width, sizes) for task, sizes in OTHERS.items() for width in (0.35, 1.0))


def _rows(task: str, width: float, sizes: Iterable[int]) -> list[tuple[str, int, list[Operation]]]:
    """(name, parameters, operations) at each size."""
    network = our_network(our_config(task, next(iter(sizes)), *AS_PUBLISHED.get(task, ()), width=width))
    params = sum(parameter.numel() for parameter in network.parameters())
    return [(f"{task} {width}, {size}", params, operations_of(network, size)) for size in sizes]


def _counts(name: str, value_bytes: int, rows: list[tuple[str, int, list[Operation]]]) -> Table:
    columns = ["network", "weights, kB", "whole, kB", *(f"in {n}" for n in SHARES[1:]), "at least"]
    table = Table(f"Activations in {name}, by equation 2", [*columns, *(f"{size} MB" for size in DEVICES)])
    for title, params, operations in rows:
        least, *sizes = (value_bytes * held(peak(operations, n), n) for n in (MOST, *SHARES))
        fits = [_fewest(operations, device * 10**6 // value_bytes) for device in DEVICES]
        table.rows.append([title, *(_thousands(size) for size in (value_bytes * params, *sizes, least)), *fits])
    table.notes = [
        "The last columns: in how many shares the activations of one image fit into so much RAM; the weights lie in "
        "flash. A MB is 10^6 bytes. What enlarges class maps and chooses boxes comes after what is counted."
    ]
    return table


def _fewest(operations: list[Operation], values: int) -> str:
    """Shares, the same of all bottlenecks, with which no operation holds more."""
    most = max(operation.channels for operation in operations)
    number = next((n for n in range(1, most + 1) if held(peak(operations, n), n) <= values), None)
    return "-" if number is None else "whole" if number == 1 else str(number)


def _thousands(size: int) -> str:
    return f"{size / 1000:,.0f}"


def _measured(size: int, config: DictConfig) -> Table:
    pace: dict[str, Any] = {"rounds": config.repeats or 5, "warmup": 1, "calls": 3}
    if config.quick:
        pace = {"rounds": 1, "warmup": 1}
    network = _network(size)
    operations = operations_of(network, size)
    variants = _variants(network, operations, size, config.quick)
    with tempfile.TemporaryDirectory() as folder:
        prepared: dict[str, Any] = {
            f"PyTorch, {name}": partial(_in_pytorch, size, shares) for name, shares in variants.items()
        }
        for name, shares in variants.items():
            file = Path(folder) / f"{name}.onnx"
            graph = Graph(split_bottlenecks(network, shares))
            file.write_bytes(onnx.to_onnx(graph, torch.from_numpy(_pixels(size, 2))).SerializeToString())
            prepared[f"ONNX Runtime, {name}"] = partial(_in_onnxruntime, size, file)
        found = take_turns({title: partial(repeat, make) for title, make in prepared.items()}, threads=1, **pace)
        lean = {title: partial(make, arena=False) if "ONNX" in title else make for title, make in prepared.items()}
        rises = {title: _rise_in_own_process(make) for title, make in lean.items()}

    def cells(title: str, turns: Turns) -> list[Any]:
        runtime, name = title.split(", ")
        counted = FLOAT_BYTES * held(peak(operations, variants[name]), variants[name])
        times = turns.times_as_fast_as(found[f"{runtime}, whole"])
        return [_thousands(counted), rises[title] and _thousands(rises[title] or 0), times and 1 / times]

    return Table(
        f"Classification at {size} px in float32, batch 1, one thread",
        ["runtime, shares", "counted, kB", "measured, kB", "of the whole's time"],
        table_rows(found, cells),
        [
            "Measured: how far resident memory rises in a pass, in a process of its own whose memory goes back to the "
            "system as soon as it is freed; ONNX Runtime without its arena. The picture itself is not in it. Auto: the "
            "fewest shares of each bottleneck that suffice for what is counted with that many of all."
        ],
    )


def _variants(network: Network, operations: list[Operation], size: int, quick: bool) -> dict[str, dict[str, int]]:
    """{name: shares of each bottleneck}."""
    variants: dict[str, dict[str, int]] = {"whole": {}}
    for number in (2,) if quick else (2, 3, 4, 5):
        plan = partial(split_plan, network, size=size, value_bytes=FLOAT_BYTES)
        variants[f"{number}"] = plan(number, None).shares
        if number in (2, 4):
            variants[f"auto as {number}"] = plan("auto", FLOAT_BYTES * held(peak(operations, number), number)).shares
    return variants


def _network(size: int) -> Network:
    return our_network(our_config("classification", size)).eval()


def _pixels(size: int, batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def _in_pytorch(size: int, shares: dict[str, int]) -> Callable[[], Any]:
    network = for_prediction(split_bottlenecks(_network(size), shares))
    images = torch.from_numpy(_pixels(size, 1)).permute(0, 3, 1, 2)

    def call() -> Any:
        with torch.inference_mode():
            return network(images)

    return call


def _in_onnxruntime(size: int, file: Path, *, arena: bool = True) -> Callable[[], Any]:
    session, images = _session(file, arena=arena), _pixels(size, 1)
    return lambda: session.run(None, {"images": images})


def _session(file: Path, *, arena: bool) -> Any:
    library = optional("onnxruntime", extra="onnx")
    options = library.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    return library.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _rise_in_own_process(prepare: Callable[[], Callable[[], Any]]) -> int | None:
    """Bytes by which resident memory rises in a call; None where the system does not tell, as Linux does."""
    os.environ.update(AT_ONCE)  # read as a process starts
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(_rise, prepare).result()
    finally:
        for name in AT_ONCE:
            del os.environ[name]


def _rise(prepare: Callable[[], Callable[[], Any]]) -> int | None:
    torch.set_num_threads(1)
    call = prepare()
    call()  # what stays for later calls
    give_back_memory()
    before = start_measuring()
    call()
    return None if before is None else measured_peak() - before
