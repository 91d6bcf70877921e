"""train(config): a run from its first check to its metrics.json."""

import logging
import shutil
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.build import build_sources, class_names_of, data_name, load_strictly, settle_white
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.drawing.curves import plot_curves
from mnv2_tasks.errors import DataError
from mnv2_tasks.evaluation.network_and_data import build_caches, build_data, build_tasks_network
from mnv2_tasks.evaluation.pictures import write_pictures
from mnv2_tasks.evaluation.score import score_network
from mnv2_tasks.evaluation.summary import print_metrics
from mnv2_tasks.heads.auxiliary import AuxiliaryHead
from mnv2_tasks.loading.caching import CachedPictures, fill_caches
from mnv2_tasks.loading.loaders import TasksData, training_images
from mnv2_tasks.metrics.names import named, prefix_of
from mnv2_tasks.metrics.outcomes import save_outcomes
from mnv2_tasks.model_card.card import model_card
from mnv2_tasks.model_card.facts import RunFacts
from mnv2_tasks.network.allocator import give_back_memory, keep_freed_memory
from mnv2_tasks.network.compiled import check_compiler
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.devices import choose_precision, multiplies_bf16, scoring_precision
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.unfold import is_folded, unfold
from mnv2_tasks.runs.lock import written_alone
from mnv2_tasks.runs.processes import meet_on_loopback
from mnv2_tasks.runs.reproduce import (
    ResumePoint,
    check_data,
    check_start,
    described,
    earlier_run,
    resume_point,
    run_json,
    tell_result,
)
from mnv2_tasks.runs.run_folder import (
    check_name,
    check_writable,
    command_line,
    config_to_keep,
    describe_run,
    run_folder_of,
    start_log,
    write_config,
)
from mnv2_tasks.runs.run_results import written
from mnv2_tasks.runs.stopping import end_together
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.training.assemble import (
    build_auxiliary,
    build_distillation,
    build_logger,
    build_module,
    build_trainer,
    check_settings,
)
from mnv2_tasks.training.batch_size import find_batch, fit_batch, halve_batch
from mnv2_tasks.training.callbacks import CompiledTraining, EpochLog, EpochPlan, moved_scores
from mnv2_tasks.training.checkpoints import Checkpoints, Restored, ResumedRate, StepRandomness, restoring
from mnv2_tasks.training.early_stopping import Patience, best_score
from mnv2_tasks.training.initial_weights import draw_weights, start_from_weights
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.rare_classes import count_classes, repeat_factors, told_rare_classes, weigh_classes
from mnv2_tasks.weights.digest import digest_of
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import load_weights, save_weights
from mnv2_tasks.whole_files import write_json, write_text

log = logging.getLogger(__name__)

UNFOLD_IMAGES = 256  # a channel's mean and variance over so many images' pixels are exact to a percent


class Prepared(NamedTuple):
    """A run that can begin: all that could be refused was looked at, and nothing is written yet."""

    config: DictConfig
    sources: dict[str, DataSource]
    network: Network
    data: TasksData
    caches: list[CachedPictures]  # of its training pictures, to be filled
    module: TasksModule
    precision: str  # to train in
    scored_in: str  # the precision of the scores at the end
    resumed: ResumePoint  # how far the run was that is resumed
    description: dict[str, Any]  # what goes into run.json


def train(config: DictConfig) -> Path:
    """Train, evaluate the best checkpoint, and leave everything in the run folder, which is returned."""
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


