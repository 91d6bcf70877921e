"""Images of a step: no more than there are, with batch=auto as many as the memory takes, and half where it runs out.

Lightning's BatchSizeFinder doubles a batch until an allocation fails. On a CPU none fails, the system ends the process;
and on a GPU it leaves nothing for validation. So the memory of two small batches is measured, and the rest reckoned.
"""

import copy
import dataclasses
import logging
import math
from typing import Any, cast

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from rich.filesize import decimal

from mnv2_tasks.build import trained_tasks
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.errors import ConfigError, ran_out_of_memory
from mnv2_tasks.evaluation.network_and_data import build_data
from mnv2_tasks.loading.caching import free_memory
from mnv2_tasks.network.allocator import give_back_memory
from mnv2_tasks.network.process_memory import measured_peak, start_measuring
from mnv2_tasks.runs.processes import processes_here, started_from_outside
from mnv2_tasks.training.averaging import Averaging
from mnv2_tasks.training.module import TasksModule

log = logging.getLogger(__name__)

AUTO = "auto"
SMALL = 4  # images of the smaller measured batch, the larger has twice as many
SHARE = {"cpu": 0.5, "cuda": 0.75}  # of the free memory that a step may take; loaders and validation need some
MOST = {"cpu": 64, "cuda": 1024}  # more brings a CPU no speed, and leaves most data sets few steps in an epoch
STEPS = 2  # the second has the optimizer's state


def check_batch(config: DictConfig) -> None:
    """Raise ConfigError for batch=auto of several processes, which would each find a number of its own."""
    settings = config.trainer
    if config.batch == AUTO and (settings.nodes > 1 or processes_here(settings) > 1 or started_from_outside()):
        raise ConfigError("batch=auto: is measured for one process; say how many images a step of each of several has")


