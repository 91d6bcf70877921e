"""The command line -> one resolved config, with errors that name the nearest right word."""

import difflib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnv2_tasks.errors import ConfigError, DataError

CONF = Path(__file__).parent.parent / "conf"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "recipe")
PATHS = ("source", "out", "weights", "run", "resume", "repeat", "runs")  # a file may have any name, see _quoted

PLACE = ("workers", "trainer.accelerator", "trainer.save_every", "trainer.save_every_steps", "debug")
MAY_CHANGE = {  # of a run that is gone on with or repeated, and the roots of its data
    "resume": ("resume", "epochs", "trainer.validate_every", "trainer.precision", *PLACE),
    "repeat": ("repeat", "runs", *PLACE),
}


def launch(config_name: str, run: Callable[[DictConfig], None]) -> None:
    """Entry of every tool. Hydra's own flags (-m, --cfg ...) go to Hydra, everything else is composed here."""
    argv = [_quoted(arg) for arg in sys.argv[1:]]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    debug = any(arg in ("debug=true", "debug=True") for arg in argv)
    if {"-h", "--help"} & set(argv):
        return print(_help(config_name))
    try:
        if any(arg.startswith("-") for arg in argv):
            plain = [arg for arg in argv if not arg.startswith("-") and "=" in arg]  # not the job of --cfg job
            brought = _brought(plain, config_name)
            if {"-m", "--multirun"} & set(argv):
                _check(plain, config_name, brought)
            sys.argv[1:] = _data_of_tasks([*brought, *argv])
            hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(_job(run, config_name))()
        else:
            run(compose(config_name, argv))
    except (ConfigError, DataError, HydraException, OmegaConfBaseException, OSError) as error:
        if debug:
            raise
        sys.exit(f"\nerror: {_reason(error)}\n(debug=true shows where in the code)")


def _job(run: Callable[[DictConfig], None], config_name: str) -> Callable[[DictConfig], None]:
    """`run` with the config of one of a sweep's jobs, composed anew: its task's recipe brings groups of its own."""

    def job(config: DictConfig) -> None:
        run(compose(config_name, list(HydraConfig.get().overrides.task)))

    return job


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Hydra on conf/, beside the one that runs the jobs of a sweep, if there is one."""
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None
    try:
        with hydra.initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            yield
    finally:
        state.hydra = outer


def _help(config_name: str) -> str:
    """The tool's config file, whose comments explain each key, and what there is to choose from."""
    text = (CONF / f"{config_name}.yaml").read_text().split("\nhydra:")[0]
    kept = [line for line in text.splitlines() if "override hydra" not in line]
    groups = [group for group in GROUPS if config_name == "eval" or f"\n  - {group}: " in text]
    groups += ["recipe"] if groups else []
    choices = [f"#   {group}={' | '.join(_options(group))}" for group in groups]
    return "\n".join([*kept, "", "# Choices", *choices] if choices else kept)


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """The config of a tool with these overrides, resolved.

    `resume=<run>` and `run=<run>` start from that run's own config.yaml instead of from conf/, `repeat=<run>` from its
    run.json. `weights=` brings what belongs to them, such as their padding and input normalisation; what the user says
    wins.

    Raises:
        ConfigError: an unknown key or choice, a value of the wrong type, or a folder that is not a run.
    """
    overrides = [_quoted(override) for override in overrides]
    stored = _stored_config(overrides)
    if stored is not None:
        return _update(stored, overrides)
    brought = _brought(overrides, config_name)
    _check(overrides, config_name, brought)
    with _own_hydra():
        config = hydra.compose(config_name, _data_of_tasks([*brought, *overrides]), return_hydra_config=True)
    outer = HydraConfig.instance().cfg  # of a sweep, whose jobs go on resolving with it
    HydraConfig.instance().set_config(config)
    resolved = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    OmegaConf.resolve(resolved)
    HydraConfig.instance().cfg = outer
    OmegaConf.set_struct(resolved, True)
    return resolved


