"""What a search may choose: keys of tools/train.py, each with a list of values or a range."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import GROUPS
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import decoded, read_yaml
from mnv2_tasks.studies.study.plan import build_on_meta, merge_overrides
from mnv2_tasks.wording import brief, did_you_mean, visible

FORM = "[8, 16, 32] is a list to choose from, {low: 1e-4, high: 1e-2, log: true} a range"
PARTS = ("low", "high", "log", "step")
REFUSED = {  # keys: why they are not searched for
    "seed": "the best of several seeds is luck",
    "task": "a search has one task: task=<task> beside search=",
    "data": "scores on other data do not compare",
    "runs": "it changes no score", "workers": "it changes no score", "logger": "it changes no score",
    "trust": "it is for you to say", "debug": "it changes no score",
    "resume": "trials are resumed by themselves", "repeat": "it names a run", "name": "trials have numbers",
}  # fmt: skip
OF_TRAINING = {"augmentation", "train_size", "decode"}  # what of data. leaves the validation as it is
NEAR = 1e-8  # parts of a step, as Optuna has it


class Choice(NamedTuple):
    values: tuple[str, ...]  # as a command line has them

    def edges(self) -> tuple[str, ...]:
        return self.values


class Range(NamedTuple):
    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False  # whole numbers, as its key takes them

    def edges(self) -> tuple[str, ...]:
        return written(self.low), written(self.high)


Space = Mapping[str, Choice | Range]


def read_space(given: Any) -> dict[str, Any]:
    """The space's content.

    Args:
        given: the name of a YAML file, or its content.

    Raises:
        ConfigError: there is no such file, or it holds no mapping.
    """
    if isinstance(given, str) and given:
        content = _read_file(Path(given))
    elif OmegaConf.is_config(given):
        content = OmegaConf.to_container(given)
    else:
        shown = "" if given == "" else written(given)
        raise ConfigError(f"search={shown}: expected a YAML file, or its content; {FORM}")
    if not isinstance(content, dict) or not content:
        where = visible(given) if isinstance(given, str) else "search"
        raise ConfigError(f"{where}: expected keys of tools/train.py with their values, such as batch: [8, 16]; {FORM}")
    return {str(key): value for key, value in content.items()}


def _read_file(path: Path) -> Any:
    try:
        content = read_yaml(path)
    except ConfigError as error:
        raise ConfigError(f"search: {visible(str(error))}") from None
    check_once(decoded(path.read_bytes(), str(path)), f"search: {path}")
    return content


def check_once(text: str, name: str) -> None:
    """Raise ConfigError for a key that a space, or a range of it, has twice: the last one alone would count.

    Args:
        text: YAML.
        name: of what it stands in; the error starts with it.
    """
    open_nodes = [yaml.compose(text, yaml.SafeLoader)]
    for node in open_nodes:
        if not isinstance(node, yaml.MappingNode):
            continue
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            lines = sorted({key.start_mark.line + 1 for key, _ in node.value if key.value == twice})
            raise ConfigError(f"{name}: {visible(str(twice))} is there twice (line {brief(lines)[1:-1]}). Keep one")
        open_nodes += [value for _, value in node.value]


def space_from(content: Mapping[str, Any], common: Sequence[str]) -> Space:
    """A space, checked: runs with the edges of all its ranges, and with each value of its lists, can be built.

    Args:
        content: {key of tools/train.py: a list of values, or a mapping with low and high}.
        common: overrides of every trial.

    Raises:
        ConfigError: a key that there is not, a malformed range, or a value that no run could have.
    """
    base = compose("train", list(common))
    given = {override.partition("=")[0].lstrip("+~") for override in common}
    space = {}
    for key, wanted in content.items():
        if not re.fullmatch(r"\+?[A-Za-z_][\w.]*", key):
            raise ConfigError(f"search: {visible(key)!r}: expected a key of tools/train.py, such as optim.weight_decay")
        if "_target_" in key or key.startswith("hydra") or any(mark in written(wanted) for mark in ("_target_", "${")):
            raise ConfigError(f"search: {key}: a space holds values alone; what names code is said beside search=")
        if key.startswith("data.") and not {*key.split(".")} & OF_TRAINING:
            raise ConfigError(f"search: {key} is not searched for: {REFUSED['data']}")
        if why := REFUSED.get(key.lstrip("+")):
            raise ConfigError(f"search: {key} is not searched for: {why}")
        if key.lstrip("+") in given:
            raise ConfigError(f"search: {visible(key)} is given beside the search, too. Leave one of the two away")
        space[key] = _choice(key, wanted) if isinstance(wanted, list) else _range(key, wanted, base)
    for number in range(max(len(one.edges()) for one in space.values())):
        edges = [f"{key}={one.edges()[number % len(one.edges())]}" for key, one in space.items()]
        try:
            build_on_meta(compose("train", merge_overrides([*common, *edges])))
        except ValueError as error:
            raise ConfigError(f"search: {error}") from error
    return space


def _choice(key: str, values: list[Any]) -> Choice:
    words = tuple(written(value) for value in values)
    if not words:
        raise ConfigError(f"search: {visible(key)}: []: expected values to choose from; {FORM}")
    if len(set(words)) < len(words):
        raise ConfigError(f"search: {visible(key)}: {brief(values)}: expected a list in which nothing is named twice")
    return Choice(words)


def _range(key: str, wanted: Any, base: DictConfig) -> Range:
    name = f"search: {visible(key)}"
    if not isinstance(wanted, dict):
        raise ConfigError(f"{name}: {brief(wanted)}: expected values to choose from, or a range; {FORM}")
    for part in map(str, wanted):
        if part not in PARTS:
            meant = did_you_mean(part, PARTS)
            raise ConfigError(f"{name}: there is no {visible(part)!r} in a range. {meant}There are: {', '.join(PARTS)}")
    if missing := [part for part in PARTS[:2] if part not in wanted]:
        raise ConfigError(f"{name}: has no {missing[0]}; {FORM}")
    numbers = {part: wanted[part] for part in ("low", "high", "step") if wanted.get(part) is not None}
    if fault := next((part for part, value in numbers.items() if type(value) not in (int, float)), None):
        raise ConfigError(f"{name}: {fault}={brief(wanted[fault])}: expected a number")
    log, step = wanted.get("log", False), numbers.get("step")
    if not isinstance(log, bool):
        raise ConfigError(f"{name}: log={brief(log)}: expected true or false")
    if not numbers["low"] < numbers["high"]:
        raise ConfigError(f"{name}: low={numbers['low']} is not below high={numbers['high']}")
    if log and numbers["low"] <= 0:
        raise ConfigError(f"{name}: low={numbers['low']}: a logarithmic range begins above 0")
    if step is not None and (log or not 0 < step <= numbers["high"] - numbers["low"]):
        why = "a logarithmic range has none" if log else "expected more than 0, and no more than high - low"
        raise ConfigError(f"{name}: step={step}: {why}")
    if step is not None and not _is_whole(steps := (numbers["high"] - numbers["low"]) / step):
        below, above = (f"{numbers['low'] + count * step:.6g}" for count in (math.floor(steps), math.ceil(steps)))
        high = numbers["high"]
        raise ConfigError(f"{name}: high={high} is not on a step of {step}: say high={below} or high={above}")
    now = OmegaConf.select(base, key.lstrip("+"))
    whole = type(now) is int or (now is None and all(type(value) is int for value in numbers.values()))
    if whole and (fault := next((part for part, value in numbers.items() if type(value) is float), None)):
        raise ConfigError(f"{name}: {fault}={numbers[fault]}: expected a whole number, such as {now}")
    return Range(numbers["low"], numbers["high"], log, step, whole)


def written(value: Any) -> str:
    """A value as a command line has it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, str) and not re.fullmatch(r"(?!(?i:true|false|null|nan|inf)$)[A-Za-z_][\w./-]*", value):
        return "'" + value.replace("'", "\\'") + "'"
    return str(value)


