"""How many runs there are at a time, and what of this machine each takes."""

import os
from collections.abc import Sequence

import torch
from omegaconf import DictConfig

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.devices import num_cores

MOST_DEVICES = 1024  # trainer.devices=auto: all there are


def slots_for(config: DictConfig, configs: Sequence[DictConfig]) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each place for a run, as `device_slots`; a cluster sees to that itself, and takes all.

    Args:
        config: that of the tool.
        configs: of its runs.
    """
    if config.cluster is not None:
        return device_slots(len(configs) if config.jobs is None else config.jobs, 1, [])
    return device_slots(config.jobs, devices_each(configs), _cuda_devices())


def threads_for(slots: Sequence[str | None]) -> int | None:
    """OMP_NUM_THREADS of each run; None leaves it as it is."""
    return max(1, num_cores() // len(slots)) if len(slots) > 1 else None


def device_slots(jobs: int | None, each: int, found: Sequence[str]) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each place for a run.

    Args:
        jobs: runs at a time; None is one for each group of devices, or one on a CPU.
        each: devices that a run takes.
        found: names of the CUDA devices.

    Raises:
        ConfigError: fewer than one job.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: expected at least 1")
    groups = [",".join(found[i : i + each]) for i in range(0, len(found) - each + 1, each)]
    if not groups:
        return [None] * (jobs or 1)
    return [groups[i % len(groups)] for i in range(jobs or len(groups))]


def devices_each(configs: Sequence[DictConfig]) -> int:
    """Devices that a run takes: the most that any asks for."""
    wanted = {str(config.trainer.devices) for config in configs}
    return max(int(each) if each.isdigit() else MOST_DEVICES for each in wanted)


def _cuda_devices() -> list[str]:
    """Names of the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible or [str(index) for index in range(torch.cuda.device_count())]
