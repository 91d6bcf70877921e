"""what=train: images per second of training, ours as tools/train.py runs it, beside the references' loops."""

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from mnv2_tasks.bench.contestants import (
    CLASSES,
    OTHER_NETWORKS,
    PEERS,
    SIZES,
    noise,
    our_batch,
    our_config,
    our_network,
    train_theirs,
    transformers_classifier,
)
from mnv2_tasks.bench.peaks import matmul_peak
from mnv2_tasks.bench.turns import Contestant, Turns, table_rows, take_turns
from mnv2_tasks.contracts import Batch
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.devices import choose_precision
from mnv2_tasks.network.network import Network
from mnv2_tasks.training.assemble import build_module, build_trainer
from mnv2_tasks.training.callbacks import CompiledTraining, EpochLog
from mnv2_tasks.training.checkpoints import Checkpoints, StepRandomness
from mnv2_tasks.wording import nearest

OURS = "mnv2_tasks"
FLOAT32 = "32-true"
STEPS = 10**6  # that an epoch claims to have; the turns end sooner


class Contest(NamedTuple):
    task: str
    data: str  # whose recipe is trained with
    size: int  # of the square input, in pixels
    batch: int  # images of a step


CONTESTS = (
    Contest("classification", "imagenet", SIZES["classification"], 32),
    Contest("ssdlite", "coco", SIZES["ssdlite"], 8),
    Contest("mobile_deeplabv3", "voc", SIZES["mobile_deeplabv3"], 4),
)


def measure(config: DictConfig) -> Iterator[Table]:
    tasks = [contest.task for contest in CONTESTS]
    if config.only not in (None, *tasks):
        raise ConfigError(f"only={config.only}: unknown. {nearest(config.only, tasks)}")
    rounds, warmup = (1, 1) if config.quick else (config.repeats or 7, 3)
    precision = torch.bfloat16 if choose_precision("auto") == "bf16-mixed" else torch.float32
    peak = matmul_peak(precision)
    for contest in (contest for contest in CONTESTS if config.only in (None, contest.task)):
        contest = contest._replace(size=64, batch=2) if config.quick else contest
        contestants = _contestants(contest, config.quick)
        found = take_turns(contestants, rounds=rounds, warmup=warmup, threads=torch.get_num_threads())
        yield _table(contest, found, precision, peak)


def _contestants(contest: Contest, quick: bool) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {
        name: partial(train_theirs, contest.task, make, contest.size, contest.batch)
        for name, make in PEERS[contest.task].items()
        if make is not transformers_classifier  # which has no training script of its own
    }
    found[OURS] = partial(train_ours, contest, compiled=False)
    if not quick:
        found[f"{OURS}, compile=true"] = partial(train_ours, contest, compiled=True)
        if choose_precision("auto") != FLOAT32:
            found[f"{OURS}, precision={FLOAT32}"] = partial(train_ours, contest, compiled=False, precision=FLOAT32)
    return found


def _table(contest: Contest, found: dict[str, Turns | str], precision: torch.dtype, peak: float) -> Table:
    madds = 3 * model_cost(our_network(_config(contest, compiled=False)), contest.size).madds
    first = next(iter(found.values()))

    def cells(name: str, turns: Turns) -> list[Any]:
        step = turns.percentile(50)
        share = None if name in OTHER_NETWORKS else f"{contest.batch * madds / step / peak:.1%}"
        return [contest.batch / step, 1e3 * step, turns.times_as_fast_as(first), turns.peak(10**6), share]

    return Table(
        f"Training {contest.task} at {contest.size} px, batch {contest.batch}",
        ["contestant", "images/s", "step, ms", "times the first", "memory, MB", "of matmul peak"],
        table_rows(found, cells),
        [
            f"Peak measured: {peak / 1e9:.0f} G multiply-adds/s in {precision}. "
            f"A step is {madds / 1e9:.2f} G multiply-adds an image, once forward and twice backward.",
            "Theirs: the references' loop (channels first, eager, on a GPU bf16 autocast), on images normalised before."
            " Ours: tools/train.py's loop with its averaged weights, clipping and logging, from uint8 images.",
        ],
    )


def _config(contest: Contest, *, compiled: bool) -> DictConfig:
    overrides = f"data={contest.data}", f"batch={contest.batch}", f"trainer.compile={compiled}"
    return our_config(contest.task, contest.size, *overrides, "train_imgsz=null", "epochs=1")


class RepeatedBatch:
    """A loader of the same batch for each item."""

    def __init__(self, batch: Batch, items: Iterable[None]):
        self.batch, self.items = batch, items
        self.batch_size, self.num_workers = len(batch.images), 0

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        for _ in self.items:
            yield self.batch


def train_ours(contest: Contest, turns: Iterable[None], *, compiled: bool, precision: str = "auto") -> None:
    keep_freed_memory()
    config = _config(contest, compiled=compiled)
    network = our_network(config)
    batch = our_batch(contest.task, noise(contest.batch, contest.size, CLASSES[contest.task]))
    compiling = [CompiledTraining()] if compiled else []
    fit_as_train_does(config, network, {contest.task: RepeatedBatch(batch, turns)}, compiling, precision)


def fit_as_train_does(
    config: DictConfig,
    network: Network,
    loaders: dict[str, RepeatedBatch],
    compiling: list[CompiledTraining],
    precision: str = "auto",
) -> None:
    """The loop of tools/train.py, with averaged weights, clipping, logging and checkpoints, until a loader ends."""
    warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")
    module = build_module(config, network, passport={})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = EpochLog(folder / "metrics.csv"), Checkpoints(folder, minutes=0, steps=None)
        callbacks = [StepRandomness(0), *told, *compiling]
        trainer = build_trainer(config, choose_precision(precision), folder, callbacks=callbacks, logger=False)
        trainer.fit(module, loaders)
