"""Config -> Lightning's module, with what trains it, and trainer."""

import sys
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from omegaconf import DictConfig
from torch import nn

from mnv2_tasks.build import load_network, partial_of, task_kinds, trained_tasks
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.lightning_settings import checked_by_lightning
from mnv2_tasks.network.devices import choose_precision
from mnv2_tasks.network.network import Network, Views
from mnv2_tasks.runs.processes import check_machines
from mnv2_tasks.runs.quiet import quiet_lightning
from mnv2_tasks.runs.run_folder import config_to_keep
from mnv2_tasks.training.auxiliary_loss import AuxiliaryLoss
from mnv2_tasks.training.averaging import Averaging
from mnv2_tasks.training.batch_size import check_batch
from mnv2_tasks.training.callbacks import ProgressBar
from mnv2_tasks.training.checkpoints import WholeCheckpoints
from mnv2_tasks.training.distillation import Distillation
from mnv2_tasks.training.loggers import MLflow, Wandb, check_logger
from mnv2_tasks.training.mixing import Mixing
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.multi_scale import MultiScale
from mnv2_tasks.training.optimisation import Optimisation
from mnv2_tasks.training.ranges import check_ranges
from mnv2_tasks.training.rare_classes import check_rare_classes
from mnv2_tasks.training.task_weights import task_weights


def build_module(
    config: DictConfig,
    network: Network,
    passport: dict[str, Any],
    distillation: Distillation | None = None,
    auxiliary: AuxiliaryLoss | None = None,
) -> TasksModule:
    missing = set(network.tasks) - set(config.loss_weights)
    if missing:
        raise ConfigError(f"loss_weights has no entry for {sorted(missing)}")
    weights = {task: config.loss_weights[task] for task in trained_tasks(config)}
    return TasksModule(
        network=network.to(memory_format=torch.channels_last),
        task_weights=task_weights(config.task_weighting, weights),
        optimisation=build_optimisation(config),
        batch=config.batch,
        passport=passport,
        views=Views(tuple(config.scales), config.flip),
        multi_scale=build_multi_scale(config),
        mixing=build_mixing(config, network),
        distillation=distillation,
        auxiliary=auxiliary,
    )


def build_optimisation(config: DictConfig) -> Optimisation:
    optimisation = Optimisation(
        optimizer=partial_of(config.optim.optimizer),
        weight_decay=config.optim.weight_decay,
        decay_depthwise=config.optim.decay_depthwise,
        decay_norms=config.optim.decay_norms,
        backbone_lr=config.backbone_lr,
        schedule=partial_of(config.schedule.shape),
        warmup=config.schedule.warmup,
        warmup_start=config.schedule.get("warmup_start", 0.0),  # the cosine alone has one
        reference_batch=config.reference_batch,
    )
    optimisation.build_optimizer(nn.Linear(1, 1))  # torch's own check of its settings, before a run folder is there
    return optimisation


def build_multi_scale(config: DictConfig) -> MultiScale | None:
    """None where every training picture has one size."""
    wanted = config.multi_scale
    if wanted.least is None:
        return None
    for task, kind in task_kinds(config).items():
        if kind == "segmentation":
            raise ConfigError(f"multi_scale.least={wanted.least}: is for boxes and labels, {task} has masks")
    largest = config.train_imgsz or config.imgsz
    return MultiScale(least=wanted.least, largest=largest, every=wanted.every, final=wanted.final, seed=config.seed)


def build_mixing(config: DictConfig, network: Network) -> dict[str, Mixing]:
    """{classification task: what mixes its training images}; empty where mixing is off."""
    wanted = config.mixing
    if not any(wanted.values()):
        return {}
    tasks = {name: task for name, task in network.tasks.items() if task.kind == "classification"}
    if not tasks:
        raise ConfigError(f"mixing={dict(wanted)}: is for classification; {', '.join(network.tasks)} cannot use it")
    return {
        name: Mixing(num_classes=len(task.class_names), mixup=wanted.mixup, cutmix=wanted.cutmix)
        for name, task in tasks.items()
    }


