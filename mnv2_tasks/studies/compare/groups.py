"""Runs that differ only in their seed form a group; what tells groups apart names them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.build import task_kinds
from mnv2_tasks.config.stored import dotted
from mnv2_tasks.studies.compare.run import Run

# where things are, and how a run was watched: not what it is
PLACES = ("runs", "run", "out", "resume", "repeat", "debug", "workers", "groups")
BROUGHT = ("backbone", "tasks", "loss_weights")  # by a choice, each with keys of its own
ABSENT = "–"


@dataclass
class Group:
    runs: list[Run]
    label: str = ""
    missing: list[str] = field(default_factory=list)  # seeds that failed or were interrupted

    @property
    def first(self) -> Run:
        return self.runs[0]


def flatten(config: DictConfig) -> dict[str, Any]:
    """{dotted key: value} of what decides a run's result, its seed included; lists are values.

    A task goes by its kind, such as <detection>, so that the keys of ssd stand beside those of ssdlite.
    """
    kinds = task_kinds(config)
    names = {task: f"<{kind}>" for task, kind in kinds.items() if list(kinds.values()).count(kind) == 1}
    content = OmegaConf.to_container(config, resolve=True)
    for key in ("tasks", "loss_weights"):
        content[key] = {names.get(task, task): value for task, value in content.get(key, {}).items()}
    flat = dotted(content)
    return {k: v for k, v in flat.items() if k.split(".")[0] not in PLACES and k.split(".")[-1] != "root"}


def group_runs(runs: Sequence[Run], unfinished: Sequence[DictConfig] = ()) -> list[Group]:
    """Groups in the order of their first runs. A seed that is there twice is a repetition, in a group of its own.

    Args:
        unfinished: configurations of runs that have no score.
    """
    groups: dict[tuple[str, int], Group] = {}
    for run in runs:
        key, repetition = _identity(run.config), 0
        while run.seed in [r.seed for r in groups.get((key, repetition), Group([])).runs]:
            repetition += 1
        groups.setdefault((key, repetition), Group([])).runs.append(run)
    for config in unfinished:
        group = groups.get((_identity(config), 0))
        if group is not None:
            group.missing.append(str(config.get("seed", 0)))
    result = list(groups.values())
    for group, label in zip(result, labels([flatten(g.first.config) for g in result])):
        group.label = label or group.first.name
    taken = [group.label for group in result]
    for group in result:
        if taken.count(group.label) > 1:
            group.label = f"{group.label} ({group.first.name})" if group.label != group.first.name else group.label
    return result


def _identity(config: DictConfig) -> str:
    flat = flatten(config)
    flat.pop("seed", None)
    return repr(sorted(flat.items()))


def differences(flat: Sequence[dict[str, Any]]) -> list[tuple[list[str], list[str]]]:
    """[(keys, their value in each configuration)] of all that differs; keys that always go together share a row.

    What a backbone or a task has and another kind of it lacks is no difference where those that have it agree: the
    choices say that already.
    """
    keys = dict.fromkeys(key for config in flat for key in config if key != "seed")
    rows: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        values = tuple(spelled(config[key]) if key in config else ABSENT for config in flat)
        agree = len({*values} - {ABSENT}) == 1 and key.split(".")[0] in BROUGHT
        if len(set(values)) > 1 and not agree:
            rows.setdefault(values, []).append(key)
    return [(sorted(of, key=lambda key: key.count(".")), list(values)) for values, of in rows.items()]


def labels(flat: Sequence[dict[str, Any]]) -> list[str]:
    """For each configuration the fewest values, from the plainest keys, that tell it from the others.

    Such as "mobilenet_v2, width 0.5". Empty where configurations do not differ.
    """
    rows = sorted(differences(flat), key=lambda row: _plainness(row[0][0]))
    parts: list[list[str]] = [[] for _ in flat]
    for keys, values in rows:
        name = keys[0].split(".")[-1].strip("_")
        named = [v if keys[0].startswith("choices.") else f"{name} {v}" for v in values]
        alike = [[named[j] for j, other in enumerate(parts) if other == part] for part in parts]
        parts = [[*p, value] if len({*others}) > 1 else p for p, value, others in zip(parts, named, alike)]
    return [", ".join(part) for part in parts]


def _plainness(key: str) -> tuple[int, int]:
    """Chosen options first, then values from the top down; class paths last."""
    order = ("choices.task", "choices.backbone", "choices.data")
    if key in order:
        return (0, order.index(key))
    return (2 if key.endswith("_target_") else 1, key.count("."))


def spelled(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value).removeprefix("mnv2_tasks.")
