"""The configs of runs that are gone on with, evaluated or repeated: completed, and what of them may be changed."""

import logging
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from mnv2_tasks.config.words import CONF, GROUPS, check_value, is_data_of_task, options_of, typed
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.stored.checked_config import GONE, check_places, gone
from mnv2_tasks.stored.run_files import check_run_config, read_config, read_description

log = logging.getLogger(__name__)

PLACE = (
    "workers", "trainer.accelerator", "trainer.save_every", "trainer.save_every_steps",
    "eval.backend", "eval.precision", "debug",
)  # fmt: skip
MAY_CHANGE = {  # of a run that is gone on with or repeated, and the roots of its data
    "resume": (
        "resume", "epochs", "trainer.patience", "trainer.validate_every", "trainer.precision", "trainer.compile",
        *PLACE,
    ),
    "repeat": ("repeat", "runs", "name", *PLACE),
}  # fmt: skip
OF_THE_CALL = ("run", "out", "split", "resume", "repeat", "name", "trust")  # never taken from a file


def check_choices(choices: Mapping[str, Any], version: str | None, source: str) -> None:
    """Raise a ConfigError if a stored config was made of a file of conf/ that this version no longer has."""
    for group, option in choices.items():
        if group in GROUPS and option not in options_of(group):
            remedy = "use the version that wrote it, or name the folder of your own choices: MNV2_CONF=<folder>"
            raise gone(f"{group}={option}", version, source, remedy)


def config_of_run(overrides: list[str]) -> DictConfig | None:
    """That of the run which `resume=`, `run=` or `repeat=` names; None where there is none of them.

    Raises:
        ConfigError: it is not a run, or needs what is gone.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    trust = any(override.key_or_group == "trust" and override.value() is True for override in parsed)
    for override in parsed:
        if override.key_or_group in ("resume", "run") and override.value():
            run = Path(typed(str(override.value())))
            path = run / "config.yaml"
            if not path.is_file():
                raise ConfigError(
                    f"{override.key_or_group}={run}: not a run folder, {path} does not exist. "
                    f"Run folders are made by tools/train.py, runs/<task>/<data>-<backbone>-<n> or <name>"
                )
            version = read_description(run).get("version") if (run / "run.json").is_file() else None
            return _completed(read_config(path, version, trust=trust))
        if override.key_or_group == "repeat" and override.value():
            run = Path(typed(str(override.value())))
            return _completed(_repeated_config(run, trust=trust))
    return None


def update(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Plain values on top of a run's config; its groups were chosen when it was made."""
    with open_dict(config):
        config.setdefault("run", None)
        config.setdefault("out", None)
        config.setdefault("split", None)
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
    content: Any = OmegaConf.to_container(config)
    check_places(content, "the run's configuration", [override.value() for override in parsed])
    OmegaConf.set_struct(config, True)
    return config


def _check_change(override: Override, overrides: list[Override]) -> None:
    """Refuse what would make a run that is gone on with, or repeated, another one."""
    key = override.key_or_group
    for how, allowed in MAY_CHANGE.items():
        if any(o.key_or_group == how and o.value() for o in overrides):
            if key not in allowed and not (key.startswith("data.") and key.endswith(".root")):
                why = "the optimizer's state would not follow" if how == "resume" else "it would be another run"
                why = "it goes on in its own folder" if key in ("name", "runs") else why
                raise ConfigError(
                    f"{override.input_line}: cannot change with {how}=, {why}. "
                    f"Start a new run for it; {how}= takes {', '.join(allowed[1:])} and data.root"
                )


def _repeated_config(run: Path, *, trust: bool) -> dict[str, Any]:
    """The configuration in the run.json of a run, which is made again where the user is."""
    path = run / "run.json" if run.is_dir() else run
    if not path.is_file():
        raise ConfigError(f"repeat={run}: not a run, {path} does not exist")
    try:
        description = read_description(run)
    except ConfigError as error:
        raise ConfigError(f"repeat={run}: {error}") from None
    if "config" not in description:
        raise ConfigError(f"repeat={run}: {path} is an old one, without the configuration")
    config = check_run_config(description["config"], description.get("version"), path, trust=trust)
    runs = Path(config.get("runs", ""))
    if not trust and (runs.is_absolute() or ".." in runs.parts):
        log.info("its folder is made in runs/, not in %s, which the file names; runs=<folder> says another", runs)
        config = {key: value for key, value in config.items() if key != "runs"}
    return config


def _completed(stored: dict[str, Any]) -> DictConfig:
    """A run's config with the defaults of the keys that came after it, and without the keys that are gone."""
    from mnv2_tasks.data.images.deep import FULL  # NumPy, which --help can do without
    from mnv2_tasks.weights.passport import backbone_settings

    defaults = load_config(CONF / "train.yaml")
    later: dict[str, Any] = {
        "trainer": load_config(CONF / "trainer" / "default.yaml"),
        "optim": {"decay_depthwise": True, "decay_norms": False},
        "backbone": backbone_settings(stored["backbone"]),
        "input": {"white": FULL},
        "ema_warmup": False,
        "eval": {"precision": None},  # that of training
    }
    if "logger" not in stored:  # merged with another, it would be a mixture
        later["logger"] = load_config(CONF / "logger" / "tensorboard.yaml")
    dropped = {*OF_THE_CALL, *(needed.partition("=")[0] for needed in GONE)}
    still = {key: value for key, value in stored.items() if key not in dropped}
    return cast(DictConfig, OmegaConf.merge(without(defaults, {"defaults", "choices", "hydra"}), later, still))


def without(config: DictConfig, keys: Container[str]) -> DictConfig:
    """A copy that lacks these keys."""
    return OmegaConf.masked_copy(config, [key for key in map(str, config) if key not in keys])


def load_config(path: Path) -> DictConfig:
    """A file of conf/.

    Raises:
        ConfigError: it holds no configuration.
    """
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig):
        raise ConfigError(f"{path}: expected a mapping of keys to values")
    return config
