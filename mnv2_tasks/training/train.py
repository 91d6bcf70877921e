"""train(config): a run from its first check to its metrics.json."""

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from mnv2_tasks.build import build_sources, class_names_of, data_name, load_strictly
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.drawing.curves import plot_curves
from mnv2_tasks.evaluation.network_and_data import build_data, build_tasks_network
from mnv2_tasks.evaluation.score import named, score_network
from mnv2_tasks.evaluation.summary import print_metrics
from mnv2_tasks.loading.loaders import training_images
from mnv2_tasks.metrics.outcomes import save_outcomes
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.compiled import check_compiler
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.devices import choose_precision
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.unfold import is_folded, unfold
from mnv2_tasks.prediction.sample_sheet import save_samples
from mnv2_tasks.runs.folder import check_writable, command_line, describe_run, run_folder_of, start_log, write_config
from mnv2_tasks.runs.reproduce import (
    check_data,
    check_start,
    described,
    digest_of,
    earlier_run,
    standing_of,
    tell_differences,
    tell_history,
    tell_result,
)
from mnv2_tasks.training.assemble import build_distillation, build_module, build_trainer
from mnv2_tasks.training.callbacks import CompiledTraining, EpochLog, EpochPlan
from mnv2_tasks.training.checkpoints import Checkpoints, ResumedRate, StepRandomness
from mnv2_tasks.training.initial_weights import start_from_weights
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import load_weights, save_weights
from mnv2_tasks.whole_files import write_json

log = logging.getLogger(__name__)

UNFOLD_IMAGES = 256  # a channel's mean and variance over so many images' pixels are exact to a percent


def train(config: DictConfig) -> Path:
    """Train, evaluate the best checkpoint, and leave everything in the run folder, which is returned."""
    if config.trainer.compile:
        check_compiler(config.trainer.accelerator)
    keep_freed_memory()
    sources = build_sources(config)
    for source in sources.values():
        source.prepare(("train", "val"))
    network = build_tasks_network(config, sources)
    network.freeze(config.freeze, norms=config.freeze_norms)
    resumed, done, started_from = standing_of(config)
    earlier = earlier_run(config)
    fingerprints = {name: source.fingerprint() for name, source in sources.items()}
    if earlier:
        check_data(earlier, fingerprints, class_names_of(sources))
    data = build_data(config, sources, done)
    data.train_dataloader()  # a batch larger than the data, say, should not wait until the run folder is there
    started_from = started_from or start_from_weights(network, config)
    distillation = build_distillation(config, network)
    precision = choose_precision(config.trainer.precision)
    description = describe_run(
        config=config,
        fingerprints=fingerprints,
        class_names=class_names_of(sources),
        precision=precision,
        weights=started_from,
        initial_weights=digest_of(network.state_dict()),
    )
    if config.repeat:
        check_start(Path(config.repeat), description)

    if resumed:
        run = Path(config.resume)
        check_writable(run)
    else:
        run = run_folder_of(config)
    module = build_module(
        config,
        network,
        make_passport(config, class_names_of(sources), command_line(), started_from),
        run / "debug",
        distillation,
    )
    settings = config.trainer
    checkpoints = Checkpoints(run / "checkpoints", minutes=settings.save_every, steps=settings.save_every_steps)
    start_log(run / "train.log")
    _banner(config, network, sources, started_from, precision, run)
    if rank_zero_only.rank == 0:
        write_json(run / "run.json", _retold(config, description, done[0]))
        write_config(run, config)
    if len(sources) > 1:
        log.info("%s", data.describe_epoch())
    statistics_stay = config.freeze_norms or "backbone" in config.freeze
    if not resumed and not statistics_stay and is_folded(network):
        log.info("batch norms are folded into the weights: unfolding them on %d training images", UNFOLD_IMAGES)
        unfold(network, training_images(data, UNFOLD_IMAGES))

    trainer = build_trainer(
        config,
        precision,
        callbacks=[
            StepRandomness(config.seed),
            ResumedRate(),
            EpochPlan(),
            EpochLog(run / "metrics.csv"),
            LearningRateMonitor("step"),
            checkpoints,
            *([CompiledTraining()] if config.trainer.compile else []),
        ],
        logger=TensorBoardLogger(run, name="", version="tensorboard"),
    )
    L.seed_everything(config.seed, verbose=False)
    began = time.perf_counter()
    try:
        trainer.fit(module, data, ckpt_path=resumed)
    except (KeyboardInterrupt, SystemExit):
        log.info("interrupted; go on with: python tools/train.py resume=%s", run)
        raise
    log.info("trained for %.0f s", time.perf_counter() - began)

    state = load_weights(run / "checkpoints" / "best.ckpt").state
    load_strictly(network, state, "best.ckpt")
    metrics = named(score_network(network, data.val_loaders, config.trainer, precision, module.views)[0])
    if trainer.is_global_zero:
        save_weights(run / "weights.safetensors", network.state_dict(), {**module.passport, "metrics": metrics})
        write_json(run / "metrics.json", metrics)
        digest = digest_of(network.state_dict())
        result = {"epochs": config.epochs, "weights_sha256": digest}
        write_json(run / "run.json", described(run) | {"result": result})
        save_outcomes(run / "per_image.npz", {name: task.metric.outcomes() for name, task in network.tasks.items()})
        plot_curves(run / "metrics.csv", run / "plots" / "curves.png")
        save_samples(network, sources, data.fit, run / "samples" / "validation.png")
        print_metrics(network, metrics)
        if config.repeat:
            tell_result(Path(config.repeat), digest)
        log.info("run folder: %s", run)
        log.info("see it: python tools/predict.py weights=%s", run / "weights.safetensors")
    return run


def _retold(config: DictConfig, description: dict[str, Any], epoch: int) -> dict[str, Any]:
    """What run.json says now; what differs from the run that is gone on with, or repeated, is told as well."""
    if config.repeat:
        tell_history(Path(config.repeat))
        tell_differences(Path(config.repeat), description)
        return description | {"repeats": str(config.repeat)}
    if not config.resume:
        return description
    before = described(Path(config.resume))
    found = tell_differences(Path(config.resume), description | {"initial_weights": before.get("initial_weights")})
    part = {"epoch": epoch, "epochs_before": before["config"]["epochs"], "epochs": config.epochs, "differences": found}
    return before | {"config": description["config"], "resumed": [*before.get("resumed", []), part]}


def _banner(
    config: DictConfig,
    network: Network,
    sources: dict[str, DataSource],
    started_from: str,
    precision: str,
    run: Path,
) -> None:
    cost = model_cost(network, config.imgsz)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    log.info("%s on %s, %s", config.choices.task, device, precision)
    log.info(
        "network: %s, %.3f M parameters, %.3f G multiply-adds at %d px",
        config.choices.backbone, cost.params / 1e6, cost.madds / 1e9, config.imgsz,
    )  # fmt: skip
    log.info("%s", started_from)
    for line in dict.fromkeys(f"data: {data_name(config, n)}, found: {s.describe()}" for n, s in sources.items()):
        log.info("%s", line)
    spec = network.backbone.features.get("c5")
    if spec and "segmentation" in [s.kind for s in sources.values()] and (config.imgsz - 1) % spec.stride:
        fits = config.imgsz + spec.stride - (config.imgsz - 1) % spec.stride
        log.info("hint: DeepLab's cells lie on pixels at sizes k * %d + 1, such as imgsz=%d", spec.stride, fits)
    log.info("run folder: %s", run)
