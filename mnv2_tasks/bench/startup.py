"""Seconds from the command to its help and to the end of the first training step, beside those of the imports alone."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from omegaconf import DictConfig

from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import DataError

IMPORTS = "import torch, torchvision, lightning, hydra"
END = "import os; os._exit(0)"  # without taking down what was built up, which is not start-up
TINY = [
    "width=0.35", "weights=none", "imgsz=64", "batch=2", "workers=0", "epochs=1",
    "data.source.train_size=4", "data.source.val_size=4", "trainer.accelerator=cpu",
]  # fmt: skip
# what tools/train.py does, up to the moment at which its first step has changed the weights
TO_FIRST_STEP = f"""
from mnv2_tasks.config.compose import launch

def first_step(*_):
    {END}

def run(config):
    from mnv2_tasks.training.train import train
    from mnv2_tasks.training.callbacks import EpochPlan
    EpochPlan.on_train_batch_end = first_step
    train(config)

launch("train", run)
"""


class Seconds(NamedTuple):
    wall: float
    cpu: float  # of all threads; on a machine with other work the steadier one


def measure(config: DictConfig, out: Path) -> list[Table]:
    """The imports, --help and the first step of a small run of each kind, by turns, each in a process of its own."""
    rounds = config.repeats or (1 if config.quick else 7)
    environment = os.environ | ({"OMP_NUM_THREADS": str(config.threads)} if config.threads else {})
    with TemporaryDirectory() as folder:
        commands = {IMPORTS: ["-c", f"{IMPORTS}; {END}"], "train.py --help": ["-m", "mnv2_tasks", "train", "--help"]}
        for task in ["classification"] if config.quick else ["classification", "ssdlite", "mobile_deeplabv3"]:
            commands[f"train.py task={task}, first step"] = first_step(task, Path(folder))
        if not config.quick:
            for command in commands.values():  # so that all find their files in memory
                _run(command, environment)
        taken: dict[str, list[Seconds]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                taken[name].append(_run(command, environment))
        beyond = _imported_beyond(commands[IMPORTS], list(commands.values())[-1], environment)
    base = taken[IMPORTS]
    rows = []
    for name, seconds in taken.items():
        ratios = [Seconds(s.wall / b.wall, s.cpu / b.cpu) for s, b in zip(seconds, base)]
        walls, cpus = [s.wall for s in seconds], [s.cpu for s in seconds]
        rows.append([name, median(walls), median(cpus), median(r.wall for r in ratios), median(r.cpu for r in ratios)])
    times = Table(
        f"start-up: median of {rounds} rounds, by turns",
        ["command", "wall, s", "processor, s", "times the imports, wall", "times the imports, processor"],
        rows,
        ["A first step has read and verified the data, counted the network, checked the validation and logged."],
    )
    imported = Table(
        "what the last of them imports beyond that line",
        ["package", "modules", "ms", "% of that line"],
        beyond[:8],
        ["Each module's own time, from python -X importtime."],
    )
    return [times, imported]


def first_step(task: str, runs: Path) -> list[str]:
    """Arguments for Python: a small run of the task that ends with its first step."""
    return ["-c", TO_FIRST_STEP, f"task={task}", *TINY, f"runs={runs}"]


def _run(arguments: list[str], environment: dict[str, str]) -> Seconds:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)  # wait() tells no processor time
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise DataError(f"python {' '.join(arguments)[:80]}...: ended with {process.returncode}\n{said[-2000:]}")
    return Seconds(wall, used.ru_utime + used.ru_stime)


def _imported_beyond(base: list[str], command: list[str], environment: dict[str, str]) -> list[list]:
    """A row [package, modules, ms, percent of `base`] of each package that `command` imports more of, longest first."""
    before, after = (_import_times(arguments, environment) for arguments in (base, command))
    packages: dict[str, list[float]] = {}
    for name in after.keys() - before.keys():
        packages.setdefault(name.split(".")[0], []).append(after[name])
    whole = sum(before.values())
    rows = [[name, len(ms), sum(ms), 100 * sum(ms) / whole] for name, ms in packages.items()]
    return sorted(rows, key=lambda row: -row[2])


def _import_times(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """{module: its own milliseconds}"""
    run = [sys.executable, "-X", "importtime", *arguments]
    lines = subprocess.run(run, env=environment, capture_output=True, text=True).stderr.splitlines()
    found = (re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", line) for line in lines)
    return {match[2]: int(match[1]) / 1000 for match in found if match}
