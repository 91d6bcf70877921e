"""How the numbers of several tasks are called in metrics.json and in the logs."""

from collections.abc import Mapping, Sized
from typing import Any


def named(values: Mapping[str, Mapping[str, Any]], tasks: Sized) -> dict[str, Any]:
    """{task: {key: value}} -> {key in metrics.json: value}."""
    return {prefix_of(task, tasks) + key: value for task, found in values.items() for key, value in found.items()}


def prefix_of(task: str, tasks: Sized) -> str:
    """What stands before the keys of a task: its name, where a network has several."""
    return "" if len(tasks) == 1 else f"{task}/"
