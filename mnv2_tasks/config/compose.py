"""The command line -> one resolved config, with errors that name the nearest right word."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnv2_tasks.config.data_of_run import put_in_data
from mnv2_tasks.config.help_text import help_text
from mnv2_tasks.config.hints import as_key_and_value, hint
from mnv2_tasks.config.own_parts import leave_out_of_own
from mnv2_tasks.config.stored import check_choices, config_of_run, load_config, update, without
from mnv2_tasks.config.words import (
    CONF,
    GROUPS,
    check_added,
    check_value,
    data_of_tasks,
    files_of,
    is_data_of_task,
    is_path,
    options_of,
    own_conf,
    quoted,
    texts,
    typed,
)
from mnv2_tasks.errors import ConfigError, DataError, ran_out_of_memory
from mnv2_tasks.plain_data import read_yaml
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.whole_files import explained
from mnv2_tasks.wording import log_to_screen, nearest, visible_lines


def launch(config_name: str, run: Callable[[DictConfig], None], arguments: Sequence[str] | None = None) -> None:
    """Entry of every tool. Hydra's own flags (-m, --cfg ...) go to Hydra, everything else is composed here.

    Args:
        arguments: of the command line; None takes all that Python was called with.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    log_to_screen()
    debug = any(arg in ("debug=true", "debug=True") for arg in argv)
    if {"-h", "--help"} & set(argv):
        return print(help_text(config_name, argv))
    try:
        for arg in argv:
            if meant := as_key_and_value(arg):
                raise ConfigError(f"{arg}: say {meant}")
        if any(arg.startswith("-") for arg in argv):
            plain = [arg for arg in argv if re.match("~|[^-].*=", arg)]  # not the job of --cfg job
            if "--cfg" in argv and "job" in argv:
                return print(OmegaConf.to_yaml(compose(config_name, plain)), end="")
            flags = [arg for arg in argv if arg not in plain]  # first: argparse takes the words beside each other alone
            plain = [quoted(arg) for arg in plain]
            implied = _implied(plain, config_name).lines
            if {"-m", "--multirun"} & set(argv):
                if name := next((arg for arg in argv if arg.startswith("name=") and arg != "name=null"), ""):
                    raise ConfigError(f"{name}: is the name of one run, and a sweep has several; leave it away")
                _check(plain, config_name, implied)
            job = _job(run, config_name)
            words = [*_searched(), *data_of_tasks([*implied, *plain])]
            sys.argv = [sys.argv[0], *flags, *words]  # where Hydra looks
            hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(job)()
        else:
            run(compose(config_name, argv))
    except (ConfigError, DataError, HydraException, OmegaConfBaseException, OSError) as error:
        if debug:
            raise
        _end(_reason(error))
    except (MemoryError, RuntimeError) as error:
        if debug or not (reason := _memory_ran_out(error)):
            raise
        _end(reason)


def _end(reason: str) -> NoReturn:
    sys.exit(as_called_here(f"\nerror: {visible_lines(reason)}\n(debug=true shows where in the code)"))


def _job(run: Callable[[DictConfig], None], config_name: str) -> Callable[[DictConfig], None]:
    """`run` with the config of one of a sweep's jobs, composed anew: its task's recipe brings groups of its own."""
    typed = sys.argv

    def job(config: DictConfig) -> None:
        sys.argv = typed  # for run.json
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


def _searched() -> list[str]:
    """What tells Hydra of the user's own choices."""
    folder = own_conf()
    return [f"hydra.searchpath=['file://{folder.as_posix()}']"] if folder else []


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """The config of a tool with these overrides, resolved.

    `resume=<run>` and `run=<run>` start from that run's own config.yaml instead of from conf/, `repeat=<run>` from its
    run.json. `weights=` brings what belongs to them, such as their padding and input normalisation; what the user says
    wins.

    Raises:
        ConfigError: an unknown key or choice, a value of the wrong type, or a folder that is not a run.
    """
    if config_name == "train":
        _check_recordable(overrides)
    elif "batch=auto" in overrides:
        raise ConfigError("batch=auto: is found by steps of training, for tools/train.py; say a number of images")
    if (times := sum(override.startswith("source=") for override in overrides)) > 1:  # of which Hydra takes the last
        raise ConfigError(
            f"source=: is said {times} times. A pattern with braces stands in quotes, or the shell makes several words "
            "of it: 'source=shards/train-{000..099}.tar'"
        )
    overrides = [quoted(override) for override in overrides]
    of_run = config_of_run(overrides) if config_name in ("train", "eval") else None
    if of_run is not None:
        return update(of_run, overrides)
    implied = _implied(overrides, config_name)
    _check(overrides, config_name, implied.lines)
    with _own_hydra():
        words = [*_searched(), *data_of_tasks([*implied.lines, *overrides])]
        config = hydra.compose(config_name, words, return_hydra_config=True)
    _leave_out_others(config, overrides)
    leave_out_of_own(config, overrides)
    _put_in(config, implied, overrides)
    if config_name == "export" and implied.source:
        said = {o.key_or_group for o in OverridesParser.create().parse_overrides(overrides)}
        put_in_data(config, Path(implied.source), said, trust=bool(config.trust))
    outer = HydraConfig.instance().cfg  # of a sweep, whose jobs go on resolving with it
    HydraConfig.instance().set_config(config)
    content: Any = OmegaConf.to_container(without(config, {"hydra"}), resolve=True)
    resolved = cast(DictConfig, OmegaConf.create(texts(content)))
    HydraConfig.instance().cfg = outer
    _read_augmentations(resolved)
    OmegaConf.set_struct(resolved, True)
    return resolved


