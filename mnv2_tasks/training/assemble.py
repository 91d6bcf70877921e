"""Config -> Lightning's objects: module, data, trainer. train() and evaluate() share them."""

import logging
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mnv2_tasks.build import (
    build_fit,
    build_network,
    class_names_of,
    data_config,
    load_network,
    partial_of,
    task_kinds,
    trained_tasks,
)
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.images.augment import Augment, check_preset
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.loaders import TasksData
from mnv2_tasks.network.network import Network
from mnv2_tasks.training.callbacks import ProgressBar
from mnv2_tasks.training.checkpoints import WholeCheckpoints
from mnv2_tasks.training.distillation import Distillation
from mnv2_tasks.training.mixing import Mixing
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.task_weights import task_weights

# where TensorFlow is installed TensorBoard would import it, for seconds and a gigabyte; this name tells it not to
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)  # adverts and hints; the banner says what matters
warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning 2.6 on torch 2.15
warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # TrainingSampler skips what was done
warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # a resumed run goes on in its folder
warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # what is frozen, see Network.freeze
warnings.filterwarnings("ignore", ".*does not have many workers.*")  # measured: see conf/recipe/*_shapes.yaml


def build_tasks_network(config: DictConfig, sources: dict[str, DataSource]) -> Network:
    truths = {name: source.coco_ground_truth() for name, source in sources.items() if source.kind == "detection"}
    L.seed_everything(config.seed, verbose=False)
    network = build_network(config, class_names_of(sources), truths)
    network.freeze(config.freeze, norms=config.freeze_norms)
    if config.qat:
        from mnv2_tasks.network.rounding_training import train_rounded  # which brings all that int8 needs

        train_rounded(network)
    return network


def build_module(
    config: DictConfig,
    network: Network,
    passport: dict[str, Any],
    debug_folder: Path | None = None,
    distillation: Distillation | None = None,
) -> TasksModule:
    missing = set(network.tasks) - set(config.loss_weights)
    if missing:
        raise ConfigError(f"loss_weights has no entry for {sorted(missing)}")
    if config.epochs < 1:
        raise ConfigError(f"epochs={config.epochs}: expected at least 1")
    if not 0 <= config.ema < 1:
        raise ConfigError(f"ema={config.ema}: expected a decay in [0, 1); 0 turns averaging off")
    if config.lr <= 0:
        raise ConfigError(f"lr={config.lr}: expected a positive number")
    every = config.trainer.validate_every
    if every < 1 or config.epochs % every:
        raise ConfigError(f"trainer.validate_every={every}: expected a divisor of epochs={config.epochs}")
    if config.backbone_lr < 0:
        raise ConfigError(f"backbone_lr={config.backbone_lr}: expected a factor of 0 (frozen) or more")
    if not config.scales or min(config.scales) <= 0:
        raise ConfigError(f"scales={config.scales}: expected factors on the input size, such as [0.5,1.0,1.5]")
    return TasksModule(
        network=network.to(memory_format=torch.channels_last),
        task_weights=task_weights(
            config.task_weighting, {task: config.loss_weights[task] for task in trained_tasks(config)}
        ),
        optimizer=partial_of(config.optim.optimizer),
        weight_decay=config.optim.weight_decay,
        backbone_lr=config.backbone_lr,
        schedule=partial_of(config.schedule.shape),
        warmup=config.schedule.warmup,
        passport=passport,
        scales=list(config.scales),
        flip=config.flip,
        debug_folder=debug_folder,
        mixing=build_mixing(config, network),
        distillation=distillation,
        batch=config.batch,
        reference_batch=config.reference_batch,
        decay_depthwise=config.optim.decay_depthwise,
    )


