"""A study file -> the runs it asks for, each a name and overrides of tools/train.py."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig

from mnv2_tasks.build import build_network, build_sources, class_names_of
from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import GROUPS
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import nearest

KEYS = {"tasks": "task", "backbones": "backbone", "widths": "width", "sizes": "imgsz", "seeds": "seed"}  # axis -> key
SHOWN = {"tasks": "{}", "backbones": "{}", "widths": "w{:g}", "sizes": "{}px", "seeds": "seed{}"}  # axis -> in a name
OWN = ("ablations", "study", "jobs", "dry", "runs", "retrain")  # the tool's other keys
REFUSED = {"resume": "a study resumes its runs by itself", "repeat": "a study repeats no single run"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a file in conf/study/ says: the grid of the axes that are not empty, and runs besides it.

    Args:
        title: heads the report.
        tasks, backbones, widths, sizes, seeds: axes, see `KEYS`.
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
        for name, value in dataclasses.asdict(self).items():
            if name == "title":
                continue
            of_names = name in ("ablations", "runs", "evaluations", "for_data")
            if not isinstance(value, dict if of_names else list):
                form = "a {name: [overrides]}" if of_names else "a list"
                raise ConfigError(f"study: {name} is {value!r}; expected {form}")
            if of_names and not all(isinstance(overrides, list) for overrides in value.values()):
                raise ConfigError(f"study: {name}: expected a list of overrides for each name, such as [epochs=2]")
            if len(set(value)) < len(value):
                raise ConfigError(f"study: {name}={value}: something is named twice")
            wanted = {"widths": (int, float), "sizes": (int,), "seeds": (int,)}.get(name)
            if wanted and not all(type(entry) in wanted for entry in value):
                kind = "numbers" if float in wanted else "whole numbers"
                raise ConfigError(f"study: {name}={value}: expected {kind}")
        for name in [*self.ablations, *self.runs, *self.evaluations]:
            if not re.fullmatch(r"[A-Za-z0-9_.+]+(-[A-Za-z0-9_.+]+)*", str(name)):
                raise ConfigError(f"study: {name!r} names a folder; use letters, digits, and - _ . + between them")
        if not self.tasks and not self.runs:
            raise ConfigError("study: names neither tasks nor runs, so there is nothing to do")
        if not self.seeds:
            raise ConfigError("study: seeds=[]: expected at least one")


@dataclass(frozen=True, kw_only=True)
class Run:
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


def plan(study: Study, passed: Sequence[str] = ()) -> list[Run]:
    """Every run of the study, composed and checked. The first seed's come first, so that early results compare.

    Args:
        passed: overrides of every run from the command line; they win.

    Raises:
        ConfigError: a name, key or value that some run could not work with; the message names the run.
    """
    cells = _cells(study)
    keys = _keys(cells[0], study)
    for override in passed:
        _check_passed(override, study, keys)
    runs, checked = [], set()
    for name, ablation, overrides in cells:
        chosen = [o.removeprefix("data=") for o in [*study.common, *overrides, *passed] if o.startswith("data=")]
        data = chosen[-1] if chosen else "shapes"
        # of two overrides with one key the later one counts: Hydra would refuse a group that is given twice
        merged = merge([*study.common, *study.for_data.get(data, []), *overrides, *passed])
        evaluations = {key: tuple(merge(value)) for key, value in study.evaluations.items()}
        try:
            config = compose("train", merged)
            seedless = tuple(o for o in merged if not o.startswith("seed="))
            if seedless not in checked:
                check_builds(config)
                for extra in evaluations.values():
                    compose("train", merge([*merged, *extra]))
                checked.add(seedless)
        except ValueError as error:
            raise ConfigError(f"run {name}: {error}") from error
        runs.append(Run(name=name, overrides=tuple(merged), ablation=ablation, evaluations=evaluations, config=config))
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"study: {len(twice)} names stand for several runs, such as {twice[0]}")
    return runs


def merge(overrides: Sequence[str]) -> list[str]:
    """In order of their keys' first appearance, the last override of each."""
    return list({override.partition("=")[0]: override for override in overrides}.values())


def check_builds(config: DictConfig) -> None:
    """Raise ConfigError unless the data set takes the task and the network can be built; nothing is computed."""
    with torch.device("meta"):
        build_network(config, class_names_of(build_sources(config)))


def _cells(study: Study) -> list[tuple[str, str, list[str]]]:
    """(name, ablation, overrides) of each run, seed by seed."""
    cells = []
    axes = {axis: getattr(study, axis) for axis in ("tasks", "backbones", "widths", "sizes")}
    grid = list(itertools.product(*([(axis, value) for value in values] for axis, values in axes.items() if values)))
    for seed in study.seeds:
        seeded = [f"seed={seed}"]
        for cell in grid if study.tasks else ():
            parts = [SHOWN[axis].format(value) for axis, value in cell]
            overrides = [f"{KEYS[axis]}={value}" for axis, value in cell]
            for ablation, extra in (study.ablations or {"": []}).items():
                name = "-".join([*parts, *([ablation] if ablation else []), f"seed{seed}"])
                cells.append((name, ablation, [*overrides, *extra, *seeded]))
        for name, overrides in study.runs.items():
            cells.append((f"{name}-seed{seed}", "", [*overrides, *seeded]))
    return cells


def _keys(cell: tuple[str, str, list[str]], study: Study) -> list[str]:
    name, _, overrides = cell
    try:
        return [*compose("train", merge([*study.common, *overrides])), *GROUPS]
    except ValueError as error:
        raise ConfigError(f"run {name}: {error}") from error


def _check_passed(override: str, study: Study, keys: Sequence[str]) -> None:
    """Raise ConfigError unless an override of every run can be one.

    Args:
        keys: the first parts of what tools/train.py can be told about such a run.
    """
    key, sign, value = override.partition("=")
    if not sign:
        raise ConfigError(f"{override}: expected key=value")
    for axis, own in KEYS.items():
        if key == own and (getattr(study, axis) or axis == "tasks"):
            raise ConfigError(f"{override}: {axis} are an axis of the study; say {axis}=[{value}]")
    if key in REFUSED:
        raise ConfigError(f"{override}: {REFUSED[key]}")
    first = key.lstrip("+~").split(".")[0]
    if first not in keys:
        raise ConfigError(f"{override}: there is no key {first!r}. {nearest(first, [*keys, *KEYS, *OWN])}")
