"""Runs that differ only in their seed form a group; what tells groups apart names them."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.build import task_kinds
from mnv2_tasks.stored.checked_config import dotted
from mnv2_tasks.studies.compare.finished_run import FinishedRun
from mnv2_tasks.studies.compare.measure import MeasuredNetwork

# where things are, and how a run was watched: not what it is
PLACES = ("runs", "run", "out", "resume", "repeat", "debug", "workers", "groups")
BY_TASK = ("tasks", "loss_weights", "class_weights", "repeat_threshold")
OF_A_CHOICE = ("backbone", *BY_TASK)  # sections whose keys depend on what was chosen
ABSENT = "–"


@dataclass
class Group:
    runs: list[FinishedRun]
    number: int = 0  # by which plots and tables call it, from 1
    label: str = ""
    missing: list[str] = field(default_factory=list)  # seeds that failed or were interrupted
    network: MeasuredNetwork | None = None  # of the first run; None: it cannot be built

    @property
    def first(self) -> FinishedRun:
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]


def flatten(config: DictConfig) -> dict[str, Any]:
    """{dotted key: value} of what decides a run's result, its seed included; lists are values.

    A task goes by its kind, such as <detection>, so that the keys of ssd stand beside those of ssdlite.
    """
    kinds = task_kinds(config)
    names = {task: f"<{kind}>" for task, kind in kinds.items() if list(kinds.values()).count(kind) == 1}
    content: Any = OmegaConf.to_container(config, resolve=True)
    for key in BY_TASK:
        content[key] = {names.get(task, task): value for task, value in content.get(key, {}).items()}
    flat = dotted(content)
    return {k: v for k, v in flat.items() if k.split(".")[0] not in PLACES and k.split(".")[-1] != "root"}


def group_runs(runs: Sequence[FinishedRun], unfinished: Sequence[DictConfig] = ()) -> list[Group]:
    """Groups in the order of their first runs. A seed that is there twice is a repetition, in a group of its own.

    Args:
        unfinished: configurations of runs that have no score.
    """
    groups: list[Group] = []
    repetitions: dict[str, list[Group]] = defaultdict(list)  # of equal settings
    for run in runs:
        alike = repetitions[_settings(run.config)]
        group = next((group for group in alike if run.seed not in group.seeds), None)
        if group is None:
            group = Group([], number=len(groups) + 1)
            groups.append(group)
            alike.append(group)
        group.runs.append(run)
    for config in unfinished:
        for group in repetitions[_settings(config)][:1]:
            group.missing.append(str(config.get("seed", 0)))
    for group, label in zip(groups, shortest_labels([flatten(group.first.config) for group in groups])):
        group.label = label or group.first.name
    taken = Counter(group.label for group in groups)
    for group in groups:
        if taken[group.label] > 1 and group.label != group.first.name:
            group.label = f"{group.label} ({group.first.name})"
    return groups


def _settings(config: DictConfig) -> str:
    """Equal for runs that differ only in their seed."""
    flat = flatten(config)
    flat.pop("seed", None)
    return repr(sorted(flat.items()))


def differing_keys(flat: Sequence[dict[str, Any]]) -> list[tuple[list[str], list[str]]]:
    """[(keys, their value in each configuration)] of all that differs; keys that always go together share a row.

    What a backbone or a task has and another kind of it lacks is no difference where those that have it agree: the
    choices say that already.
    """
    keys = dict.fromkeys(key for config in flat for key in config if key != "seed")
    rows: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        values = tuple(_as_text(config[key]) if key in config else ABSENT for config in flat)
        agree = len({*values} - {ABSENT}) == 1 and key.split(".")[0] in OF_A_CHOICE
        if len(set(values)) > 1 and not agree:
            rows.setdefault(values, []).append(key)
    return [(sorted(of, key=lambda key: key.count(".")), list(values)) for values, of in rows.items()]


def shortest_labels(flat: Sequence[dict[str, Any]]) -> list[str]:
    """For each configuration the fewest values, from the plainest keys, that tell it from the others.

    Such as "mobilenet_v2, width 0.5". Empty where configurations do not differ.
    """
    parts: list[tuple[str, ...]] = [()] * len(flat)
    for keys, values in sorted(differing_keys(flat), key=lambda row: _plainness(row[0][0])):
        name = "" if keys[0].startswith("choices.") else keys[0].split(".")[-1].strip("_") + " "
        longer = [(*part, name + value) for part, value in zip(parts, values)]
        # a value is of use only where configurations with one label so far have several
        divided = [label for label in parts if len({new for old, new in zip(parts, longer) if old == label}) > 1]
        parts = [new if old in divided else old for old, new in zip(parts, longer)]
    return [", ".join(part) for part in parts]


def _plainness(key: str) -> tuple[int, int]:
    """Chosen options first, then values from the top down; class paths last."""
    order = ("choices.task", "choices.backbone", "choices.data")
    if key in order:
        return (0, order.index(key))
    return (2 if key.endswith("_target_") else 1, key.count("."))


def _as_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return str(value).removeprefix("mnv2_tasks.")
