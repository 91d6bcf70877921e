"""The class list that lies beside YOLO labels and masks."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mnv2_tasks.data.reading.class_names import check_class_names
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import MOST_BYTES, read_bytes, read_json, read_yaml
from mnv2_tasks.wording import brief, first_few

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "labels.txt", "obj.names", "classes.json")


def class_list(places: Iterable[Path]) -> list[str] | None:
    """Index i is class i. None if no folder of `places` has a class list.

    Raises:
        ConfigError: a list is there, but it cannot be one of classes 0, 1, 2 ...
    """
    for path in (folder / name for folder in places for name in NAMES):
        if path.is_file() and (names := _read(path)) is not None:
            check_class_names(names, str(path))
            twice = sorted(name for name, times in Counter(names).items() if times > 1)
            if twice:
                raise ConfigError(f"{path}: names {first_few(twice)} twice; each line or entry is one class")
            if not names:
                raise ConfigError(f"{path}: names no classes")
            return names
    return None


def _read(path: Path) -> list[str] | None:
    if path.suffix == ".json":
        return _ordered(path, read_json(path))
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path, read_yaml(path, as_written=True))  # a class may be called `no`
    try:
        text = read_bytes(path, most_bytes=MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read as a class list, it is not UTF-8 text ({error.reason})") from None
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise ConfigError(f"{path}: line {lines.index('') + 1} is empty; line i names class i, counted from 0")
    return lines


def _from_yaml(path: Path, content: Any) -> list[str] | None:
    if not isinstance(content, dict) or "names" not in content:
        return None
    names = _ordered(path, content["names"])
    if "nc" in content and content["nc"] != str(len(names)):
        raise ConfigError(f"{path}: nc is {brief(content['nc'])}, but {len(names)} names are given")
    return names


def _ordered(path: Path, names: Any) -> list[str]:
    if isinstance(names, list) and all(isinstance(name, str | int | float) for name in names):
        return [str(name) for name in names]
    if isinstance(names, dict) and all(isinstance(name, str | int | float) for name in names.values()):
        numbers = [str(i) for i in range(len(names))]
        if set(names) == set(numbers):
            return [str(names[number]) for number in numbers]
        if {str(value) for value in names.values()} == set(numbers):
            return sorted(names, key=lambda name: int(names[name]))
    raise ConfigError(f"{path}: expected a list of class names, or the names by number from 0 without gaps")
