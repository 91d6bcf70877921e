"""runs/<task>/<data>-<backbone>-<n>/: what a run leaves, and what is needed to repeat it."""

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.errors import ConfigError

NEEDED_BYTES = 200 * 2**20  # two checkpoints with optimizer state, logs and pictures of a large backbone
PACKAGES = ["torch", "torchvision", "lightning", "hydra-core", "albumentations", "pycocotools", "numpy"]


def next_folder(parent: Path, stem: str) -> Path:
    """Make `<parent>/<stem>-<n>` with the first free n, so that nothing is overwritten.

    Raises:
        ConfigError: the folder cannot be made or written, or its disk is nearly full.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [p.name.removeprefix(f"{stem}-") for p in parent.glob(f"{stem}-*")]
        number = 1 + max((int(n) for n in taken if n.isdigit()), default=0)
        folder = parent / f"{stem}-{number}"
        folder.mkdir()
    except OSError as error:
        raise ConfigError(
            f"{parent}: cannot make a run folder there ({error.strerror}). Choose another place with runs=<folder>"
        ) from None
    check_writable(folder)
    return folder


def run_folder_of(config: DictConfig) -> Path:
    """A new run folder. Lightning starts the other processes of a node anew; they find it in the environment."""
    if "MNV2_RUN_FOLDER" not in os.environ:
        parent = Path(config.runs) / config.choices.task
        folder = next_folder(parent, f"{config.choices.data}-{config.choices.backbone}")
        if int(config.trainer.devices if str(config.trainer.devices).isdigit() else 2) > 1:
            os.environ["MNV2_RUN_FOLDER"] = str(folder)
        return folder
    return Path(os.environ["MNV2_RUN_FOLDER"])


def check_writable(folder: Path) -> None:
    """Raise ConfigError unless a run can write there: better now than at the first checkpoint."""
    try:
        probe = folder / ".probe"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder}: not writable ({error.strerror}). Choose another place with runs=<folder>"
        ) from None
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise ConfigError(
            f"{folder}: only {free >> 20} MiB free, a run needs about {NEEDED_BYTES >> 20} MiB. "
            f"Free some space, or choose another place with runs=<folder>"
        )


def write_config(folder: Path, config: DictConfig) -> None:
    """config.yaml, resolved; a resumed run's does not ask to be resumed."""
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.merge(config, {"resume": None}), resolve=True))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def describe_run(
    *, seed: int, fingerprints: dict[str, str], class_names: dict[str, list[str]], precision: str, weights: str
) -> dict[str, Any]:
    """What config.yaml does not say: versions, code, machine, data."""
    cuda = torch.cuda.is_available()
    return {
        "command": command_line(),
        "git_commit": _git_commit(),
        "seed": seed,
        "precision": precision,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "hardware": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if cuda else None,
        },
        "data_fingerprint": fingerprints,
        "started_from": weights,
        "class_names": class_names,
    }


def command_line() -> str:
    return " ".join(["python", *sys.argv])


def _git_commit() -> str | None:
    """The checkout's commit, with a + if it has uncommitted changes."""
    try:
        here = Path(__file__).parent
        run = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # installed without git, or not from a checkout
        return None


def start_log(path: Path) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    root = logging.getLogger("mnv2_tasks")
    root.setLevel(logging.INFO)
    for old in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
