"""what=train: images per second of training, ours as tools/train.py runs it, beside the references' loops."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from mnv2_tasks.bench import train_reference as reference
from mnv2_tasks.bench.peaks import bandwidth, device, matmul_peak
from mnv2_tasks.bench.turns import Contestant, Lap, Turns, take_turns
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import (
    Batch,
    ClassificationBatch,
    DetectionBatch,
    Frames,
    SegmentationBatch,
)
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.kinds.detection import padded_targets
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.devices import choose_precision
from mnv2_tasks.network.network import Network
from mnv2_tasks.training.assemble import build_module, build_trainer
from mnv2_tasks.training.callbacks import CompiledTraining, EpochLog
from mnv2_tasks.training.checkpoints import Checkpoints, StepRandomness

log = logging.getLogger(__name__)

OURS = "mnv2_tasks"
FLOAT32 = "32-true"
STEPS = 1000  # that an epoch claims to have; the turns end sooner


class Contest(NamedTuple):
    task: str
    data: str  # whose recipe is trained with
    classes: int
    size: int  # of the square input, in pixels
    batch: int  # images of a step
    peers: dict[str, Callable[[Any], reference.Step]]
    same_network: bool  # whether theirs is MobileNetV2 too


CONTESTS = (
    Contest(
        "classification", "imagenet", 1000, 224, 32,
        {
            "torchvision mobilenet_v2": reference.torchvision_classifier,
            "timm mobilenetv2_100": reference.timm_classifier,
        },
        True,
    ),
    Contest(
        "ssdlite", "coco", 80, 320, 8,
        {"torchvision ssdlite320_mobilenet_v3_large": reference.torchvision_detector}, False,
    ),
    Contest(
        "mobile_deeplabv3", "voc", 21, 513, 4,
        {"torchvision deeplabv3_mobilenet_v3_large": reference.torchvision_segmenter}, False,
    ),
)  # fmt: skip


def measure(config: DictConfig, out: Path) -> list[Table]:
    rounds, warmup = (1, 1) if config.quick else (config.repeats or 7, 3)
    threads = torch.get_num_threads()
    precision = torch.bfloat16 if choose_precision("auto") == "bf16-mixed" else torch.float32
    limits = matmul_peak(precision), bandwidth()
    tables = []
    for contest in CONTESTS:
        contest = contest._replace(size=64, batch=2) if config.quick else contest
        found = take_turns(_contestants(contest, config.quick), rounds=rounds, warmup=warmup, threads=threads)
        tables.append(_table(contest, found, precision, limits))
        log.info("measured %s", contest.task)
    return tables


def _contestants(contest: Contest, quick: bool) -> dict[str, Contestant]:
    peers = {name: partial(reference.loop, make, contest) for name, make in contest.peers.items()}
    ours: dict[str, Contestant] = {OURS: partial(train_ours, contest, compiled=False)}
    if not quick:
        ours |= {
            f"{OURS}, the step without Lightning": partial(step_ours, contest),
            f"{OURS}, compile=true": partial(train_ours, contest, compiled=True),
        }
        if choose_precision("auto") != FLOAT32:
            ours[f"{OURS}, precision={FLOAT32}"] = partial(train_ours, contest, compiled=False, precision=FLOAT32)
    return {**peers, **ours}


def _table(
    contest: Contest, found: dict[str, Turns | str], precision: torch.dtype, limits: tuple[float, float]
) -> Table:
    network = our_network(_config(contest, compiled=False), contest)
    madds, moved = model_cost(network, contest.size).madds, least_bytes(network, contest.size, precision.itemsize)
    columns = ["contestant", "images/s", "step, ms", "times the first", "memory, MB", "of matmul peak", "of bandwidth"]
    table = Table(f"Training {contest.task} at {contest.size} px, batch {contest.batch}", columns)
    first = next(iter(found.values()))
    for name, turns in found.items():
        if isinstance(turns, str):
            table.rows.append([name, turns, *[None] * 5])
            continue
        speed = contest.batch / turns.percentile(50)
        shares = [f"{3 * madds * speed / limits[0]:.1%}", f"{moved * speed / limits[1]:.1%}"]
        known = contest.same_network or name.startswith(OURS)
        ratio = turns.times_faster_than(first) if isinstance(first, Turns) else None
        table.rows.append(
            [
                name,
                speed,
                1e3 * turns.percentile(50),
                ratio,
                turns.peak_bytes // 10**6,
                *(shares if known else [None, None]),
            ]
        )
    table.notes = [
        f"Limits measured: {limits[0] / 1e9:.0f} G multiply-adds/s in {precision}, {limits[1] / 1e9:.1f} GB/s. "
        f"A step is {3 * madds / 1e9:.2f} G multiply-adds and at least {moved / 1e6:.0f} MB an image: every "
        "convolution's input and output, once forward and twice backward.",
        "Theirs: the references' loop (channels first, eager, on a GPU bf16 autocast), on images normalised beforehand."
        " Ours: tools/train.py's loop with its averaged weights, clipping and logging, from uint8 images.",
        *(["No GPU was there."] if device().type == "cpu" else []),
    ]
    return table


def least_bytes(network: Network, size: int, itemsize: int) -> int:
    """What kernels that fuse all else into the convolutions would still move in a step, for each image."""
    moved = 0

    def count(conv: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal moved
        moved += 3 * itemsize * (inputs[0].numel() + output.numel())

    network = network.to("meta").eval()
    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(torch.empty(1, 3, size, size, device="meta"))
    for handle in handles:
        handle.remove()
    return moved


def _config(contest: Contest, *, compiled: bool) -> DictConfig:
    return compose(
        "train",
        [
            f"task={contest.task}", f"data={contest.data}", "width=1.0", f"imgsz={contest.size}", "train_imgsz=null",
            f"batch={contest.batch}", "epochs=1", "weights=none", f"trainer.compile={compiled}",
        ],
    )  # fmt: skip


def our_network(config: DictConfig, contest: Contest) -> Network:
    torch.manual_seed(0)
    return build_network(config, {contest.task: [str(i) for i in range(contest.classes)]})


def our_batch(contest: Contest) -> Batch:
    """Noise, with five boxes an image, or ten stripes of classes."""
    count, size = contest.batch, contest.size
    frames = Frames((size, size), *(torch.full((count, 2), size) for _ in range(2)))
    images, ids = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8), torch.arange(count)
    images = images.contiguous(memory_format=torch.channels_last)  # as they are collated
    if contest.task == "classification":
        return ClassificationBatch(images, torch.randint(0, contest.classes, (count,)), ids, frames)
    if contest.task == "ssdlite":
        targets = padded_targets(*reference.five_boxes(count, contest.classes))
        return DetectionBatch(images, targets, ids, frames)
    return SegmentationBatch(images, reference.stripes(count, size), ids, frames)


class _Batches:
    """The same batch in each turn."""

    def __init__(self, batch: Batch, turns: Iterator[Lap]):
        self.batch, self.turns = batch, turns
        self.batch_size, self.num_workers = len(batch.images), 0

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        for _ in self.turns:
            yield self.batch


def train_ours(contest: Contest, turns: Iterator[Lap], *, compiled: bool, precision: str = "auto") -> None:
    warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")
    keep_freed_memory()
    config = _config(contest, compiled=compiled)
    module = build_module(config, our_network(config, contest), passport={})
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [
            StepRandomness(0),
            EpochLog(Path(folder) / "metrics.csv"),
            Checkpoints(Path(folder), minutes=0, steps=None),
            *([CompiledTraining()] if compiled else []),
        ]
        trainer = build_trainer(config, choose_precision(precision), Path(folder), callbacks=callbacks, logger=False)
        trainer.fit(module, {contest.task: _Batches(our_batch(contest), turns)})


def step_ours(contest: Contest, turns: Iterator[Lap]) -> None:
    """Forward, backward and the optimizer of the recipe, and no more."""
    keep_freed_memory()
    config = _config(contest, compiled=False)
    module = build_module(config, our_network(config, contest), passport={}).to(device())
    network, batch = module.network.train(), our_batch(contest)
    optimizer = module.optimisation.optimizer([{"params": network.parameters()}])
    for _ in turns:
        on_device = reference.moved(batch)
        with reference.autocast():
            batches = {contest.task: on_device}
            terms = network.loss(network.outputs(batches), batches)
            loss = torch.stack(list(terms[contest.task].values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
