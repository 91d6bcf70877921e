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


def measure(config: DictConfig) -> list[Table]:
    """The imports, --help and the first step of a small run of each kind, by turns, each in a process of its own."""
    tasks = ["classification"] if config.quick else ["classification", "ssdlite", "mobile_deeplabv3"]
    rounds, warmup = config.repeats or (1 if config.quick else 7), 0 if config.quick else 1
    environment = os.environ | ({"OMP_NUM_THREADS": str(config.threads)} if config.threads else {})
    with TemporaryDirectory() as folder:
        commands = {IMPORTS: ["-c", f"{IMPORTS}; {END}"], "train.py --help": ["-m", "mnv2_tasks", "train", "--help"]}
        commands |= {f"train.py task={task}, first step": first_step(task, Path(folder)) for task in tasks}
        run = partial(subprocess.run, env=environment, stdout=subprocess.DEVNULL, check=True)
        calls = {name: partial(run, [sys.executable, *arguments]) for name, arguments in commands.items()}
        taken = by_turns(calls, rounds=rounds, warmup=warmup)
    return [
        Table(
            "Start-up",
            ["command", "wall, s", "times the imports, wall"],
            [[name, median(seconds), times_as_fast(taken[IMPORTS], seconds)] for name, seconds in taken.items()],
            [
                f"Medians of {rounds} rounds by turns. "
                "A first step has read and verified the data, counted the network, checked the validation and logged."
            ],
        )
    ]


def first_step(task: str, runs: Path) -> list[str]:
    """Arguments for Python: a small run of the task that ends with its first step."""
    return ["-c", TO_FIRST_STEP, f"task={task}", *TINY, f"runs={runs}"]
