"""The configs that files hold, those of runs and of passports, checked before anything is built of them.

A file may come from a stranger, and a `_target_` is code that gets called. A stored config is therefore data: it names
as a part only what conf/ names at that same place, with arguments of the types that the part takes. The user's own
classes need `trust=true`.
"""

import re
from collections.abc import Container, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import yaml

from mnv2_tasks import __version__
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import SafeLoader
from mnv2_tasks.shipped import shipped
from mnv2_tasks.stored.argument_types import fits, kind_of, parameters_of, same_kind
from mnv2_tasks.wording import shortened

DEEPEST = 8  # groups within each other
LONGEST = 4096  # characters of a text, entries of a list
KEY = re.compile(r"[A-Za-z]\w*(\.\w+)?")  # of a group; a recipe's groups may be data.<task>
WORD = re.compile(r"\w+")  # tasks and choices, whose names become those of files and folders
COMMAND_URL = re.compile(r"pipe:|(?!(https?|file)://)\w+://")  # webdataset reads such places through a shell
OUR_PACKAGE = "mnv2_tasks."
TARGET = "_target_"

NETWORK = {  # what every stored config has
    "choices": dict, "backbone": dict, "tasks": dict, "output_stride": int, "imgsz": int, "width": float, "input": dict,
    "input.mean": tuple[float, float, float], "input.std": tuple[float, float, float], "input.fit": str,
    "choices.task": str, "choices.data": str, "choices.backbone": str,
}  # fmt: skip
OPTIONAL = {  # what conf/ leaves empty or to a recipe, or may be empty
    "input.resize": int | None, "input.white": int | None, "train_imgsz": int | None, "reference_batch": int | None,
    "trainer.limit_train": float | None, "trainer.save_every_steps": int | None,
    "trainer.patience": int | None, "distillation.teacher": str | None,
    "resume": str | None, "repeat": str | None, "name": str | None, "choices.datasets": dict[str, str],
    "scales": list[float], "freeze": list[str], "batch_ratio": dict[str, float], "loss_weights": dict[str, float],
    "class_weights": dict[str, str | dict[str, float] | None], "repeat_threshold": dict[str, float],
    "trainer.devices": int | str, "data.root": str | None, "data.train": str | None, "data.val": str | None,
    "data.images": str | None, "data.masks": str | None, "data.colours": str | None,
    "data.split_seed": int | None, "data.ignore": int | str | list[int | str] | None,
    "runs": str, "weights": str, "lr": float, "schedule.warmup": float,
    "trainer.gradient_clip": float | None, "trainer.precision": str | int | None,
    "eval.precision": str | None,
}  # fmt: skip
LARGEST: dict[str, int] = {  # by the last part of a key; else a short file could fill the memory of a machine
    "imgsz": 8192, "train_imgsz": 8192, "image_size": 8192, "resize": 16384, "width": 16, "scales": 16,
    "workers": 1024, "devices": 1024, "nodes": 65536, "seed": 2**32 - 1,
}  # fmt: skip
SMALLEST = {"seed": 0, "channels": 1}


class Gone(NamedTuple):
    last: str  # the last version that has it
    instead: str  # what replaced it


GONE = {  # what stored configs may need, as a command line says it, or a `_target_`
    "norm_statistics=per_task": Gone(
        "0.1", "all tasks share the backbone's batch norms; train anew, each task apart if their data differ much"
    ),
}


def check_config(config: Any, version: str | None, source: str, *, trust: bool = False, rebuilt: bool = True) -> None:
    """Refuse what came from a file and is no config, or needs what is dangerous or gone.

    Args:
        config: plain data, resolved.
        version: the one that wrote it; None: it recorded none.
        source: the file; messages begin with it.
        trust: the file is the user's own, it may name any class.
        rebuilt: the network will be built of it; that of an exported file is finished.

    Raises:
        ConfigError: names the file, the key and what is wrong with it.
    """
    _check_plain(config, source)
    for key in NETWORK:
        if at(config, key) is None:
            raise ConfigError(f"{source}: has no {key}, it is no configuration of a network")
    _check_types_of(NETWORK | OPTIONAL, config, source)
    datasets = config["choices"].get("datasets", {})
    if unknown := datasets.keys() - config["tasks"]:
        raise ConfigError(f"{source}: choices.datasets.{shortened(min(unknown), 60)}: has no such task")
    words = [config["choices"][group] for group in ("task", "data", "backbone")]
    for name in (*config["tasks"], *words, *datasets, *datasets.values()):
        if not WORD.fullmatch(name):
            raise ConfigError(f"{source}: {_shown(name)} is no name of a task, a data set or a backbone")
    for key in ("backbone", *(f"tasks.{name}{part}" for name in config["tasks"] for part in ("", ".head"))):
        if not isinstance(at(config, f"{key}.{TARGET}"), str):
            raise ConfigError(f"{source}: {key}: has no {TARGET}, it names no part")
    if not config["tasks"]:
        raise ConfigError(f"{source}: tasks: is empty")
    _check_numbers(config, source)
    needed = [f"{key}={value}" for key, value in dotted(config).items() if f"{key}={value}" in GONE] if rebuilt else []
    if needed:
        raise gone(needed[0], version, source)
    if not trust:
        _check_parts(config, version, source, rebuilt=rebuilt)
        _check_presets(config, source)
    _check_kinds(config, source)