def prepare(config: DictConfig) -> Prepared:
    """Read the data, build the network, and copy the weights that it starts from.

    Raises:
        ConfigError, DataError: whatever would end the run later.
    """
    if config.trainer.compile:
        check_compiler(config.trainer.accelerator)
    check_settings(config)
    scored_in = scoring_precision(config.eval.precision, config.trainer.precision)
    keep_freed_memory()
    sources = build_sources(config)
    for source in sources.values():
        source.prepare(("train", "val"))
    settle_white(config, sources)
    fit_batch(config, sources)
    class_names = class_names_of(sources)
    network = build_tasks_network(config, sources, AuxiliaryHead.taps if config.auxiliary else ())
    draw_weights(network, cast(dict, OmegaConf.to_container(config.init_std)))
    network.freeze(config.freeze, norms=config.freeze_norms)
    resumed = resume_point(config)
    fingerprints = {name: source.fingerprint() for name, source in sources.items()}
    if earlier := earlier_run(config):
        check_data(earlier, fingerprints, class_names)
    counts = count_classes(config, sources)
    weigh_classes(config, network, counts)
    started_from = resumed.started_from or start_from_weights(network, config)
    passport = make_passport(config, class_names, command_line(), started_from)
    module = build_module(
        config, network, passport, build_distillation(config, network), build_auxiliary(config, network)
    )
    precision = choose_precision(config.trainer.precision)
    find_batch(config, sources, module, precision)
    data = build_data(config, sources, resumed.done, repeat_factors(config, counts))
    data.try_augmentation()
    caches = build_caches(config, data)  # its loaders refuse a batch larger than the data
    description = describe_run(
        config=config,
        fingerprints=fingerprints,
        data_sizes={
            name: {split: source.length(split) for split in ("train", "val")} for name, source in sources.items()
        },
        class_names=class_names,
        precision=precision,
        weights=started_from,
        initial_weights=digest_of(network.state_dict()),
    )
    if config.repeat:
        check_start(Path(config.repeat), description)
    return Prepared(config, sources, network, data, caches, module, precision, scored_in, resumed, description)


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


def conclude(prepared: Prepared, run: Path, *, epochs: int) -> None:
    """Score the best checkpoint, and write what came of the run.

    Args:
        epochs: that it was trained.
    """
    config, network, data, module = prepared.config, prepared.network, prepared.data, prepared.module
    best = load_weights(run / "checkpoints" / "best.ckpt", trust=True)  # nothing is built of it
    load_strictly(network, best.state, "best.ckpt")
    values, writes = score_network(network, data.val_loaders, config.trainer, prepared.scored_in, module.views)
    if not writes:
        return
    metrics: dict[str, Any] = named(values, network.tasks) | {"precision": prepared.scored_in}
    save_weights(run / "weights.safetensors", network.state_dict(), {**module.passport, "metrics": metrics})
    outcomes = {name: task.metric.outcomes() for name, task in network.tasks.items()}
    save_outcomes(run / "per_image.npz", outcomes)
    try:
        plot_curves(run / "metrics.csv", run / "plots" / "curves.png")
    except DataError as error:  # lost, or damaged from outside: the other results stand without it
        log.warning("no curves: %s", error)
    write_pictures(network, network.tasks, prepared.sources, data.fit, run, splits=("train", "val"))
    kinds = {name: task.kind for name, task in network.tasks.items()}
    description, cost = described(run), model_cost(network, config.imgsz)
    facts = RunFacts(config_to_keep(config), description, metrics, outcomes, kinds, cost)
    write_text(run / "model_card.md", model_card(facts))
    write_json(run / "metrics.json", metrics)  # which a study takes for the end of a run
    digest = digest_of(network.state_dict())
    early = {"stopped_early": True} if epochs < config.epochs else {}
    result = {"epochs": epochs, **early, "weights_sha256": digest, "files": written(run)}
    write_json(run / "run.json", description | {"result": result})  # last of all: it says that they are complete
    print_metrics(network, metrics)
    scores = [prefix_of(name, network.tasks) + task.metric.primary for name, task in network.tasks.items()]
    for line in moved_scores(run / "metrics.csv", {key: metrics[key] for key in scores}):
        log.info("%s; it trained in %s, and is scored in %s", line, prepared.precision, prepared.scored_in)
    if config.repeat:
        tell_result(Path(config.repeat), digest)
    log.info("run folder: %s", run)
    log.info(as_called_here("see it: python tools/predict.py weights=%s"), run / "weights.safetensors")


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
