"""The data that a run was trained on, for an export of its weights: their passport names them, and not their place."""

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.stored.checked_config import TARGET, at, check_places
from mnv2_tasks.stored.run_files import read_config

log = logging.getLogger(__name__)


def put_in_data(config: DictConfig, weights: Path, said: Collection[str], *, trust: bool) -> None:
    """Where weights lie in a run folder, the settings of its data, which the user's own stand before.

    The place is that of the run, if something is there; else what `config` has by MNV2_DATA, or none.

    Args:
        config: of an export, not resolved yet.
        said: keys that the user set.
    """
    run = weights.parent.parent if weights.parent.name == "checkpoints" else weights.parent
    path = run / "config.yaml"
    if not path.is_file():
        return
    try:
        stored = read_config(path, trust=trust)
        check_places(stored, str(path))
    except ConfigError as error:  # the weights themselves do without it
        log.info("the data of this run are not taken from its config.yaml: %s", error)
        return
    for group in dict.fromkeys(f"data.{task}" if task in config.data else "data" for task in config.tasks):
        _put_in(config, group, _of(stored, config, group), said, path)


def _of(stored: dict[str, Any], config: DictConfig, group: str) -> dict[str, Any]:
    """The run's settings of the same data; none where the user chose others."""
    task = group.removeprefix("data.") if group != "data" else next(iter(config.tasks))
    chosen = OmegaConf.select(config, f"choices.datasets.{task}") or config.hydra.runtime.choices["data"]
    its = at(stored["choices"], f"datasets.{task}") or stored["choices"]["data"]
    return stored["data"].get(task, stored["data"]) if chosen == its else {}


def _put_in(config: DictConfig, group: str, settings: dict[str, Any], said: Collection[str], path: Path) -> None:
    ours: Any = OmegaConf.select(config, group)
    values = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    values |= {f"source.{key}": value for key, value in settings.get("source", {}).items()}
    root = values.pop("root", None)
    for key, value in values.items():
        parent, _, last = key.rpartition(".")
        within = OmegaConf.select(ours, parent) if parent else ours
        if last == TARGET or last not in within or OmegaConf.is_interpolation(within, last):
            continue  # what is read of another key follows it
        if f"{group}.{key}" not in said:
            OmegaConf.update(within, last, value, merge=False)
    if root is None or f"{group}.root" in said or "root" not in ours:
        return
    if os.path.exists(os.path.expanduser(str(root))):
        OmegaConf.update(ours, "root", root)
        log.info("%s.root=%s, where the run's own data lie by %s", group, root, path)
    else:
        known = f"; MNV2_DATA is taken, {ours.root}" if ours.root else ""
        log.info("%s.root=%s of %s is not there%s; %s.root=<folder> says where it is", group, root, path, known, group)
