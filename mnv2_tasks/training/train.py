"""train(config): a run from its first check to its metrics.json."""

import logging
import shutil
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from mnv2_tasks.build import data_name
from mnv2_tasks.loading.caching import fill_caches
from mnv2_tasks.loading.loaders import training_images
from mnv2_tasks.network.allocator import give_back_memory
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.devices import multiplies_bf16
from mnv2_tasks.network.unfold import is_folded, unfold
from mnv2_tasks.runs.lock import written_alone
from mnv2_tasks.runs.processes import join_group, meet_on_loopback
from mnv2_tasks.runs.reproduce import run_json
from mnv2_tasks.runs.run_folder import check_name, check_writable, run_folder_of, start_log, write_config
from mnv2_tasks.runs.stopping import end_together
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.training.assemble import build_logger, build_trainer
from mnv2_tasks.training.batch_size import halve_batch
from mnv2_tasks.training.callbacks import CompiledTraining, EpochLog, EpochPlan
from mnv2_tasks.training.checkpoints import Checkpoints, Restored, ResumedRate, StepRandomness, restoring
from mnv2_tasks.training.conclude import conclude
from mnv2_tasks.training.early_stopping import Patience, best_score
from mnv2_tasks.training.prepared_run import Prepared, prepare
from mnv2_tasks.training.rare_classes import told_rare_classes
from mnv2_tasks.whole_files import write_json

log = logging.getLogger(__name__)

UNFOLD_IMAGES = 256  # a channel's mean and variance over so many images' pixels are exact to a percent


def train(config: DictConfig) -> Path:
    """Train, evaluate the best checkpoint, and leave everything in the run folder, which is returned."""
    join_group()
    with ExitStack() as held:
        if config.resume:  # before it is looked at how far it is
            held.enter_context(_written_alone(Path(config.resume)))
        check_name(config)
        prepared = prepare(config)
        if prepared.resumed.checkpoint:
            run = Path(config.resume)
            check_writable(run)
        else:
            run = run_folder_of(config)
            held.enter_context(_written_alone(run))
        trainer = assemble(prepared, run)
        smaller = False
        try:
            fit(prepared, run, trainer)
        except (MemoryError, RuntimeError) as error:
            if not (smaller := halve_batch(config, error, trainer)):
                raise
        if smaller:  # out here, where nothing holds what the error held
            prepared = trainer = None
            give_back_memory()
            shutil.rmtree(run / "checkpoints", ignore_errors=True)  # of the larger batches
            prepared = prepare(config)
            trainer = assemble(prepared, run)
            fit(prepared, run, trainer)
        conclude(prepared, run, epochs=trainer.current_epoch)
    return run


def _written_alone(run: Path) -> AbstractContextManager:
    """Of several processes the first one holds the folder."""
    return written_alone(run) if rank_zero_only.rank == 0 else nullcontext()


def assemble(prepared: Prepared, run: Path) -> L.Trainer:
    """What is known by now goes into the run folder; and the trainer that writes into it."""
    config, network, data, resumed = prepared.config, prepared.network, prepared.data, prepared.resumed
    settings = config.trainer
    checkpoints = Checkpoints(run / "checkpoints", minutes=settings.save_every, steps=settings.save_every_steps)
    start_log(run / "train.log")
    _banner(prepared, run)
    if rank_zero_only.rank == 0:
        write_json(run / "run.json", run_json(config, prepared.description, resumed.done[0]))
        write_config(run, config)
    for line in told_rare_classes(network, data.repeats):
        log.info("%s", line)
    if len(prepared.sources) > 1:
        log.info("%s", data.describe_epoch())
    fill_caches(prepared.caches)
    statistics_stay = config.freeze_norms or "backbone" in config.freeze
    if not resumed.checkpoint and not statistics_stay and is_folded(network):
        log.info("batch norms are folded into the weights: unfolding them on %d training images", UNFOLD_IMAGES)
        unfold(network, training_images(data, UNFOLD_IMAGES))
    logger = build_logger(config, run)
    meet_on_loopback(settings)
    return build_trainer(
        config,
        prepared.precision,
        run,
        callbacks=[
            StepRandomness(config.seed),
            Restored(),
            ResumedRate(),
            EpochPlan(),
            EpochLog(run / "metrics.csv"),
            *([LearningRateMonitor("step")] if logger else []),
            Patience(settings.patience, settings.validate_every),
            checkpoints,
            *([CompiledTraining()] if settings.compile else []),
        ],
        logger=logger,
        epochs=resumed.done[0] if resumed.over else None,
    )


def fit(prepared: Prepared, run: Path, trainer: L.Trainer) -> None:
    """Train; what ends it early leaves a run that can be gone on with."""
    L.seed_everything(prepared.config.seed, verbose=False)
    if trainer.num_devices * trainer.num_nodes > 1:
        end_together()  # sooner than they are connected, for which they wait
    began = time.perf_counter()
    try:
        with restoring(prepared.resumed.checkpoint, trainer):
            trainer.fit(prepared.module, prepared.data, ckpt_path=prepared.resumed.checkpoint)
    except (KeyboardInterrupt, SystemExit):
        if rank_zero_only.rank == 0:
            log.info(as_called_here("interrupted; go on with: python tools/train.py resume=%s"), run)
        raise
    log.info("trained for %.0f s", time.perf_counter() - began)
    if trainer.current_epoch < prepared.config.epochs and rank_zero_only.rank == 0:
        log.info(
            "stopped early, after %d of %d epochs: in the last %d, val/score was not better than %.4g before",
            trainer.current_epoch, prepared.config.epochs, prepared.config.trainer.patience, best_score(trainer),
        )  # fmt: skip


def _banner(prepared: Prepared, run: Path) -> None:
    config, network, sources = prepared.config, prepared.network, prepared.sources
    cost = model_cost(network, config.imgsz)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    log.info("%s on %s, %s", config.choices.task, device, prepared.precision)
    if prepared.precision.startswith("bf16") and not multiplies_bf16():
        log.info(
            "hint: what computes here has no bf16 of its own and emulates it; trainer.precision=auto takes float32"
        )
    log.info(
        "network: %s, %.3f M parameters, %.3f G multiply-adds at %d px",
        config.choices.backbone, cost.params / 1e6, cost.madds / 1e9, config.imgsz,
    )  # fmt: skip
    log.info("%s", prepared.description["started_from"])
    for line in dict.fromkeys(f"data: {data_name(config, n)}, found: {s.describe()}" for n, s in sources.items()):
        log.info("%s", line)
    spec = network.backbone.features.get("c5")
    if spec and "segmentation" in [s.kind for s in sources.values()] and (config.imgsz - 1) % spec.stride:
        fits = config.imgsz + spec.stride - (config.imgsz - 1) % spec.stride
        log.info("hint: DeepLab's cells lie on pixels at sizes k * %d + 1, such as imgsz=%d", spec.stride, fits)
    log.info("run folder: %s", run)