def _brought(overrides: list[str], config_name: str) -> list[str]:
    """Overrides that stand before the user's: what the weights bring, and the groups of the recipe."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    given = {o.key_or_group: str(o.value()) for o in parsed if not o.is_sweep_override() and o.package is None}
    if config_name not in ("train", "eval"):
        return []
    brought = _brought_by_weights(given, config_name)
    chosen = {"data": "shapes", **dict(line.split("=", 1) for line in brought), **given}
    name = given.get("recipe", f"{chosen.get('task')}_{chosen['data']}")
    recipe = CONF / "recipe" / f"{name}.yaml"
    groups = (OmegaConf.load(recipe).get("groups") or {}) if recipe.is_file() else {}
    return [*brought, *(f"{group}={option}" for group, option in groups.items() if group not in given)]


def _brought_by_weights(given: dict[str, str], config_name: str) -> list[str]:
    weights = given.get("weights", "auto")
    if weights in ("auto", "none"):
        return []
    from mnv2_tasks.checkpoint import find_weights, load_weights  # torch, which --help can do without
    from mnv2_tasks.passport import evaluation_overrides, training_overrides

    backbone = given.get("backbone", "mobilenet_v2")
    passport = load_weights(find_weights(weights, backbone)).passport
    return evaluation_overrides(passport, given) if config_name == "eval" else training_overrides(passport, backbone)


def _data_of_tasks(arguments: list[str]) -> list[str]:
    """`data.<task>=<data>`, the data set of one task, as Hydra says it: that group once more, at that key.

    Raises:
        ConfigError: an unknown data set, or several as in a sweep.
    """
    rest, chosen = [], {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if not _is_data_of_task(key):
            rest.append(argument)
        elif value not in _options("data"):
            sweep = "a sweep over it is not possible, start one run for each. " if "," in value else ""
            raise ConfigError(f"{argument}: unknown data. {sweep}{nearest(value, _options('data'))}")
        else:
            chosen[key] = value
    groups = [f"+data@{key}={value}" for key, value in chosen.items()]
    names = [f"+choices.datasets.{key.removeprefix('data.')}={value}" for key, value in chosen.items()]
    return [*groups, *names, *rest]


def _is_data_of_task(key: str) -> bool:
    return key.startswith("data.") and key.removeprefix("data.") in _options("task")


def _quoted(argument: str) -> str:
    """Hydra's grammar refuses spaces, commas and brackets in a bare value; file names have them."""
    key, sign, value = argument.partition("=")
    path = key in PATHS or (key.startswith("data.") and key.endswith(".root"))
    if not sign or not path or value[:1] in ("", "'", '"') or value == "null":
        return argument
    escaped = value.replace("'", "\\'")
    return f"{key}='{escaped}'"


def _stored_config(overrides: list[str]) -> DictConfig | None:
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.key_or_group in ("resume", "run") and override.value():
            path = Path(str(override.value())) / "config.yaml"
            if not path.is_file():
                raise ConfigError(
                    f"{override.key_or_group}={override.value()}: not a run folder, {path} does not exist. "
                    f"Run folders are made by tools/train.py, as runs/<task>/<data>-<backbone>-<n>"
                )
            return _completed(OmegaConf.load(path))
        if override.key_or_group == "repeat" and override.value():
            return _completed(_described_config(Path(str(override.value()))))
    return None


def _described_config(run: Path) -> DictConfig:
    """The configuration in the run.json of a run, which is given as its folder or as that file."""
    path = run / "run.json" if run.is_dir() else run
    try:
        return OmegaConf.create(json.loads(path.read_text())["config"])
    except FileNotFoundError:
        raise ConfigError(f"repeat={run}: not a run, {path} does not exist") from None
    except (ValueError, KeyError, TypeError):  # bad bytes and bad JSON are both ValueErrors
        raise ConfigError(f"repeat={run}: {path} is no run.json, or an old one, without the configuration") from None


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


def _completed(stored: DictConfig) -> DictConfig:
    """A run's config, with the defaults of the keys that did not exist when it was made."""
    defaults = OmegaConf.load(CONF / "train.yaml")
    new = [key for key in defaults if key not in stored and key not in ("defaults", "hydra")]
    return OmegaConf.merge(OmegaConf.masked_copy(defaults, new), stored)