def check_places(config: Mapping[str, Any], source: str, said: Container[Any] = ()) -> None:
    """Refuse data whose place is a command, unless the user said that place.

    Args:
        config: of a run, plain data.
        source: the file; messages begin with it.
        said: values of the command line.

    Raises:
        ConfigError: names the key.
    """
    for key, value in dotted({"data": config.get("data", {})}).items():
        if isinstance(value, str) and COMMAND_URL.match(value) and value not in said:
            raise ConfigError(
                f"{source}: {key}={_shown(value)}: is read by a command that is run on this machine, for which no file "
                f"can ask. If you want it, say data.root=<it> trust=true"
            )


def gone(needed: str, version: str | None, source: str, remedy: str = "use the version that wrote it") -> ConfigError:
    """The error to raise where a stored config needs what there is no longer, or not here."""
    what = f"{source}: was written by {f'version {version}' if version else 'a version before 0.2'} and needs {needed}"
    if needed not in GONE:
        return ConfigError(f"{what}, which version {__version__} does not have; {remedy}")
    last, instead = GONE[needed]
    return ConfigError(f"{what}, which is gone: {instead}. Version {last} is the last that reads it")


def dotted(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"optimizer": {"lr": 0.004}}} -> {"optim.optimizer.lr": 0.004}; lists and empty groups are values."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def at(content: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _check_plain(config: Any, source: str) -> None:
    if not isinstance(config, dict):
        raise ConfigError(f"{source}: its configuration is {_shown(config)}, expected a group of keys")
    for key, value, depth in _everything(config):
        if depth > DEEPEST:
            raise ConfigError(f"{source}: {key}: lies more than {DEEPEST} groups deep")
        last = key.rpartition(".")[2]
        if isinstance(value, dict):
            for name in value:
                if not isinstance(name, str) or not (KEY.fullmatch(name) or name.startswith("_")):
                    raise ConfigError(f"{source}: {key}: {_shown(name)} cannot be the name of a key")
        elif isinstance(value, str) and (
            len(value) > LONGEST or not value.isprintable() or "${" in value or value == "???"
        ):
            why = f"longer than {LONGEST} characters" if len(value) > LONGEST else "no plain text"
            raise ConfigError(f"{source}: {key}: {_shown(value)} is {why}")
        elif isinstance(value, list) and len(value) > LONGEST:
            raise ConfigError(f"{source}: {key}: has more than {LONGEST} entries")
        elif not isinstance(value, str | int | float | list | None):
            raise ConfigError(f"{source}: {last or key}: is a {type(value).__name__}, expected plain data")


def _everything(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any, int]]:
    """Each value with its dotted key, groups and lists before what they hold."""
    yield key or "config", value, depth
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, content in inner if depth <= DEEPEST else ():
        yield from _everything(content, f"{key}.{name}" if key else str(name), depth + 1)


def _check_numbers(config: Mapping[str, Any], source: str) -> None:
    for key, value in dotted(config).items():
        largest = LARGEST.get(key.rpartition(".")[2], 2**31)
        least = SMALLEST.get(key.rpartition(".")[2], -(2**31))
        for number in value if isinstance(value, list) else [value]:
            if fits(number, float) and not least <= number <= largest:  # which NaN is not
                bound = f"at most {largest:,}" if number > largest else f"at least {least:,}"
                raise ConfigError(f"{source}: {key}={_shown(value)}: expected {bound}")


def _check_parts(config: Mapping[str, Any], version: str | None, source: str, *, rebuilt: bool) -> None:
    """Refuse every `_target_` but those that conf/ has at that place, other values there, and Hydra's other words."""
    for key, value, _ in _everything(config):
        is_part = isinstance(value, dict) and TARGET in value
        if parts_at(place_of(key)) and not is_part and (key, value) != ("logger", None):  # logger=none
            raise ConfigError(f"{source}: {key}={_shown(value)}: names no part, it has no {TARGET}")
        for name in value if isinstance(value, dict) else ():
            if not name.startswith("_"):
                continue
            target, place = value[name], place_of(key)
            known = parts_at(place)
            if name != TARGET or not known or not isinstance(target, str):
                raise ConfigError(f"{source}: {key}.{name}={_shown(target)}: {_only_trusted('no part stands there')}")
            if target in known or (not rebuilt and target.startswith(OUR_PACKAGE)):  # gone, but nothing needs it
                continue
            if target.startswith(OUR_PACKAGE):
                raise gone(target, version, source)
            raise ConfigError(f"{source}: {key}.{name}={_shown(target)}: {_only_trusted('is no part of this version')}")
        if is_part and rebuilt:
            _check_arguments(key, value, version, source)