def _read_augmentations(config: DictConfig) -> None:
    """What files of lists hold, in their place: the config of a run needs no other file."""
    for place in ("data", *(f"data.{task}" for task in config.get("tasks") or {})):
        for kind, wanted in (OmegaConf.select(config, f"{place}.augmentation") or {}).items():
            if isinstance(wanted, str) and wanted.endswith((".yaml", ".yml")):
                content = read_yaml(Path(wanted))
                if not isinstance(content, list):
                    form = "- Name or - Name: {argument: value}"
                    raise ConfigError(f"{wanted}: expected a list of transforms, each {form}")
                OmegaConf.update(config, f"{place}.augmentation.{kind}", texts(content), merge=False)


def _check_recordable(overrides: list[str]) -> None:
    """Raise a ConfigError for what a run's config.yaml and run.json cannot hold."""
    for override in overrides:
        key, _, value = override.partition("=")
        fault = ""
        if is_path(key) and "${" in value:
            fault = "has a ${, which stands for a value of elsewhere in the config.yaml that a run keeps"
        try:
            override.encode()
        except UnicodeEncodeError:
            fault = "is no UTF-8, as the config.yaml that a run keeps is"
        if fault:
            raise ConfigError(
                f"{override}: this name {fault}. Rename it, or make a symbolic link to it (ln -s) and name that"
            )


class _Implied(NamedTuple):
    """What stands before the user's overrides."""

    lines: list[str]  # groups, and values of our own
    values: dict[str, Any] = {}  # out of a file: data, never read as a line
    source: str = ""  # the file


def _implied(overrides: list[str], config_name: str) -> _Implied:
    """Those of the weights, and the groups of the recipe."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    given = {o.key_or_group: typed(str(o.value())) for o in parsed if not o.is_sweep_override() and o.package is None}
    if config_name not in ("train", "eval", "export"):
        return _Implied([])
    if config_name == "export" and "run" in given:
        raise ConfigError(f"run={given['run']}: to export, say weights={given['run']}")
    if config_name == "export" and not {"task", "weights"} & {o.key_or_group for o in parsed}:
        raise ConfigError("say what to export: weights=<name, path or run folder>")
    implied = _implied_by_weights(given, config_name)
    chosen = {"data": "shapes", **dict(line.split("=", 1) for line in implied.lines), **given}
    name = given.get("recipe", f"{chosen.get('task')}_{chosen['data']}")
    groups = [f"{group}={option}" for group, option in _groups_of_recipe(name).items() if group not in given]
    return implied._replace(lines=[*implied.lines, *groups])


def _put_in(config: DictConfig, implied: _Implied, overrides: list[str]) -> None:
    """The values that weights bring, where the user did not say otherwise."""
    said = [o.key_or_group for o in OverridesParser.create().parse_overrides(overrides)]
    for key, value in implied.values.items():
        if any(key == other or other.startswith(f"{key}.") for other in said):
            continue
        parent, _, last = key.rpartition(".")
        group = OmegaConf.select(config, parent) if parent else config
        if group is None or last not in group:
            raise ConfigError(f"{implied.source}: needs {key}={value}, which what you chose does not have")
        OmegaConf.update(config, key, value, merge=False)


def _leave_out_others(config: DictConfig, overrides: list[str]) -> None:
    """A recipe's norms, padding and initial weights are for its backbone: one without such settings keeps its own."""
    choices = config.hydra.runtime.choices
    said = [o.key_or_group for o in OverridesParser.create().parse_overrides(overrides)]
    foreign = _keys("recipe", choices.get("recipe"), "backbone") - _keys("backbone", choices.get("backbone"))
    with open_dict(config):
        for key in foreign - {other.removeprefix("backbone.") for other in said}:
            del config.backbone[key]
        if foreign and "init_std.backbone" not in said:
            config.init_std.backbone = None