def _update(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Plain values on top of a run's config; its groups were chosen when it was made."""
    with open_dict(config):
        config.setdefault("run", None)
        config.setdefault("out", None)
    parsed = OverridesParser.create().parse_overrides(overrides)
    for override in parsed:
        key = override.key_or_group
        if key in (*GROUPS, "recipe") or _is_data_of_task(key):
            raise ConfigError(f"{override.input_line}: the run has its own {key}; start a new run to change it")
        _check_value(override, config)
        _check_change(override, parsed)
        OmegaConf.update(config, key, override.value())
        if key == "epochs" and "epochs" in config.schedule.shape:  # stored resolved, as below
            config.schedule.shape.epochs = override.value()
        data, _, name = key.rpartition(".")  # stored resolved: the source no longer follows the keys of its data
        if data.startswith("data") and name in (OmegaConf.select(config, f"{data}.source") or {}):
            OmegaConf.update(config, f"{data}.source.{name}", override.value())
    OmegaConf.set_struct(config, True)
    return config


def _check(overrides: list[str], config_name: str, brought: Iterable[str] = ()) -> None:
    """Raise a ConfigError for the first override that names nothing, or has the wrong type.

    Args:
        brought: overrides that are not the user's, whose groups decide which keys there are.
    """
    parsed = OverridesParser.create().parse_overrides(_data_of_tasks(overrides))
    choices = [o for o in parsed if o.key_or_group in (*GROUPS, "recipe")]
    tasks = [str(o.value()) for o in choices if o.key_or_group == "task" and not o.is_sweep_override()]
    for override in choices:
        options = _options(override.key_or_group)
        if override.key_or_group == "recipe" and tasks:
            options = [name for name in options if name.startswith(f"{tasks[0]}_")]
        values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
        for value in values:
            if value not in options:
                raise ConfigError(
                    f"{override.key_or_group}={value}: unknown {override.key_or_group}. {nearest(str(value), options)}"
                )
    if any(o.is_sweep_override() for o in choices):
        return  # each job of the sweep is composed, and so checked, on its own
    with _own_hydra():
        groups = [line for line in brought if line.split("=")[0] in GROUPS or _is_data_of_task(line.split("=")[0])]
        groups = _data_of_tasks(groups)
        config = hydra.compose(config_name, [*groups, *(o.input_line for o in choices)])
    for override in parsed:
        if override not in choices and not override.is_add() and not override.is_sweep_override():
            if not override.key_or_group.startswith("hydra"):
                _check_value(override, config)


def _check_value(override: Override, config: DictConfig) -> None:
    key, parent = override.key_or_group, config
    *path, last = key.split(".")
    for i, part in enumerate([*path, last]):
        if not OmegaConf.is_dict(parent) or part not in parent:
            offered = [str(k) for k in parent] if OmegaConf.is_dict(parent) else []
            if i == 0 and "tasks" in config:  # predict's config has no groups
                offered += GROUPS
            where = f" in {'.'.join(path[:i])}" if i else ""
            raise ConfigError(f"{override.input_line}: there is no key {part!r}{where}. {nearest(part, offered)}")
        if i < len(path):
            parent = parent[part]
    if OmegaConf.is_missing(parent, last) or override.is_delete():
        return
    try:
        before = parent[last]
    except OmegaConfBaseException:  # an interpolation that only the running tool can resolve
        return
    after = override.value()
    if not _same_type(before, after):
        raise ConfigError(f"{override.input_line}: expected {_kind(before)}, such as {before}")


def _same_type(before: object, after: object) -> bool:
    if before is None or after is None:
        return True
    if isinstance(before, bool) or isinstance(after, bool):
        return isinstance(before, bool) and isinstance(after, bool)
    if isinstance(before, float):
        return isinstance(after, int | float)
    if isinstance(before, int):
        return isinstance(after, int)
    if isinstance(before, str):
        return not isinstance(after, list | dict)
    return isinstance(after, list if OmegaConf.is_list(before) else dict)


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return names.get(type(value), "a list" if OmegaConf.is_list(value) else "a group of keys")


def nearest(word: str, options: Iterable[str]) -> str:
    options = sorted(set(options))
    close = difflib.get_close_matches(word, options, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}There are: {', '.join(options)}"


def _reason(error: Exception) -> str:
    """The innermost message that is ours, else the outermost."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError | DataError):
            return str(cause)
        cause = cause.__cause__
    return f"{error}"