def override(key: str, one: Choice | Range, value: Any) -> str:
    """What says to tools/train.py that a key has a value, which a trial was given."""
    if isinstance(one, Range) and not one.whole:  # six digits can be read; not beyond the range, which had more
        value = min(max(float(f"{value:.6g}"), one.low), one.high)
    return f"{key}={value}"


def in_words(one: Choice | Range) -> str:
    if isinstance(one, Choice):
        return ", ".join(one.values)
    step = f", in steps of {one.step:g}" if one.step else ""
    return f"{one.low:g} to {one.high:g}{', on a logarithmic scale' if one.log else ''}{step}"


def value_of_recipe(key: str, one: Choice | Range, base: DictConfig, common: Sequence[str]) -> Any:
    """What a key has without a search, if the space has it too, else None.

    Args:
        common: overrides of which `base` was composed.
    """
    if key in GROUPS:  # of which a config has the content alone
        return next((word for word in one.edges() if compose("train", [*common, f"{key}={word}"]) == base), None)
    value = OmegaConf.select(base, key.lstrip("+"))
    if isinstance(one, Choice):
        word = written(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
        return next((other for other in one.values if _number(other) == _number(word)), None)
    inside = isinstance(value, int | float) and one.low <= value <= one.high
    return value if inside and (one.step is None or _is_whole((value - one.low) / one.step)) else None


def _is_whole(steps: float) -> bool:
    return abs(steps - round(steps)) < NEAR


def _number(word: str) -> float | str:
    """That which it says, if it is one: 1 is 1.0."""
    try:
        return float(word)
    except ValueError:
        return word