def _only_trusted(why: str) -> str:
    return f"{why}, and what a file names is not called. If you wrote the file, and the class is yours, say trust=true"


def _check_presets(config: Mapping[str, Any], source: str) -> None:
    """Augmentation is the name of a preset, or the path of a user's function."""
    for key, value in dotted({"data": config.get("data", {})}).items():
        if ".augmentation." in key and isinstance(value, str) and not WORD.fullmatch(value):
            raise ConfigError(f"{source}: {key}={_shown(value)}: {_only_trusted('is no preset')}")


def _check_arguments(key: str, part: Mapping[str, Any], version: str | None, source: str) -> None:
    """Refuse arguments that the part does not take (any longer), or of other types than it takes."""
    target, example = part[TARGET], parts_at(place_of(key))[part[TARGET]]
    takes = parameters_of(target) if target.startswith(OUR_PACKAGE) else None  # of others, what conf/ sets
    if takes is None and target.startswith(OUR_PACKAGE):
        raise gone(target, version, source)
    for name, value in part.items():
        if name == TARGET or (isinstance(value, dict) and TARGET in value):
            continue
        if name not in (example if takes is None else takes):
            raise gone(f"{key}.{name}={shortened(str(value), 80)}", version, source)
        right = fits(value, takes[name]) if takes is not None else same_kind(value, example[name])
        if not right:
            expected = kind_of(takes[name]) if takes is not None else f"such as {example[name]}"
            raise ConfigError(f"{source}: {key}.{name}={_shown(value)}: expected {expected}")
        if isinstance(value, str) and place_of(key) == "logger" and re.search(r"[/\\]|\.\.", value):
            raise ConfigError(f"{source}: {key}.{name}={_shown(value)}: leaves the run folder")


def _check_types_of(expected: Mapping[str, Any], config: Mapping[str, Any], source: str) -> None:
    present = dotted(config)
    for key, kind in expected.items():
        value = at(config, key)
        if (value is not None or key in present) and not fits(value, kind):
            raise ConfigError(f"{source}: {key}={_shown(value)}: expected {kind_of(kind)}")


def _check_kinds(config: Mapping[str, Any], source: str) -> None:
    """Of the keys that belong to no part: as the defaults are."""
    present = dotted(config)
    for key, default, _ in _everything(_defaults()):
        value = at(config, key)
        if key in OPTIONAL or (value is None and key not in present):
            continue
        if value is None and default is not None or not same_kind(value, default):
            expected = "a group of keys" if isinstance(default, dict) else f"{default!r} or the like"
            raise ConfigError(f"{source}: {key}={_shown(value)}: expected {expected}")


def place_of(key: str) -> str:
    """Where a part stands, whatever the task's or the data set's name: tasks.ssdlite.head -> tasks.*.head."""
    key = re.sub(r"^tasks\.\w+", "tasks.*", key)
    return re.sub(r"^data\.\w+\.source$", "data.source", key)


def parts_at(place: str) -> Mapping[str, Mapping[str, Any]]:
    """{`_target_`: its arguments in conf/} of the parts that may stand at a place."""
    group = {"tasks": "task"}.get(place.split(".")[0], place.split(".")[0])
    return _parts_of(group).get(place, {})


@cache
def _parts_of(group: str) -> dict[str, dict[str, dict[str, Any]]]:
    """{place: {`_target_`: its arguments}} of all files of a folder of conf/."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted((shipped("conf") / group).glob("*.yaml")) if WORD.fullmatch(group) else ():
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, SafeLoader)
        for key, value, _ in _everything(content if "# @package _global_" in text else {group: content}):
            if isinstance(value, dict) and TARGET in value:
                arguments = found.setdefault(place_of(key), {}).setdefault(value[TARGET], {})
                arguments |= {name: argument for name, argument in value.items() if name != TARGET}
    return found


@cache
def _defaults() -> dict[str, Any]:
    """What conf/ says beside its parts: of train.yaml and the trainer."""
    train, trainer = (
        yaml.load((shipped("conf") / name).read_text(encoding="utf-8"), SafeLoader)
        for name in ("train.yaml", "trainer/default.yaml")
    )
    return {key: train[key] for key in train if key not in ("defaults", "hydra", "choices")} | {"trainer": trainer}


def _shown(value: Any) -> str:
    return "nothing" if value is None else shortened(repr(value), 80)