def _keys(group: str, name: str | None, within: str | None = None) -> set[str]:
    """Of a file of this group, or of a part of it, with those of the files in its defaults."""
    path = files_of(group).get(name or "")
    if path is None:
        return set()
    config = load_config(path)
    others = [str(other).rpartition("/")[2].partition("@")[0] for other in config.get("defaults", ())]
    own = config.get(within, {}) if within else config
    return {str(key) for key in own}.union(*(_keys(group, other, within) for other in others if other != "_self_"))


def _groups_of_recipe(name: str) -> dict[str, str]:
    """The `groups` of a recipe, on top of those of the recipes in its defaults; none where there is no such recipe."""
    path = files_of("recipe").get(name)
    if path is None:
        return {}
    recipe = load_config(path)
    inherited = [_groups_of_recipe(other) for other in recipe.get("defaults", ()) if other != "_self_"]
    return {group: option for groups in (*inherited, recipe.get("groups", {})) for group, option in groups.items()}


def _implied_by_weights(given: dict[str, str], config_name: str) -> _Implied:
    weights = given.get("weights", "auto")
    if weights in ("auto", "none"):
        return _Implied([])
    from mnv2_tasks.weights import passport as passports  # torch, which --help can do without
    from mnv2_tasks.weights.find import find_weights
    from mnv2_tasks.weights.weight_files import read_passport

    backbone, training = given.get("backbone", "mobilenet_v2"), config_name == "train"
    path = find_weights(weights, backbone)
    passport = read_passport(path, trust=given.get("trust") == "True")
    if not isinstance(passport, dict):
        return _Implied(
            passports.overrides_for_training(passport, backbone)
            if training
            else passports.overrides_for_evaluation(passport, given)
        )
    if training:
        groups, values = passports.implied_for_training(passport, backbone)
    else:
        groups, values = passports.implied_for_evaluation(passport, given)
    check_choices(groups, passport.get("version"), str(path))
    return _Implied([f"{group}={option}" for group, option in groups.items()], values, str(path))


def _check(overrides: list[str], config_name: str, implied: Iterable[str] = ()) -> None:
    """Raise a ConfigError for the first override that names nothing, or has the wrong type.

    Args:
        implied: overrides that are not the user's, whose groups decide which keys there are.
    """
    parsed = OverridesParser.create().parse_overrides(data_of_tasks(overrides))
    choices = [o for o in parsed if o.key_or_group in (*GROUPS, "recipe")]
    tasks = [str(o.value()) for o in choices if o.key_or_group == "task" and not o.is_sweep_override()]
    for override in choices:
        options = options_of(override.key_or_group)
        if override.key_or_group == "recipe" and tasks:
            options = [name for name in options if name.startswith(f"{tasks[0]}_")]
        values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
        for value in values:
            if value not in options:
                raise ConfigError(
                    f"{override.key_or_group}={value}: unknown {override.key_or_group}. "
                    f"{hint(override.key_or_group, str(value))}{nearest(str(value), options)}"
                )
    if any(o.is_sweep_override() for o in choices):
        return  # each job of the sweep is composed, and so checked, on its own
    with _own_hydra():
        groups = [line for line in implied if line.split("=")[0] in GROUPS or is_data_of_task(line.split("=")[0])]
        groups = data_of_tasks(groups)
        config = hydra.compose(config_name, [*_searched(), *groups, *(str(o.input_line) for o in choices)])
    for override in parsed:
        if override not in choices and override.is_add():
            check_added(override, config)
        if override not in choices and not override.is_add() and not override.is_sweep_override():
            if not override.key_or_group.startswith("hydra"):
                check_value(override, config)


def _memory_ran_out(error: Exception) -> str | None:
    """What to do about an allocation that failed; None where none did."""
    if not ran_out_of_memory(error):
        return None
    told = re.sub(r"^\[.*?\] (err == 0\. )?", "", (str(error) or "nothing more is told").splitlines()[0])
    return (
        f"there is not enough memory ({told.split('. ')[0]}). A smaller batch= or imgsz= takes less; in training, "
        f"trainer.accumulate=<n> makes a step of n such batches"
    )


def _reason(error: Exception) -> str:
    """The innermost message that is ours, else the outermost."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError | DataError):
            return str(cause)
        cause = cause.__cause__
    return _of_hydra(f"{explained(error) if isinstance(error, OSError) else error}")


def _of_hydra(message: str) -> str:
    """What Hydra says of a command line, in a line."""
    if missing := re.match(r"You must specify '(\w+)'", message):
        options = [line.strip() for line in message.splitlines() if line.startswith("\t")]
        return f"say which {missing[1]}: {missing[1]}={'|'.join(options)}"
    if word := re.match(r"Error parsing override '(.*)'\nmissing EQUAL", message):
        return f"{word[1]}: expected key=value"
    return message
