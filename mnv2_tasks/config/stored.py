"""Configs that former code wrote, those of runs and passports: what they need that is gone, and what may be changed."""

import importlib
import inspect
import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from mnv2_tasks import __version__
from mnv2_tasks.config.words import CONF, GROUPS, check_value, is_data_of_task, options_of
from mnv2_tasks.errors import ConfigError

PLACE = ("workers", "trainer.accelerator", "trainer.save_every", "trainer.save_every_steps", "eval.backend", "debug")
MAY_CHANGE = {  # of a run that is gone on with or repeated, and the roots of its data
    "resume": ("resume", "epochs", "trainer.validate_every", "trainer.precision", "trainer.compile", *PLACE),
    "repeat": ("repeat", "runs", *PLACE),
}


class Gone(NamedTuple):
    last: str  # the last version that has it
    instead: str  # what replaced it


GONE = {  # what stored configs may need, as a command line says it, or a `_target_`
    "norm_statistics=per_task": Gone(
        "0.1", "all tasks share the backbone's batch norms; train anew, each task apart if their data differ much"
    ),
}


def check_stored(config: Mapping[str, Any], version: str | None, source: Path) -> None:
    """Raise a ConfigError if a stored config needs what this version no longer has.

    Args:
        config: resolved, of a run or of the passport of weights.
        version: the one that wrote it; None: it recorded none.
        source: the file.
    """
    needed = [f"{key}={value}" for key, value in dotted(config).items() if f"{key}={value}" in GONE]
    needed += _missing(config)
    if needed:
        raise gone(needed[0], version, source)


def check_choices(choices: Mapping[str, Any], version: str | None, source: Path) -> None:
    """Raise a ConfigError if a stored config was made of a file of conf/ that this version no longer has."""
    for group, option in choices.items():
        if group in GROUPS and option not in options_of(group):
            remedy = "use the version that wrote it, or name the folder of your own choices: MNV2_CONF=<folder>"
            raise gone(f"{group}={option}", version, source, remedy)


def gone(needed: str, version: str | None, source: Path, remedy: str = "use the version that wrote it") -> ConfigError:
    """The error to raise where a stored config needs what there is no longer, or not here."""
    what = f"{source}: was written by {f'version {version}' if version else 'a version before 0.2'} and needs {needed}"
    if needed not in GONE:
        return ConfigError(f"{what}, which version {__version__} does not have; {remedy}")
    last, instead = GONE[needed]
    return ConfigError(f"{what}, which is gone: {instead}. Version {last} is the last that reads it")


def _missing(config: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Code of this package that a config names and that there is no longer, and arguments that it takes no longer."""
    target = str(config.get("_target_"))
    ours = target.startswith("mnv2_tasks.")
    parameters = _parameters(target) if ours else None
    if ours and parameters is None:
        yield target
        return
    for key, value in config.items():
        if parameters is not None and key != "_target_" and key not in parameters:
            yield f"{where}{key}={value}"
        elif isinstance(value, Mapping):
            yield from _missing(value, f"{where}{key}.")


def _parameters(target: str) -> Mapping[str, inspect.Parameter] | None:
    """What a class or function of this package takes; None where it is no longer there."""
    module, _, name = target.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mnv2_tasks"):
            return None
        raise  # an optional package
    return inspect.signature(getattr(found, name)).parameters if hasattr(found, name) else None


def config_of_run(overrides: list[str]) -> DictConfig | None:
    """That of the run which `resume=`, `run=` or `repeat=` names; None where there is none of them.

    Raises:
        ConfigError: it is not a run, or needs what is gone.
    """
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.key_or_group in ("resume", "run") and override.value():
            run = Path(str(override.value()))
            path = run / "config.yaml"
            if not path.is_file():
                raise ConfigError(
                    f"{override.key_or_group}={run}: not a run folder, {path} does not exist. "
                    f"Run folders are made by tools/train.py, as runs/<task>/<data>-<backbone>-<n>"
                )
            return _completed(load_config(path), _version_of(run), path)
        if override.key_or_group == "repeat" and override.value():
            run = Path(str(override.value()))
            path = run / "run.json" if run.is_dir() else run
            return _completed(*_described_config(run, path), path)
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


def _described_config(run: Path, path: Path) -> tuple[DictConfig, str | None]:
    """The configuration in the run.json of a run, and the version that wrote it."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        return DictConfig(description["config"]), description.get("version")
    except FileNotFoundError:
        raise ConfigError(f"repeat={run}: not a run, {path} does not exist") from None
    except (ValueError, KeyError, TypeError):  # bad bytes and bad JSON are both ValueErrors
        raise ConfigError(f"repeat={run}: {path} is no run.json, or an old one, without the configuration") from None


def _version_of(run: Path) -> str | None:
    """The version that wrote a run folder, if its run.json says so."""
    try:
        return json.loads((run / "run.json").read_text(encoding="utf-8")).get("version")
    except (OSError, ValueError):
        return None


def _completed(stored: DictConfig, version: str | None, source: Path) -> DictConfig:
    """A run's config with the defaults of the keys that came after it, and without the keys that are gone."""
    content: Any = OmegaConf.to_container(stored)
    check_stored(content, version, source)
    defaults = load_config(CONF / "train.yaml")
    later: dict[str, Any] = {
        "trainer": load_config(CONF / "trainer" / "default.yaml"),
        "optim": {"decay_depthwise": True},
    }
    if "logger" not in stored:  # merged with another, it would be a mixture
        later["logger"] = load_config(CONF / "logger" / "tensorboard.yaml")
    gone_keys = {needed.partition("=")[0] for needed in GONE}
    merged = OmegaConf.merge(without(defaults, {"defaults", "choices", "hydra"}), later, without(stored, gone_keys))
    return cast(DictConfig, merged)


def without(config: DictConfig, keys: Container[str]) -> DictConfig:
    """A copy that lacks these keys."""
    return OmegaConf.masked_copy(config, [key for key in map(str, config) if key not in keys])


def load_config(path: Path) -> DictConfig:
    """
    Raises:
        ConfigError: the file holds no configuration.
    """
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig):
        raise ConfigError(f"{path}: expected a mapping of keys to values, as tools/train.py writes it")
    return config


def dotted(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"optimizer": {"lr": 0.004}}} -> {"optim.optimizer.lr": 0.004}; lists and empty groups are values."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
