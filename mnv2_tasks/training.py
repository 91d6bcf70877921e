"""train(config): a run from its first check to its metrics.json."""

import logging
import time
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig

from mnv2_tasks import report
from mnv2_tasks.build import build_sources, class_names_of, load_strictly
from mnv2_tasks.callbacks import EpochLog
from mnv2_tasks.checkpoint import load_weights, save_weights
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.cost import model_cost
from mnv2_tasks.datamodule import training_images
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.lightning_parts import (
    build_data,
    build_module,
    build_tasks_network,
    build_trainer,
    choose_precision,
    validate,
)
from mnv2_tasks.network import Network
from mnv2_tasks.passport import make_passport
from mnv2_tasks.plots import plot_curves
from mnv2_tasks.run_folder import (
    check_writable,
    command_line,
    describe_run,
    run_folder_of,
    start_log,
    write_config,
    write_json,
)
from mnv2_tasks.transfer import start_from_weights
from mnv2_tasks.unfold import is_folded, unfold

log = logging.getLogger(__name__)

UNFOLD_IMAGES = 256  # a channel's mean and variance over so many images' pixels are exact to a percent


def train(config: DictConfig) -> Path:
    """Train, evaluate the best checkpoint, and leave everything in the run folder, which is returned."""
    sources = build_sources(config)
    for source in sources.values():
        source.prepare(("train", "val"))
    network = build_tasks_network(config, sources)
    resumed, done = _resume_checkpoint(config)
    data = build_data(config, sources, done)
    data.train_dataloader()  # a batch larger than the data, say, should not wait until the run folder is there
    if resumed:
        started_from = load_weights(resumed).passport["training"]["started_from"]
    else:
        started_from = start_from_weights(network, config)

    if resumed:
        run = Path(config.resume)
        check_writable(run)
    else:
        run = run_folder_of(config)
    module = build_module(
        config, network, make_passport(config, class_names_of(sources), command_line(), started_from), run / "debug"
    )
    precision = choose_precision(config.trainer.precision)
    if not resumed:
        described = describe_run(
            seed=config.seed,
            fingerprints={name: source.fingerprint() for name, source in sources.items()},
            class_names=class_names_of(sources),
            precision=precision,
            weights=started_from,
        )
        write_json(run / "run.json", described)
    write_config(run, config)
    start_log(run / "train.log")
    _banner(config, network, sources, started_from, precision, run)
    if not resumed and is_folded(network):
        log.info("batch norms are folded into the weights: unfolding them on %d training images", UNFOLD_IMAGES)
        unfold(network, training_images(data, UNFOLD_IMAGES))

    last = ModelCheckpoint(
        run / "checkpoints",
        filename="last",
        save_on_exception=True,
        save_on_train_epoch_end=True,  # also where an epoch is not validated
        enable_version_counter=False,
    )
    best = ModelCheckpoint(
        run / "checkpoints", filename="best", monitor="val/score", mode="max", enable_version_counter=False
    )
    trainer = build_trainer(
        config,
        precision,
        callbacks=[EpochLog(run / "metrics.csv"), LearningRateMonitor("step"), best, last],
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
    validate(config, precision, module, data)
    metrics = module.metrics
    if trainer.is_global_zero:
        save_weights(run / "weights.safetensors", network.state_dict(), {**module.passport, "metrics": metrics})
        write_json(run / "metrics.json", metrics)
        plot_curves(run / "metrics.csv", run / "plots" / "curves.png")
        report.save_samples(network, sources, data.fit, run / "samples" / "validation.png")
        report.print_metrics(network, metrics)
        log.info("run folder: %s", run)
        log.info("see it: python tools/predict.py weights=%s", run / "weights.safetensors")
    return run


def _resume_checkpoint(config: DictConfig) -> tuple[Path | None, tuple[int, int]]:
    """The checkpoint to go on from, and the epoch and number of its batches that it has been trained on."""
    if not config.resume:
        return None, (0, 0)
    path = Path(config.resume) / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise ConfigError(f"resume={config.resume}: has no {path.relative_to(config.resume)}; nothing was saved yet")
    load_weights(path)  # refuses a damaged or malicious file before Lightning reads it
    content = torch.load(path, map_location="cpu", weights_only=True)
    epoch, progress = content["epoch"], content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    done = (epoch + 1, 0) if progress["is_last_batch"] else (epoch, progress["current"]["completed"])
    if done[0] >= config.epochs:
        raise ConfigError(f"resume={config.resume}: its {done[0]} epochs are done; say epochs=<more> to train on")
    return path, done


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
    for line in dict.fromkeys(
        f"data: {config.choices.data}, found: {source.describe()}" for source in sources.values()
    ):
        log.info("%s", line)
    spec = network.backbone.features.get("c5")
    if spec and "segmentation" in [s.kind for s in sources.values()] and (config.imgsz - 1) % spec.stride:
        fits = config.imgsz + spec.stride - (config.imgsz - 1) % spec.stride
        log.info("hint: DeepLab's cells lie on pixels at sizes k * %d + 1, such as imgsz=%d", spec.stride, fits)
    log.info("run folder: %s", run)
