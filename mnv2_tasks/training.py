"""train(config) and evaluate(config): a run from its first check to its metrics.json."""

import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mnv2_tasks import report
from mnv2_tasks.build import (
    build_network,
    build_source,
    class_names_of,
    load_strictly,
    make_passport,
    partial_of,
    start_from_weights,
    task_kinds,
)
from mnv2_tasks.callbacks import EpochLog
from mnv2_tasks.checkpoint import find_weights, load_weights, save_weights
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.cost import model_cost
from mnv2_tasks.datamodule import TasksData
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.module import TasksModule
from mnv2_tasks.network import Network
from mnv2_tasks.plots import plot_curves
from mnv2_tasks.run_folder import (
    check_writable,
    command_line,
    describe_run,
    next_folder,
    write_config,
    write_json,
)

log = logging.getLogger(__name__)
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)  # adverts and hints; the banner says what matters
warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning 2.6 on torch 2.15
warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # EpochSampler skips what was done
warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
warnings.filterwarnings("ignore", ".*does not have many workers.*")  # measured: one per task is enough here


def train(config: DictConfig) -> Path:
    """Train, evaluate the best checkpoint, and leave everything in the run folder, which is returned."""
    source = build_source(config)
    names = class_names_of(source, config)
    network = _network(config, source, names)
    module = _module(config, network, make_passport(config, names, command_line()))
    resumed, done = _resume_checkpoint(config)
    data = _data(config, source, done)
    started_from = "weights: from the checkpoint" if resumed else start_from_weights(network, config)

    if resumed:
        run = Path(config.resume)
        check_writable(run)
    else:
        run = _shared_folder(config)
    precision = _precision(config.trainer.precision)
    if not resumed:
        described = describe_run(
            seed=config.seed, fingerprint=source.fingerprint(), class_names=names, precision=precision
        )
        write_json(run / "run.json", described)
    write_config(run, config)
    _start_log(run / "train.log")
    _banner(config, network, source, started_from, precision, run)

    last = ModelCheckpoint(run / "checkpoints", filename="last", save_on_exception=True, enable_version_counter=False)
    best = ModelCheckpoint(
        run / "checkpoints", filename="best", monitor="val/score", mode="max", enable_version_counter=False
    )
    trainer = _trainer(
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

    state, _ = load_weights(run / "checkpoints" / "best.ckpt")
    load_strictly(network, state, "best.ckpt")
    _validate(config, precision, module, data)
    metrics = module.metrics
    if trainer.is_global_zero:
        save_weights(run / "weights.safetensors", network.state_dict(), {**module.passport, "metrics": metrics})
        write_json(run / "metrics.json", metrics)
        plot_curves(run / "metrics.csv", run / "plots" / "curves.png")
        report.save_samples(network, data, run / "samples" / "validation.png")
        report.print_metrics(network, metrics)
        log.info("run folder: %s", run)
        log.info("see it: python tools/predict.py weights=%s", run / "weights.safetensors")
    return run


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Validate a run, or weights, print the tables and write metrics.json."""
    run = Path(config.run) if config.get("run") else None
    if run is not None:
        files = [
            run / "weights.safetensors",
            run / "checkpoints" / "best.ckpt",
            run / "checkpoints" / "last.ckpt",
        ]
        path = next((file for file in files if file.is_file()), None)
        if path is None:
            raise ConfigError(f"run={run}: has no weights yet, neither {' nor '.join(str(f) for f in files)}")
    elif config.weights in ("auto", "none"):
        raise ConfigError("say what to evaluate: run=<run folder>, or weights=<name or path> with task=<task>")
    else:
        path = find_weights(config.weights)
    state, passport = load_weights(path)
    source = build_source(config)
    names = class_names_of(source, config)
    _check_tasks(path, passport, names)
    if passport:  # the weights know their network; the command line chooses tasks, data and protocol
        kept = passport["config"]
        config.backbone, config.output_stride, config.input = (
            kept["backbone"],
            kept["output_stride"],
            kept["input"],
        )
        for name in names:
            config.tasks[name].head = kept["tasks"][name]["head"]
    network = _network(config, source, names)
    wanted = network.state_dict()
    load_strictly(network, {name: tensor for name, tensor in state.items() if name in wanted}, str(path))

    module = _module(config, network, passport)
    data = _data(config, source)
    trainer = _validate(config, _precision(config.trainer.precision), module, data)
    if trainer.is_global_zero:
        out = Path(config.out) if config.get("out") else (run / "eval" if run else _shared_folder(config))
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "metrics.json", module.metrics)
        report.print_metrics(network, module.metrics)
        log.info("weights %s; input %d px; %s", path, config.imgsz, out / "metrics.json")
    return module.metrics


def _network(config: DictConfig, source: DataSource, names: dict[str, list[str]]) -> Network:
    detects = "detection" in task_kinds(config).values()
    L.seed_everything(config.seed, verbose=False)
    return build_network(config, names, source.coco_ground_truth() if detects else None)


def _module(config: DictConfig, network: Network, passport: dict[str, Any]) -> TasksModule:
    missing = set(network.tasks) - set(config.loss_weights)
    if missing:
        raise ConfigError(f"loss_weights has no entry for {sorted(missing)}")
    if config.lr <= 0:
        raise ConfigError(f"lr={config.lr}: expected a positive number")
    return TasksModule(
        network=network.to(memory_format=torch.channels_last),
        loss_weights=dict(config.loss_weights),
        optimizer=partial_of(config.optim.optimizer),
        weight_decay=config.optim.weight_decay,
        schedule=partial_of(config.schedule.shape),
        warmup=config.schedule.warmup,
        passport=passport,
    )


def _data(config: DictConfig, source: DataSource, done: tuple[int, int] = (0, 0)) -> TasksData:
    return TasksData(
        source=source,
        kinds=task_kinds(config),
        image_size=config.imgsz,
        batch_size=config.batch,
        workers=config.workers,
        augmentation=config.data.augmentation,
        seed=config.seed,
        done=done,
    )


def _trainer(
    config: DictConfig, precision: str, *, callbacks: list[L.Callback], logger: Any, ema: bool = True
) -> L.Trainer:
    if config.epochs < 1:
        raise ConfigError(f"epochs={config.epochs}: expected at least 1")
    if not 0 <= config.ema < 1:
        raise ConfigError(f"ema={config.ema}: expected a decay in [0, 1); 0 turns averaging off")
    if ema and config.ema > 0:
        # EMAWeightAveraging is this with one small operation per tensor, a tenth of a small network's step
        callbacks = [WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(config.ema)), *callbacks]
    if sys.stdout.isatty():
        callbacks = [*callbacks, RichProgressBar()]
    settings = config.trainer
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=precision,
        max_epochs=config.epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip or None,
        limit_train_batches=settings.limit_train,
        callbacks=callbacks,
        logger=logger,
        use_distributed_sampler=False,  # ours repeats no image
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        log_every_n_steps=10,
    )


def _validate(config: DictConfig, precision: str, module: TasksModule, data: TasksData) -> L.Trainer:
    """Fill `module.metrics` with a trainer of its own: the training one would swap in its last averaged weights."""
    trainer = _trainer(config, precision, callbacks=[], logger=False, ema=False)
    trainer.validate(module, data, verbose=False)
    return trainer


def _precision(wanted: str) -> str:
    """`auto`: bf16 autocast on GPUs and CPUs that multiply bf16 natively, else 32-bit."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


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


def _shared_folder(config: DictConfig) -> Path:
    """A new run folder. Lightning starts the other processes of a node anew; they find it in the environment."""
    if "MNV2_RUN_FOLDER" not in os.environ:
        parent = Path(config.runs) / config.choices.task
        folder = next_folder(parent, f"{config.choices.data}-{config.choices.backbone}")
        if int(config.trainer.devices if str(config.trainer.devices).isdigit() else 2) > 1:
            os.environ["MNV2_RUN_FOLDER"] = str(folder)
        return folder
    return Path(os.environ["MNV2_RUN_FOLDER"])


def _check_tasks(path: Path, passport: dict[str, Any], names: dict[str, list[str]]) -> None:
    """Refuse weights that lack a task, or whose classes differ from the data's."""
    if not passport:
        return
    offered = passport["class_names"]
    for task, wanted in names.items():
        if task not in offered:
            raise ConfigError(f"{path}: holds {', '.join(offered)}; you asked for task {task}")
        if offered[task] != wanted:
            only_there = [n for n in offered[task] if n not in wanted]
            only_here = [n for n in wanted if n not in offered[task]]
            raise ConfigError(
                f"{path}: {task} knows {len(offered[task])} classes, the data has {len(wanted)}. "
                f"Only in the weights: {only_there}; only in the data: {only_here}"
            )


def _start_log(path: Path) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    root = logging.getLogger("mnv2_tasks")
    root.setLevel(logging.INFO)
    for old in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)


def _banner(
    config: DictConfig, network: Network, source: DataSource, started_from: str, precision: str, run: Path
) -> None:
    cost = model_cost(network, config.imgsz)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    log.info("%s on %s, %s", config.choices.task, device, precision)
    log.info(
        "network: %s, %.3f M parameters, %.3f G multiply-adds at %d px",
        config.choices.backbone, cost.params / 1e6, cost.madds / 1e9, config.imgsz,
    )  # fmt: skip
    log.info("%s", started_from)
    log.info(
        "data: %s, %d training and %d validation images",
        config.choices.data,
        source.length("train"),
        source.length("val"),
    )
    log.info("run folder: %s", run)