def build_mixing(config: DictConfig, network: Network) -> dict[str, Mixing]:
    """{classification task: what mixes its training images}; empty where mixing is off."""
    wanted = config.mixing
    if not any(wanted.values()):
        return {}
    tasks = {name: task for name, task in network.tasks.items() if task.kind == "classification"}
    if not tasks:
        raise ConfigError(f"mixing={dict(wanted)}: is for classification; {', '.join(network.tasks)} cannot use it")
    return {name: Mixing(num_classes=len(task.class_names), **wanted) for name, task in tasks.items()}


def build_distillation(config: DictConfig, student: Network) -> Distillation | None:
    """The teacher that `distillation.teacher` names, on the CPU, and what it teaches."""
    wanted = config.distillation
    if wanted.teacher is None:
        return None
    if wanted.teacher == "required":
        raise ConfigError("this recipe needs a teacher, say distillation.teacher=<name or path of weights>")
    try:
        teacher, _ = load_network(wanted.teacher)
    except ConfigError as error:
        raise ConfigError(f"distillation.teacher={wanted.teacher}: {error}") from None
    return Distillation(
        teacher=teacher, student=student, alpha=wanted.alpha, temperature=wanted.temperature,
        imgsz=config.train_imgsz or config.imgsz,
    )  # fmt: skip


def build_data(config: DictConfig, sources: dict[str, DataSource], done: tuple[int, int] = (0, 0)) -> TasksData:
    kinds = task_kinds(config)

    def augment(task: str) -> Augment:
        preset = data_config(config, task).augmentation[kinds[task]]
        check_preset(preset, kinds[task])
        return Augment(preset, config.train_imgsz or config.imgsz, list(config.input.mean))

    return TasksData(
        sources=sources,
        augment=augment,
        fit=build_fit(config),
        batch_size=config.batch,
        batch_ratio={task: config.batch_ratio.get(task, 1.0) for task in config.tasks},  # ~tasks.<task> leaves its own
        trained=trained_tasks(config),
        workers=config.workers,
        seed=config.seed,
        done=done,
        reduced=[task for task in kinds if _decode(config, task) == "reduced"],
    )


def _decode(config: DictConfig, task: str) -> str:
    wanted = data_config(config, task).get(
        "decode", "full"
    )  # drawn data, and runs of former versions, have no such key
    if wanted not in ("reduced", "full"):
        raise ConfigError(f"data.decode={wanted}: expected reduced or full")
    return wanted


def build_logger(config: DictConfig, run: Path) -> Any:
    """The logger of Lightning that `logger=` names, writing into the run folder; False where it is none.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    if config.logger is None:
        return False
    try:
        return partial_of(config.logger)(save_dir=run)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"logger: {reason} Or choose another, such as logger=csv or logger=none") from None


def build_trainer(
    config: DictConfig, precision: str, *, callbacks: list[L.Callback], logger: Any, ema: bool = True
) -> L.Trainer:
    if ema and config.ema > 0:
        # EMAWeightAveraging is this with one small operation per tensor, a tenth of a small network's step
        callbacks = [WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(config.ema)), *callbacks]
    if sys.stdout.isatty():
        callbacks = [*callbacks, ProgressBar()]
    settings = config.trainer
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        precision=precision,
        max_epochs=config.epochs,
        check_val_every_n_epoch=settings.validate_every,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip or None,
        limit_train_batches=settings.limit_train,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=logger,
        use_distributed_sampler=False,  # ours repeats no image
        # few images per GPU make statistics of their own; torch has this on GPUs alone
        sync_batchnorm=torch.cuda.is_available()
        and bool({"detection", "segmentation"} & set(task_kinds(config).values())),
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        log_every_n_steps=10,
    )


def validate(config: DictConfig, precision: str, module: TasksModule, data: TasksData) -> L.Trainer:
    """Fill `module.metrics` with a trainer of its own: the training one would swap in its last averaged weights."""
    trainer = build_trainer(config, precision, callbacks=[], logger=False, ema=False)
    trainer.validate(module, data, verbose=False)
    return trainer


def choose_precision(wanted: str) -> str:
    """`auto`: bf16 autocast on GPUs and CPUs that multiply bf16 natively, else 32-bit."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"
