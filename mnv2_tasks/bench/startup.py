"""what=startup: seconds from the command to its help and to the end of the first training step, beside the imports."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from omegaconf import DictConfig

from mnv2_tasks.drawing.table import Table
from mnv2_tasks.network.latency import by_turns, times_as_fast

IMPORTS = "import torch, torchvision, lightning, hydra"
END = "import os; os._exit(0)"  # without taking down what was built up, which is not start-up
TINY = ["width=0.35", "weights=none", "imgsz=64", "batch=2", "workers=0", "epochs=1", "trainer.accelerator=cpu"]
TINY += ["data.source.train_size=4", "data.source.val_size=4"]
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


def measure(config: DictConfig) -> list[Table]:
    """The imports, --help and the first step of a small run of each kind, by turns, each in a process of its own."""
    tasks = ["classification"] if config.quick else ["classification", "ssdlite", "mobile_deeplabv3"]
    rounds, warmup = config.repeats or (1 if config.quick else 7), 0 if config.quick else 1
    environment = os.environ | ({"OMP_NUM_THREADS": str(config.threads)} if config.threads else {})
    with TemporaryDirectory() as folder:
        commands = {"imports": ["-c", f"{IMPORTS}; {END}"], "--help": ["-m", "mnv2_tasks", "train", "--help"]}
        commands |= {f"task={task}": first_step(task, Path(folder)) for task in tasks}
        run = partial(subprocess.run, env=environment, stdout=subprocess.DEVNULL, check=True)
        calls = {name: partial(run, [sys.executable, *arguments]) for name, arguments in commands.items()}
        taken = by_turns(calls, rounds=rounds, warmup=warmup)
        traced = partial(run, stderr=subprocess.PIPE, text=True)
        told = {name: traced([sys.executable, "-X", "importtime", *rest]).stderr for name, rest in commands.items()}
    rows = [[name, slowest(told[name]), median(s), times_as_fast(taken["imports"], s)] for name, s in taken.items()]
    return [
        Table(
            "Start-up",
            ["mnv2 train", "slowest imports, s", "wall, s", "times imports"],
            rows,
            [
                f"Medians of {rounds} rounds by turns, to the end of the first step, which has read and verified the "
                f"data, counted the network, checked the validation and logged; imports: {IMPORTS}. "
                "The slowest as -X importtime tells them, in one more run: with all that they import first."
            ],
            text_columns=2,
        )
    ]


def slowest(told: str) -> str:
    """Of what `-X importtime` wrote, which begins with a heading, the three libraries that took most."""
    rows = [line.split("|") for line in told.splitlines() if line.startswith("import time:") and line.count("|") == 2]
    libraries = sorted(((int(us), name.strip()) for _, us, name in rows[1:] if "." not in name), reverse=True)
    return ", ".join(f"{name}={us / 1e6:.2f}" for us, name in libraries[:3])


def first_step(task: str, runs: Path) -> list[str]:
    """Arguments for Python: a small run of the task that ends with its first step."""
    return ["-c", TO_FIRST_STEP, f"task={task}", *TINY, f"runs={runs}"]
