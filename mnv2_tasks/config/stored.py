"""The config of a run that is evaluated, gone on with or repeated, and what may be changed of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from mnv2_tasks.config.words import CONF, GROUPS, check_value, is_data_of_task
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.passport import refuse_what_is_gone

PLACE = ("workers", "trainer.accelerator", "trainer.save_every", "trainer.save_every_steps", "eval.backend", "debug")
MAY_CHANGE = {  # of a run that is gone on with or repeated, and the roots of its data
    "resume": ("resume", "epochs", "trainer.validate_every", "trainer.precision", "trainer.compile", *PLACE),
    "repeat": ("repeat", "runs", *PLACE),
}


def stored_config(overrides: list[str]) -> DictConfig | None:
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.key_or_group in ("resume", "run") and override.value():
            path = Path(str(override.value())) / "config.yaml"
            if not path.is_file():
                raise ConfigError(
                    f"{override.key_or_group}={override.value()}: not a run folder, {path} does not exist. "
                    f"Run folders are made by tools/train.py, as runs/<task>/<data>-<backbone>-<n>"
                )
            return _completed(OmegaConf.load(path), path)
        if override.key_or_group == "repeat" and override.value():
            path = Path(str(override.value()))
            return _completed(_described_config(path), path)
    return None


def update(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Plain values on top of a run's config; its groups were chosen when it was made."""
    with open_dict(config):
        config.setdefault("run", None)
        config.setdefault("out", None)
    parsed = OverridesParser.create().parse_overrides(overrides)
    for override in parsed:
        key = override.key_or_group
        if key in (*GROUPS, "recipe") or is_data_of_task(key):
            raise ConfigError(f"{override.input_line}: the run has its own {key}; start a new run to change it")
        check_value(override, config)
        _check_change(override, parsed)
        OmegaConf.update(config, key, override.value())
        if key == "epochs" and "epochs" in config.schedule.shape:  # stored resolved, as below
            config.schedule.shape.epochs = override.value()
        data, _, name = key.rpartition(".")  # stored resolved: the source no longer follows the keys of its data
        if data.startswith("data") and name in (OmegaConf.select(config, f"{data}.source") or {}):
            OmegaConf.update(config, f"{data}.source.{name}", override.value())
    OmegaConf.set_struct(config, True)
    return config


def _check_change(override: Override, overrides: list[Override]) -> None:
    """Refuse what would make a run that is gone on with, or repeated, another one."""
    key = override.key_or_group
    for how, allowed in MAY_CHANGE.items():
        if any(o.key_or_group == how and o.value() for o in overrides):
            if key not in allowed and not (key.startswith("data.") and key.endswith(".root")):
                why = "the optimizer's state would not follow" if how == "resume" else "it would be another run"
                raise ConfigError(
                    f"{override.input_line}: cannot change with {how}=, {why}. "
                    f"Start a new run for it; {how}= takes {', '.join(allowed[1:])} and data.root"
                )


def _described_config(run: Path) -> DictConfig:
    """The configuration in the run.json of a run, which is given as its folder or as that file."""
    path = run / "run.json" if run.is_dir() else run
    try:
        return OmegaConf.create(json.loads(path.read_text())["config"])
    except FileNotFoundError:
        raise ConfigError(f"repeat={run}: not a run, {path} does not exist") from None
    except (ValueError, KeyError, TypeError):  # bad bytes and bad JSON are both ValueErrors
        raise ConfigError(f"repeat={run}: {path} is no run.json, or an old one, without the configuration") from None


def _completed(stored: DictConfig, path: Path) -> DictConfig:
    """A run's config, with the defaults of the keys that did not exist when it was made."""
    refuse_what_is_gone(stored, str(path))
    defaults = OmegaConf.load(CONF / "train.yaml")
    kept = [key for key in defaults if key not in ("defaults", "choices", "hydra")]
    later = {"trainer": OmegaConf.load(CONF / "trainer" / "default.yaml"), "optim": {"decay_depthwise": True}}
    return OmegaConf.merge(OmegaConf.masked_copy(defaults, kept), later, stored)


def dotted(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"optimizer": {"lr": 0.004}}} -> {"optim.optimizer.lr": 0.004}; lists and empty groups are values."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
