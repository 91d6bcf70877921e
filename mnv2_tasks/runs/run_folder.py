"""runs/<task>/<data>-<backbone>-<n>/, or <name>/: what a run leaves, and what is needed to repeat it."""

import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from mnv2_tasks import __version__
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs import processes as ranks
from mnv2_tasks.runs.stopping import say
from mnv2_tasks.shipped import CHECKOUT
from mnv2_tasks.whole_files import written_whole
from mnv2_tasks.wording import VisibleFormatter, visible

NEEDED_BYTES = 200 * 2**20  # two checkpoints with optimizer state, logs and pictures of a large backbone
NAME = re.compile(r"\w([\w.+-]{0,98}[\w+-])?")  # of a folder on any system: no separators, no dot at its ends
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
        raise _not_made(parent, error) from None
    check_writable(folder)
    return folder


def check_name(config: DictConfig) -> None:
    """Refuse a `name` that cannot be that of a new run folder.

    Raises:
        ConfigError: it is no plain name, or the folder is there.
    """
    if config.name is None:
        return
    if not NAME.fullmatch(config.name):
        raise ConfigError(
            f"name={visible(config.name)}: expected letters, digits, and . _ + - between them; runs=<folder> says where"
        )
    folder = _parent(config) / config.name
    if os.path.lexists(folder) and ranks.is_first() and "MNV2_RUN_FOLDER" not in os.environ:
        raise _taken(folder)


def _parent(config: DictConfig) -> Path:
    return Path(config.runs) / config.choices.task


def _taken(folder: Path) -> ConfigError:
    return ConfigError(
        f"{folder}: is there already, and nothing is overwritten. Choose another name=, or go on with that run: "
        f"resume={folder}"
    )


def _named_folder(folder: Path) -> Path:
    """Make it, as `next_folder` does."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise _taken(folder) from None
    except OSError as error:
        raise _not_made(folder.parent, error) from None
    check_writable(folder)
    return folder


def _not_made(parent: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{parent}: cannot make a run folder there ({error.strerror}). Choose another place with runs=<folder>"
    )


def make_folder(out: str | None, parent: Path, *, unless: str | None = None) -> Path:
    """A folder for results: `out`, or `<parent>/<n>` with the first free n.

    Args:
        unless: a file that says, where it lies in `out`, that more may be written there, by several processes too.

    Raises:
        ConfigError: `out` holds files already, which might be the user's photos, or the folder cannot be made.
    """
    folder = Path(os.path.expanduser(out)) if out else parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not out:
            number = 1 + max((int(p.name) for p in parent.iterdir() if p.name.isdecimal()), default=0)
            folder = parent / str(number)
            folder.mkdir()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror}); choose another place with out=") from None
    there = [path for path in folder.iterdir() if not (unless and path.suffix == ".part")]
    if there and not (unless and (folder / unless).is_file()):
        raise ConfigError(f"out={out}: is not empty, and nothing is overwritten; choose another folder")
    return folder


def run_folder_of(config: DictConfig) -> Path:
    """A new run folder. Lightning starts the other processes of a node anew; they find it in the environment.

    Raises:
        ConfigError: several machines are asked for, and nothing has started a process on each of them.
    """
    parent, stem = _parent(config), f"{config.choices.data}-{config.choices.backbone}"

    def made() -> Path:
        return _named_folder(parent / config.name) if config.name else next_folder(parent, stem)

    if ranks.started_from_outside():
        return Path(ranks.decide(lambda: str(made()), parent))
    ranks.check_machines(config.trainer)
    if "MNV2_RUN_FOLDER" not in os.environ:
        folder = made()
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


def config_to_keep(config: DictConfig) -> dict[str, Any]:
    """Resolved, as a run keeps it: what went on with a run, or repeated one, does not ask for that again."""
    content: Any = OmegaConf.to_container(config, resolve=True)
    stored = {**content, "resume": None, "repeat": None, "name": None}
    return {key: value for key, value in stored.items() if key not in ("run", "out", "split", "trust")}  # of the call


def write_config(folder: Path, config: DictConfig) -> None:
    with written_whole(folder / "config.yaml") as file:
        file.write(OmegaConf.to_yaml(OmegaConf.create(config_to_keep(config))).encode())


def describe_run(
    *,
    config: DictConfig,
    fingerprints: dict[str, str],
    data_sizes: dict[str, dict[str, int]],
    class_names: dict[str, list[str]],
    precision: str,
    weights: str,
    initial_weights: str,
) -> dict[str, Any]:
    """All that it takes to repeat the run: configuration, versions, code, machine, data."""
    cuda = torch.cuda.is_available()
    return {
        "command": command_line(),
        "version": __version__,
        "git_commit": git_commit(),
        "seed": config.seed,
        "precision": precision,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "hardware": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if cuda else None,
        },
        "data_fingerprint": fingerprints,
        "data_sizes": data_sizes,
        "started_from": weights,
        "initial_weights": initial_weights,
        "class_names": class_names,
        "config": config_to_keep(config),
    }


def command_line() -> str:
    """As it was typed, but for the path of mnv2; quoted where a shell needs it."""
    program = Path(sys.argv[0])
    if program.parent.name == "mnv2_tasks":
        called = "python -m mnv2_tasks"
    else:
        called = "mnv2" if program.stem == "mnv2" else shlex.join(["python", str(program)])
    return " ".join([called, *map(shlex.quote, sys.argv[1:])])


def git_commit() -> str | None:
    """The commit of the project's own checkout, with a + if it has uncommitted changes."""
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():  # installed, or a copy in somebody else's repository
        return None
    try:
        run = ["git", "-C", str(CHECKOUT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        return subprocess.run(run, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # without git
        return None


class _LogFile(logging.FileHandler):
    """A run goes on without it where the disk is full: its checkpoints will tell."""

    def handleError(self, record: logging.LogRecord) -> None:
        logging.getLogger("mnv2_tasks").removeHandler(self)
        say(f"{self.baseFilename}: the log ends here, it cannot be written ({sys.exc_info()[1]})")


def start_log(path: Path) -> None:
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(VisibleFormatter("%(asctime)s %(message)s"))
    root = logging.getLogger("mnv2_tasks")
    root.setLevel(logging.INFO)
    for old in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