def build_distillation(config: DictConfig, student: Network) -> Distillation | None:
    """The teacher that `distillation.teacher` names, on the CPU, and what it teaches."""
    wanted = config.distillation
    if wanted.teacher is None:
        return None
    if wanted.teacher == "required":
        raise ConfigError("this recipe needs a teacher, say distillation.teacher=<name or path of weights>")
    try:
        teacher, _ = load_network(wanted.teacher, trust=config.trust)
    except ConfigError as error:
        raise ConfigError(f"distillation.teacher={wanted.teacher}: {error}") from None
    return Distillation(
        teacher=teacher, student=student, alpha=wanted.alpha, temperature=wanted.temperature,
        imgsz=config.train_imgsz or config.imgsz,
    )  # fmt: skip


def build_auxiliary(config: DictConfig, network: Network) -> AuxiliaryLoss | None:
    if not config.auxiliary:
        return None
    return AuxiliaryLoss(network, weight=config.auxiliary, imgsz=config.train_imgsz or config.imgsz)


def build_logger(config: DictConfig, run: Path) -> Any:
    """The logger of Lightning that `logger=` names, writing into the run folder; False where it is none.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    if config.logger is None:
        return False
    try:
        logger = partial_of(config.logger)(save_dir=run)
        if isinstance(logger, Wandb | MLflow):
            logger.log_hyperparams(config_to_keep(config))
        return logger
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"logger: {reason} Or choose another, such as logger=csv or logger=none") from None


def check_settings(config: DictConfig) -> None:
    """Refuse what training cannot do, before data are read and a run folder is there."""
    check_ranges(config)
    check_rare_classes(config)
    check_epochs(config)
    check_batch(config)
    check_logger(config)
    settings = config.trainer
    check_machines(settings)
    quiet_lightning()
    with checked_by_lightning():  # a trainer for nothing: Lightning's own check of what it cannot have here
        L.Trainer(
            accelerator=settings.accelerator, devices=settings.devices, logger=False,
            precision=cast(Any, choose_precision(settings.precision)), enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip


def check_epochs(config: DictConfig) -> None:
    """Refuse what the trainer cannot do, before a run folder is there."""
    if not 0 <= config.ema < 1:
        raise ConfigError(f"ema={config.ema}: expected a decay in [0, 1); 0 turns averaging off")
    if config.trainer.accumulate < 1:
        raise ConfigError(f"trainer.accumulate={config.trainer.accumulate}: expected at least 1")
    every = config.trainer.validate_every
    if every < 1 or config.epochs % every:
        raise ConfigError(f"trainer.validate_every={every}: expected a divisor of epochs={config.epochs}")
    patience = config.trainer.patience
    if patience is not None and (not isinstance(patience, int) or patience % every):
        multiple = f", a multiple of trainer.validate_every={every}" if every > 1 else ""
        raise ConfigError(f"trainer.patience={patience}: expected whole epochs{multiple}, or null")


def build_trainer(
    config: DictConfig,
    precision: str,
    folder: Path,
    *,
    callbacks: list[L.Callback],
    logger: Any,
    epochs: int | None = None,
) -> L.Trainer:
    """
    Args:
        folder: of the run.
        epochs: after which it ends; None: those of the config.
    """
    if config.ema > 0:
        callbacks = [Averaging(config.ema, warmup=config.ema_warmup), *callbacks]
    if sys.stdout.isatty():
        callbacks = [*callbacks, ProgressBar()]
    settings = config.trainer
    quiet_lightning()
    with checked_by_lightning():
        return L.Trainer(
            default_root_dir=folder,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            precision=cast(Any, precision),  # Lightning's type of it is private
            max_epochs=config.epochs if epochs is None else epochs,
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
