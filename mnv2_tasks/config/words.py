"""The words of a command line: which there are, and of which type."""

import os
import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnv2_tasks.config.hints import DRAWN, hint
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.shipped import shipped
from mnv2_tasks.wording import nearest

CONF = shipped("conf")
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "recipe")
PATHS = (  # a file may have any name, see quoted
    "source", "out", "weights", "run", "resume", "repeat", "runs", "images", "masks", "calibration", "thresholds",
    "distillation.teacher", "name",  # of a run folder
    "root",  # of bench
)  # fmt: skip
DATA_PATHS = ("root", "images", "masks", "colours")  # below data, or below data.<task>
OR_AUTO = (("batch", "auto"), ("split", "auto"))  # keys of numbers
# groups with keys of any name
OPEN = (
    "augmentation",
    "batch_ratio",
    "class_weights",
    "loss_weights",
    "repeat_threshold",
    "groups",
    "tasks",
    "datasets",
)
MADE = ("source", "runs")  # paths that no null stands for
QUOTED = re.compile(r"""'(\\.|[^'\\])*'|"(\\.|[^"\\])*\"""", re.DOTALL)


def own_conf() -> Path | None:
    """The user's own folder of choices, laid out as conf/ is: the environment variable MNV2_CONF names it.

    A variable, because the processes that a run or a study starts need it too.

    Raises:
        ConfigError: it is no folder.
    """
    named = os.environ.get("MNV2_CONF")
    if not named:
        return None
    folder = Path(os.path.expanduser(named)).absolute()
    if not folder.is_dir():
        raise ConfigError(f"MNV2_CONF={named}: {folder} is no folder; it holds backbone/, task/ and so on, as {CONF}")
    return folder


def files_of(group: str) -> dict[str, Path]:
    """{option: its file}, ours and the user's own; of two with one name, ours is the one that Hydra takes."""
    folders = [folder for folder in (own_conf(), CONF) if folder]
    return {path.stem: path for folder in folders for path in (folder / group).glob("*.yaml")}


def options_of(group: str) -> list[str]:
    return sorted(files_of(group))


def quoted(argument: str) -> str:
    """Where the key takes a path, an override that Hydra reads as the very text that was typed.

    Its grammar refuses spaces, commas, brackets and `=` in a bare value, and OmegaConf resolves `${...}`; file names
    have them. Two words remain Hydra's unless there is such a file: `null`, and a value in quotes of its own.
    """
    key, sign, value = argument.partition("=")
    a_space = key == "search" and value.endswith((".yaml", ".yml"))  # which may stand there itself
    if not sign or not value or not (a_space or is_path(key.lstrip("+"))):
        return argument
    hydras = QUOTED.fullmatch(value) or (value == "null" and key not in MADE)
    if hydras and not os.path.lexists(value):
        return argument
    # Hydra reads a backslash as one, but before a quote: that of C:\photos\ would take the closing one with it
    text = re.sub(r"(\\*)('|$)", r"\1\1\2", as_text(value)).replace("'", "\\'")
    return f"{key}='{text}'"


def is_path(key: str) -> bool:
    return key in PATHS or (key.startswith("data.") and key.rpartition(".")[2] in DATA_PATHS)


def as_text(value: str) -> str:
    """Text as OmegaConf has to be given it, to whom `${...}` is a value that stands elsewhere."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{2 * found[1]}\\${{", value)


def typed(value: str) -> str:
    """What `as_text` was given."""
    return re.sub(r"(\\*)\\\$\{", lambda found: f"{found[1][::2]}${{", value)


def texts(resolved: Any) -> Any:
    """Plain data whose every `${` is text, and stays so when a config of it is read."""
    if isinstance(resolved, dict):
        return {key: texts(value) for key, value in resolved.items()}
    if isinstance(resolved, list):
        return [texts(value) for value in resolved]
    return as_text(resolved) if isinstance(resolved, str) else resolved


def data_of_tasks(arguments: list[str]) -> list[str]:
    """`data.<task>=<data>`, the data set of one task, as Hydra says it: that group once more, at that key.

    Raises:
        ConfigError: an unknown data set, or several as in a sweep.
    """
    rest, chosen = [], {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if not is_data_of_task(key):
            rest.append(argument)
        elif value not in options_of("data"):
            sweep = "a sweep over it is not possible, start one run for each. " if "," in value else ""
            raise ConfigError(f"{argument}: unknown data. {sweep}{nearest(value, options_of('data'))}")
        else:
            chosen[key] = value
    groups = [f"+data@{key}={value}" for key, value in chosen.items()]
    names = [f"+choices.datasets.{key.removeprefix('data.')}={value}" for key, value in chosen.items()]
    return [*groups, *names, *rest]


def is_data_of_task(key: str) -> bool:
    return key.startswith("data.") and key.removeprefix("data.") in options_of("task")


def check_value(override: Override, config: DictConfig) -> None:
    key, parent = override.key_or_group, config
    *path, last = key.split(".")
    for i, part in enumerate([*path, last]):
        if not OmegaConf.is_dict(parent) or part not in parent.keys():  # `in` alone denies a key whose value is ???
            offered = [str(k) for k in parent] if OmegaConf.is_dict(parent) else []
            if i == 0 and "tasks" in config:  # predict's config has no groups
                offered += set(GROUPS) - {"study", "cluster"}
            if path[:i] == ["cluster"] and parent is None:
                raise ConfigError(f"{override.input_line}: there is no cluster to have it; say cluster=slurm too")
            where = f" in {'.'.join(path[:i])}" if i else ""
            drawn = path == ["data"] and "root" not in parent
            said = DRAWN if drawn and last in (*DATA_PATHS, "on_bad", "train", "val") else hint(key)
            raise ConfigError(f"{override.input_line}: there is no key {part!r}{where}. {said}{nearest(part, offered)}")
        if i < len(path):
            parent = parent[part]
    if OmegaConf.is_missing(parent, last) or override.is_delete():
        return
    try:
        before = parent[last]
    except OmegaConfBaseException:  # an interpolation that only the running tool can resolve
        return
    after = override.value()
    if path[-1:] == ["augmentation"] or (override.key_or_group, after) in OR_AUTO:  # a list too, a word too
        return
    if not _same_type(before, after):
        also = ", or auto" if override.key_or_group == "split" else ""  # of batch it is for training alone
        raise ConfigError(f"{override.input_line}: expected {_kind(before)}, such as {before}{also}")


def check_added(override: Override, config: DictConfig) -> None:
    """Raise a ConfigError for a `+key` that nothing would read.

    What is read beside the keys of conf/ are arguments of parts, which have a `_target_`, and entries of open groups.
    """
    *path, last = override.key_or_group.split(".")
    parent = OmegaConf.select(config, ".".join(path)) if path else config
    if path[:1] in (["hydra"], ["init_std"]) or override.package is not None or (path and path[-1] in OPEN):
        return
    if OmegaConf.is_dict(parent) and path and ("_target_" in parent or path[:1] == ["tasks"]):
        return
    offered = [str(key) for key in parent] if OmegaConf.is_dict(parent) else []
    where = f" in {'.'.join(path)}" if path else ""
    if last in offered:
        raise ConfigError(
            f"{override.input_line}: + adds a key, and this one is there: {override.key_or_group}=<value>"
        )
    raise ConfigError(
        f"{override.input_line}: nothing reads a key {last!r}{where}. {hint(last)}{nearest(last, offered)}"
    )


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