def largest_that_fills(config: DictConfig, sources: dict[str, DataSource], most: int) -> int:
    """The largest batch, at most `most`, of which each task's training images fill one."""
    processes = processes_here(config.trainer) * config.trainer.nodes
    lengths = {name: sources[name].length("train") // processes for name in trained_tasks(config)}
    ratios = {name: config.batch_ratio.get(name, 1.0) for name in lengths}
    bound = int(min((lengths[name] + 1) / ratios[name] for name in lengths))
    fits = range(min(most, bound), 0, -1)
    return next((b for b in fits if all(round(ratios[n] * b) <= lengths[n] for n in lengths)), most)


def fit_batch(config: DictConfig, sources: dict[str, DataSource]) -> None:
    """Make `batch` so small that each task's training images fill one, and say so; auto stays for `find_batch`.

    Args:
        sources: verified.
    """
    if config.batch == AUTO:
        return
    batch = largest_that_fills(config, sources, config.batch)
    if batch < config.batch:
        least = min(sources[name].length("train") for name in trained_tasks(config))
        log.warning("batch=%d is more than the %d training images: batch=%d is used", config.batch, least, batch)
        config.batch = batch


def find_batch(config: DictConfig, sources: dict[str, DataSource], module: TasksModule, precision: str) -> None:
    """Replace batch=auto, in `config` and `module`, by the largest power of two that fits, and say so.

    Raises:
        ConfigError: the memory of a step cannot be measured here.
    """
    if config.batch != AUTO:
        return
    device = _trainer(config, precision).strategy.root_device
    if device.type not in MOST:
        raise ConfigError(f"batch=auto: is for CPUs and CUDA, not for {device.type}; say batch=<number>")
    most = largest_that_fills(config, sources, MOST[device.type])
    least = min((1.0, *(config.batch_ratio.get(name, 1.0) for name in trained_tasks(config))))
    small = max(SMALL, power_of_two(2 / least))  # each task has an image in it
    if 2 * small > most:
        config.batch = module.batch = most
        log.info("batch=auto: batch=%d, all training images", most)
        return
    # the larger first: what is taken once counts to it, so that the rest is reckoned too high rather than too low
    larger = _taken(config, sources, module, precision, 2 * small, device)
    smaller = _taken(config, sources, module, precision, small, device)
    free = _free(device)
    batch = reckoned(small, smaller, larger, free * SHARE[device.type], most)
    config.batch = module.batch = batch
    log.info(
        "batch=auto: batch=%d; a step of %d images took %s, one of %d %s, and %s are free",
        batch, small, decimal(smaller), 2 * small, decimal(larger), decimal(free),
    )  # fmt: skip


def halve_batch(config: DictConfig, error: BaseException, trainer: L.Trainer) -> bool:
    """Whether a run that `error` ended can begin anew with half its batch, to which `config` is then changed.

    Its memory ran out, in its first epoch: later, another batch would take other images than the steps before, and
    what is lost is more than the user may want. Twice as many batches make a step of the optimizer, whose images stay.
    A run that is resumed or repeated would be another one, and of several processes only some may have failed.
    """
    again = not (config.resume or config.repeat or trainer.current_epoch) and trainer.world_size == 1
    if not (again and ran_out_of_memory(error) and config.batch > 1):
        return False
    before, images = config.batch, config.batch * config.trainer.accumulate
    config.batch, config.trainer.accumulate = before // 2, 2 * config.trainer.accumulate
    now = config.batch * config.trainer.accumulate
    log.warning(
        "batch=%d needs more memory than there is: the run begins anew with batch=%d trainer.accumulate=%d, %s images "
        "in a step of the optimizer, and batch norms see %d",
        before, config.batch, config.trainer.accumulate, images if now == images else f"{now} instead of {images}",
        config.batch,
    )  # fmt: skip
    return True


def reckoned(small: int, smaller: int, larger: int, room: float, most: int) -> int:
    """The largest power of two, at most `most`, whose step takes no more than `room`; at least 1.

    Args:
        smaller, larger: bytes that steps of `small` and 2 * `small` images took.
    """
    each = (larger - smaller) / small
    if each <= 0:  # too little to be seen: as if all that a step takes were its images'
        each = max(larger, 1) / (2 * small)
    fixed = max(0.0, larger - 2 * small * each)
    return power_of_two(max(1.0, min(most, (room - fixed) / each)))


def power_of_two(number: float) -> int:
    """The largest that is not above `number`, of at least 1."""
    return 2 ** int(math.log2(number))


def _taken(
    config: DictConfig,
    sources: dict[str, DataSource],
    module: TasksModule,
    precision: str,
    batch: int,
    device: torch.device,
) -> int:
    """Bytes that steps of training with so many images take at most, beside what is there; `module` stays as it is."""
    tried = copy.deepcopy(module)
    tried.batch = batch
    tried.optimisation = dataclasses.replace(module.optimisation, reference_batch=None)  # which would be told
    changed = cast(DictConfig, OmegaConf.merge(config, {"batch": batch, "workers": 0}))
    data = build_data(changed, sources)
    before = _start(device)
    _trainer(config, precision).fit(tried, data)
    return max(0, _peak(device) - before)


def _trainer(config: DictConfig, precision: str) -> L.Trainer:
    settings = config.trainer
    return L.Trainer(
        accelerator=settings.accelerator, devices=settings.devices, precision=cast(Any, precision), max_epochs=1,
        limit_train_batches=STEPS, limit_val_batches=0, gradient_clip_val=settings.gradient_clip or None,
        callbacks=[Averaging(config.ema, warmup=config.ema_warmup)] if config.ema else [], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def _start(device: torch.device) -> int:
    """Bytes in use, from which `_peak` counts."""
    give_back_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    before = start_measuring()
    if before is None:
        raise _not_told()
    return before


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else measured_peak()


def _free(device: torch.device) -> int:
    _start(device)  # gives back what the steps have left
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = free_memory(shared=False)
    if free is None:
        raise _not_told()
    return free[0]


def _not_told() -> ConfigError:
    return ConfigError("batch=auto: this system does not tell how much memory a step takes; say batch=<number>")
