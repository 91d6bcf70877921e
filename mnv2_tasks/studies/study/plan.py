"""A study file -> the runs it asks for, each a name and overrides of tools/train.py."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from mnv2_tasks.build import build_network, build_sources, class_names_of
from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import GROUPS
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.studies.study.axes import AXES, OWN
from mnv2_tasks.training.ranges import check_ranges
from mnv2_tasks.wording import nearest

REFUSED = {
    "resume": "a study resumes its runs by itself",
    "repeat": "a study repeats no single run",
    "name": "a study names its runs by what they are",
}
NUMBERS = {"widths": ("numbers", (int, float)), "sizes": ("whole numbers", (int,)), "seeds": ("whole numbers", (int,))}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a file in conf/study/ says: the grid of the axes that are not empty, and runs besides it.

    Args:
        title: heads the report.
        tasks, backbones, widths, sizes, seeds: see `AXES`.
        ablations: one more axis, {name: overrides}.
        runs: {name: overrides} of runs outside of the grid, each with every seed.
        evaluations: {name: overrides} of tools/eval.py, for every run once it is trained.
        common: overrides of every run.
        for_data: {data set: overrides of every run on it}.
    """

    title: str
    tasks: list[str] = field(default_factory=list)
    backbones: list[str] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    ablations: dict[str, list[str]] = field(default_factory=dict)
    runs: dict[str, list[str]] = field(default_factory=dict)
    evaluations: dict[str, list[str]] = field(default_factory=dict)
    common: list[str] = field(default_factory=list)
    for_data: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # by hand: a library's messages would name fields and types, these the words of the command line and of the YAML
        for name in (*AXES, "common"):
            values = getattr(self, name)
            if not isinstance(values, list) or len(set(values)) < len(values):
                raise ConfigError(f"study: {name}={values}: expected a list in which nothing is named twice")
            wanted, types = NUMBERS.get(name, ("", ()))
            if wanted and not all(type(value) in types for value in values):
                raise ConfigError(f"study: {name}={values}: expected {wanted}")
        for name in ("ablations", "runs", "evaluations", "for_data"):
            value = getattr(self, name)
            if not isinstance(value, dict) or not all(isinstance(overrides, list) for overrides in value.values()):
                form = "a {name: [overrides]}, such as {long: [epochs=20]}"
                raise ConfigError(f"study: {name} is {value!r}; expected {form}")
        for name in [*self.ablations, *self.runs, *self.evaluations]:
            if not re.fullmatch(r"[A-Za-z0-9_.+]+(-[A-Za-z0-9_.+]+)*", str(name)):
                raise ConfigError(f"study: {name!r} names a folder; use letters, digits, and - _ . + between them")
        if not self.tasks and not self.runs:
            raise ConfigError("study: names neither tasks nor runs, so there is nothing to do")
        if not self.seeds:
            raise ConfigError("study: seeds=[]: expected at least one")


@dataclass(frozen=True)
class PlannedRun:
    """One training of a study.

    Args:
        name: of its folder; stays the same when the study gets more seeds, widths and so on.
        overrides: of tools/train.py.
        ablation: the name of its variant, or "".
        evaluations: {name: overrides of tools/eval.py}.
        config: composed of the overrides.
    """

    name: str
    overrides: tuple[str, ...]
    ablation: str
    evaluations: Mapping[str, tuple[str, ...]]
    config: DictConfig


def study_from(content: Mapping[str, Any], *, narrowed: bool = False, ablations: Sequence[str] | None = None) -> Study:
    """A study file's content, checked.

    Args:
        narrowed: the command line gave an axis anew, so runs outside of the grid are left out.
        ablations: the names of those to keep; None keeps all.

    Raises:
        ConfigError: a key or an ablation that there is not, or a value of the wrong kind.
    """
    known = [f.name for f in dataclasses.fields(Study)]
    for key in content:
        if key not in known:
            raise ConfigError(f"study: there is no key {key!r}. {nearest(str(key), known)}")
    study = Study(**content)
    for name in ablations or []:
        if name not in study.ablations:
            raise ConfigError(f"ablations={name}: the study has no such ablation. {nearest(name, study.ablations)}")
    if ablations is not None:
        study = dataclasses.replace(study, ablations={name: study.ablations[name] for name in ablations})
    return dataclasses.replace(study, runs={}) if narrowed and study.tasks else study


