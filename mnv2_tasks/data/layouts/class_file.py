"""The class list that lies beside YOLO labels and masks."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from mnv2_tasks.errors import ConfigError

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "labels.txt", "obj.names", "classes.json")


def class_list(places: Iterable[Path]) -> list[str] | None:
    """Index i is class i. None if no folder of `places` has a class list.

    Raises:
        ConfigError: a list is there, but it cannot be one of classes 0, 1, 2 ...
    """
    for path in (folder / name for folder in places for name in NAMES):
        if path.is_file() and (names := _read(path)) is not None:
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"{path}: names {', '.join(twice)} twice; each line or entry is one class")
            if not names:
                raise ConfigError(f"{path}: names no classes")
            return names
    return None


def _read(path: Path) -> list[str] | None:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return _ordered(path, json.loads(text))
        if path.suffix in (".yaml", ".yml"):
            return _from_yaml(path, yaml.load(text, yaml.BaseLoader))  # strings only: a class may be called `no`
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a class list ({error})") from None
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise ConfigError(f"{path}: line {lines.index('') + 1} is empty; line i names class i, counted from 0")
    return lines


def _from_yaml(path: Path, content: Any) -> list[str] | None:
    if not isinstance(content, dict) or "names" not in content:
        return None
    names = _ordered(path, content["names"])
    if "nc" in content and content["nc"] != str(len(names)):
        raise ConfigError(f"{path}: nc is {content['nc']}, but {len(names)} names are given")
    return names


def _ordered(path: Path, names: Any) -> list[str]:
    if isinstance(names, list):
        return [str(name) for name in names]
    if isinstance(names, dict):
        numbers = [str(i) for i in range(len(names))]
        if set(names) == set(numbers):
            return [str(names[number]) for number in numbers]
        if {str(value) for value in names.values()} == set(numbers):
            return sorted(names, key=lambda name: int(names[name]))
    raise ConfigError(f"{path}: expected a list of class names, or the names by number from 0 without gaps")
