"""One decision for all processes of a job, before torch.distributed connects them: the first decides, the others wait.

Who the first is, and how the others hear of it, depends on who started them: torchrun serves a store, SLURM's processes
share the file system. Processes that Lightning starts on one machine inherit the environment and need none of this.
"""

import itertools
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.whole_files import written_whole

PATIENCE = 600.0  # seconds; all processes come here after the same preparation
LOOPBACK = "127.0.0.1"
_store: Any = None  # lives as long as this process
_number = itertools.count()  # all processes of a job come to the same decisions in the same order


def started_from_outside() -> bool:
    """Whether torchrun, or SLURM with several tasks, has started this process beside others."""
    return _by_torchrun() or _by_slurm()


def started_by_the_first() -> bool:
    """Whether Lightning, in the first process of a job on one machine, has started this one."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0 and not started_from_outside()


def join_group() -> None:
    """Take this process for one of torchrun's where a program has connected it to others already, as Ray Train does."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized() and {"RANK", "WORLD_SIZE", "MASTER_PORT"} <= os.environ.keys():
        os.environ.setdefault("TORCHELASTIC_RUN_ID", "joined")


def is_first() -> bool:
    """Whether this is the first process of a job, or the only one."""
    if _by_torchrun():
        return int(os.environ["RANK"]) == 0
    if _by_slurm():
        return int(os.environ["SLURM_PROCID"]) == 0
    return not started_by_the_first()


def place_in_job() -> tuple[int, int]:
    """Which process this is of how many that torchrun or SLURM has started, from 0; (0, 1) where neither has."""
    if _by_torchrun():
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if _by_slurm():
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    return 0, 1


def place_on_machine() -> int:
    """Which process this is of those that torchrun or SLURM has started on this machine, from 0."""
    if _by_torchrun():
        return int(os.environ["LOCAL_RANK"])
    return int(os.environ.get("SLURM_LOCALID", 0)) if _by_slurm() else 0


def wait_for_all() -> None:
    """Until every process of torchrun's job comes here: it ends the others as soon as one of them fails."""
    if not _by_torchrun():
        return
    store = _connected()
    key = f"mnv2/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/here"
    store.add(key, 1)
    while store.add(key, 0) < int(os.environ["WORLD_SIZE"]):
        time.sleep(1)


def processes_here(settings: Any) -> int:
    """How many processes will train on this machine, one for each device.

    Args:
        settings: of config.trainer.
    """
    devices = settings.devices
    if isinstance(devices, int) and devices > 0:
        return devices
    import torch

    return max(1, torch.cuda.device_count())


def check_machines(settings: Any) -> None:
    """Raise ConfigError if several machines are asked for, and nothing has started a process on each of them.

    Lightning would wait for the others for half an hour. Where torchrun has started more than are asked for, each
    would train alone, into one folder.

    Args:
        settings: of config.trainer.
    """
    if settings.nodes > 1 and not started_from_outside():
        raise ConfigError(
            f"trainer.nodes={settings.nodes}: start a process for each device of each machine, "
            f"with SLURM (srun, or -m hydra/launcher=submitit_slurm) or with torchrun"
        )
    started = place_in_job()[1]
    if _by_torchrun() and isinstance(settings.devices, int) and 0 < settings.devices * settings.nodes != started:
        raise ConfigError(
            f"trainer.devices={settings.devices} trainer.nodes={settings.nodes}: {started} processes were started. "
            "Say how many of them each machine has, and how many machines"
        )


def meet_on_loopback(settings: Any) -> None:
    """Before Lightning starts the other processes of one machine: they meet where no other machine can reach them.

    torch's own store listens on all addresses. One that is there already, it uses as if torchrun had made it. Gloo,
    which joins the processes on CPUs, listens there too; of NCCL that is not said.

    Args:
        settings: of config.trainer.

    Raises:
        ConfigError: see `check_machines`.
    """
    global _store
    check_machines(settings)
    if settings.nodes > 1 or str(settings.devices) == "1" or started_from_outside() or "MASTER_PORT" in os.environ:
        return
    import torch.distributed as dist

    listener = socket.create_server((LOOPBACK, 0))
    port = listener.getsockname()[1]
    _store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    os.environ |= {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    if "lo" in [name for _, name in socket.if_nameindex()]:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def decide(what: Callable[[], str], shared: Path, patience: float = PATIENCE) -> str:
    """What `what` returns in the first process, where alone it is called.

    Args:
        shared: a folder that the processes of all machines see.
        patience: seconds that the others wait.

    Raises:
        ConfigError: the first process has not decided in time, for example because it failed.
    """
    number = next(_number)
    if _by_torchrun():
        return _through_store(what, f"mnv2/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{number}", patience)
    if _by_slurm():
        job = "-".join(os.environ.get(f"SLURM_{part}", "0") for part in ("JOB_ID", "STEP_ID", "RESTART_COUNT"))
        return _through_file(what, shared / f".job-{job}-{number}", patience)
    return what()


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def _by_slurm() -> bool:
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1


def _through_store(what: Callable[[], str], key: str, patience: float) -> str:
    import torch.distributed as dist  # seconds, which --help can do without

    store = _connected(patience)
    if int(os.environ["RANK"]) == 0:
        store.set(key, what())
    try:
        return store.get(key).decode()
    except dist.DistStoreError:
        raise _undecided(patience) from None


def _connected(patience: float = PATIENCE) -> Any:
    """To the store that torchrun serves."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    wait = timedelta(seconds=patience)
    return dist.TCPStore(address, port, is_master=False, timeout=wait)  # pyright: ignore[reportPrivateImportUsage]


def _through_file(what: Callable[[], str], file: Path, patience: float) -> str:
    if int(os.environ["SLURM_PROCID"]) == 0:
        answer = what()
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as content:
            content.write(answer.encode())
        return answer
    deadline = time.monotonic() + patience
    while not file.is_file():
        if time.monotonic() > deadline:
            raise _undecided(patience)
        time.sleep(0.1)
    return file.read_text(encoding="utf-8")


def _undecided(patience: float) -> ConfigError:
    return ConfigError(
        f"the first process of this job named no run folder within {patience:.0f} s; its own log says why. "
        f"runs=<folder> must be a folder that all machines share"
    )