def plan_runs(study: Study, passed: Sequence[str] = ()) -> list[PlannedRun]:
    """Every run of the study, composed and checked. The first seed's come first, so that early results compare.

    Args:
        passed: overrides of every run from the command line; they win.

    Raises:
        ConfigError: a name, key or value that some run could not work with; the message names the run.
    """
    cells = _cells(study)
    names = [name for name, _, _ in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"study: {len(twice)} names stand for several runs, such as {twice[0]}")
    first_name, _, first_overrides = cells[0]
    with _errors_name(_with_seed(first_name, study.seeds[0])):
        keys = [*compose("train", merge_overrides([*study.common, *first_overrides])), *GROUPS, "recipe"]
    for override in passed:
        _check_passed(override, study, keys)
    evaluations = {name: tuple(merge_overrides(overrides)) for name, overrides in study.evaluations.items()}
    runs = []
    for seed, (name, ablation, overrides) in itertools.product(study.seeds, cells):
        chosen = [o.removeprefix("data=") for o in [*study.common, *overrides, *passed] if o.startswith("data=")]
        for_data = study.for_data.get(chosen[-1] if chosen else "shapes", [])
        # of two overrides with one key the later one counts: Hydra would refuse a group that is given twice
        merged = merge_overrides([*study.common, *for_data, *overrides, f"seed={seed}", *passed])
        name = _with_seed(name, seed)
        with _errors_name(name):
            config = compose("train", merged)
            check_ranges(config)
            if seed == study.seeds[0]:  # a seed changes nothing of what is built
                build_on_meta(config)
                for extra in evaluations.values():
                    compose("train", merge_overrides([*merged, *extra]))
        runs.append(PlannedRun(name, tuple(merged), ablation, evaluations, config))
    return runs


def merge_overrides(overrides: Sequence[str]) -> list[str]:
    """In order of their keys' first appearance, the last override of each."""
    return list({override.partition("=")[0]: override for override in overrides}.values())


def build_on_meta(config: DictConfig) -> nn.Module:
    """The network without values; raises ConfigError if it cannot be built or the data set does not take the task."""
    with torch.device("meta"):
        return build_network(config, class_names_of(build_sources(config)))


@contextmanager
def _errors_name(run: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"run {run}: {error}") from error


def _with_seed(name: str, seed: int) -> str:
    return f"{name}-{AXES['seeds'].in_name.format(seed)}"


def _cells(study: Study) -> list[tuple[str, str, list[str]]]:
    """(name, ablation, overrides) of each run, but for its seed."""
    cells = []
    axes = [[(axis, value) for value in getattr(study, name)] for name, axis in AXES.items() if name != "seeds"]
    for cell in itertools.product(*filter(None, axes)) if study.tasks else ():
        shown = [axis.in_name.format(value) for axis, value in cell]
        overrides = [f"{axis.key}={value}" for axis, value in cell]
        for ablation, extra in (study.ablations or {"": []}).items():
            name = "-".join([*shown, ablation] if ablation else shown)
            cells.append((name, ablation, [*overrides, *extra]))
    return cells + [(name, "", overrides) for name, overrides in study.runs.items()]


def _check_passed(override: str, study: Study, keys: Sequence[str]) -> None:
    """Raise ConfigError unless an override of every run can be one.

    Args:
        keys: the first parts of what tools/train.py can be told about such a run.
    """
    key, sign, value = override.partition("=")
    if not sign:
        raise ConfigError(f"{override}: expected key=value")
    for name, axis in AXES.items():
        if key == axis.key and (getattr(study, name) or name == "tasks"):
            raise ConfigError(f"{override}: {name} are an axis of the study; say {name}=[{value}]")
    if key in REFUSED:
        raise ConfigError(f"{override}: {REFUSED[key]}")
    for name, overrides in study.ablations.items():
        if key.lstrip("+~") in (one.partition("=")[0].lstrip("+~") for one in overrides):
            raise ConfigError(
                f"{override}: is what the ablation {name} varies, and would make it like the others. Leave it away, or "
                f"say ablations=[<name>] of those that do not set it"
            )
    first = key.lstrip("+~").split(".")[0]
    if first not in keys:
        raise ConfigError(f"{override}: there is no key {first!r}. {nearest(first, [*keys, *AXES, *OWN])}")
