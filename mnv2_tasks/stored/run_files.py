"""What lies in a run folder, read: its configuration, its description and its scores."""

from pathlib import Path
from typing import Any

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_json, read_yaml
from mnv2_tasks.stored.argument_types import fits
from mnv2_tasks.stored.checked_config import TARGET, at, check_config

SECTIONS = ("optim", "schedule", "trainer", "data", "loss_weights")  # of a whole config, beside what a network needs
PARTS = ("optim.optimizer", "schedule.shape")
TABLES = {  # of run.json
    "data_fingerprint": dict[str, str], "class_names": dict[str, list[str]], "versions": dict[str, str],
    "data_sizes": dict[str, dict[str, int]], "hardware": dict, "result": dict, "config": dict, "resumed": list[dict],
    "version": str | None, "started_from": str, "initial_weights": str | None, "precision": str | int,
}  # fmt: skip


def read_config(path: Path, version: str | None = None, *, trust: bool = False) -> dict[str, Any]:
    """The configuration in a config.yaml, checked.

    Raises:
        ConfigError: the file is not there, is damaged, or names what a run's configuration cannot.
    """
    return check_run_config(read_yaml(path), version, path, trust=trust)


def check_run_config(config: Any, version: str | None, path: Path, *, trust: bool = False) -> dict[str, Any]:
    """The configuration of a run out of `path`, a config.yaml or a run.json."""
    check_config(config, version, str(path), trust=trust)
    for section in SECTIONS:
        if not isinstance(config.get(section), dict):
            raise ConfigError(f"{path}: has no {section}, it is no configuration of a run")
    data = {f"data.{task}" if task in config["data"] else "data" for task in config["tasks"]}
    for group in sorted(data):
        if not fits(at(config, f"{group}.augmentation"), dict[str, str | list[str | dict[str, dict | None]]]):
            raise ConfigError(f"{path}: {group}.augmentation: expected a preset, or a list, for each kind of task")
    for part in (*PARTS, *(f"{group}.source" for group in sorted(data))):
        if not isinstance(at(config, f"{part}.{TARGET}"), str):
            raise ConfigError(f"{path}: {part}: has no {TARGET}, it names no part")
    return config


def read_description(run: Path) -> dict[str, Any]:
    """The run.json of a run, given as its folder or as that file; its configuration is not checked.

    Raises:
        ConfigError: it is not there, damaged, or not that of a run.
    """
    path = run / "run.json" if run.is_dir() else run
    described = read_json(path)
    if not isinstance(described, dict):
        raise ConfigError(f"{path}: is not the description of a run")
    for key, expected in TABLES.items():
        if key in described and not fits(described[key], expected):
            raise ConfigError(f"{path}: {key}: is not what a run writes there")
    return described


def read_scores(path: Path) -> dict[str, Any]:
    """A metrics.json: {name: number, nothing where it could not be told, or {class: number}}, and their precision.

    Raises:
        ConfigError: it is not there, damaged, or holds something else.
    """
    scores = read_json(path)
    if not fits(scores, dict[str, float | dict[str, float | None] | str | None]):
        raise ConfigError(f"{path}: is not what an evaluation writes: numbers under names")
    return scores
