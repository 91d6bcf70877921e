"""The class list that lies beside YOLO labels and masks."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mnv2_tasks.data.reading.class_names import check_class_names, written
from mnv2_tasks.data.reading.folders import files_in
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import MOST_BYTES, decoded, read_bytes, read_json, read_yaml
from mnv2_tasks.wording import brief, first_few

NAMES = (
    "data.yaml",
    "data.yml",
    "dataset.yaml",
    "dataset.yml",
    "classes.txt",
    "labels.txt",
    "obj.names",
    "_darknet.labels",
    "classes.json",
    "_classes.csv",
)
NUMBERED = re.compile(r"(\d{1,4})(?:\s*[:,;=.)\t]\s*|\s+)(\S.*)")
PIXEL_VALUES = re.compile(r"pixel value\s*,\s*class", re.IGNORECASE)  # the head of Roboflow's list of mask values


def is_class_file(name: str) -> bool:
    return name.lower() in NAMES or name.lower().endswith(".names")


def class_list(places: Iterable[Path]) -> list[str] | None:
    """Index i is class i. None if none of `places`, folders or files, has a class list.

    Raises:
        ConfigError: a list is there, but it cannot be one of classes 0, 1, 2 ...; or two lists contradict each other.
    """
    best: tuple[Path, list[str]] | None = None
    for path in dict.fromkeys(file for place in places for file in _lists(place)):
        if (names := _read(path)) is None:
            continue
        check_class_names(names, str(path))
        names = [written(name) for name in names]
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            raise ConfigError(f"{path}: names {first_few(twice)} twice; each line or entry is one class")
        if not names:
            raise ConfigError(f"{path}: names no classes")
        if best is not None:
            _check_agreement(best, (path, names))
        if best is None or len(names) > len(best[1]):  # a tool that adds classes as they are drawn
            best = path, names
    return best[1] if best else None


def not_followed(root: Path, names: list[str]) -> list[str]:
    """A note where data that name their classes themselves have other ones, or another order, than the list beside."""
    try:
        listed = class_list([root])
    except ConfigError:
        return []  # none of these data
    if listed is None or [name for name in listed if name in names] == names:
        return []
    return [f"the class list beside is not followed: it has {first_few(listed)}, the data {first_few(names)}"]


def _lists(place: Path) -> list[Path]:
    """The class lists in a folder, in the order of `NAMES`."""
    if place.is_file():
        return [place]
    found = [file for file in files_in(place, "") if is_class_file(file.name) and file.is_file()]
    order = {name: number for number, name in enumerate(NAMES)}
    return sorted(found, key=lambda file: order.get(file.name.lower(), len(order)))


def _check_agreement(one: tuple[Path, list[str]], other: tuple[Path, list[str]]) -> None:
    for number, (ours, theirs) in enumerate(zip(one[1], other[1])):
        if ours != theirs:
            raise ConfigError(
                f"{one[0]} and {other[0]} contradict each other: class {number} is {ours} in one and {theirs} in the "
                f"other. Keep the list that the labels were written with"
            )


def _read(path: Path) -> list[str] | None:
    ending = path.suffix.lower()
    if ending == ".data":
        return None  # it names the file of the names
    if ending == ".json":
        return _ordered(path, read_json(path))
    if ending in (".yaml", ".yml"):
        return _from_yaml(path, read_yaml(path, as_written=True))  # a class may be called `no`
    text = decoded(read_bytes(path, most_bytes=MOST_BYTES), str(path))
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if ending == ".csv":  # of the same name is a table of several labels for each picture
        if not lines or not PIXEL_VALUES.fullmatch(lines[0]):
            return None
        del lines[0]
    if "" in lines:
        raise ConfigError(f"{path}: line {lines.index('') + 1} is empty; line i names class i, counted from 0")
    return _by_number(lines)


def _by_number(lines: list[str]) -> list[str]:
    """Without the numbers before them, where those are 0, 1, 2 ... in any order."""
    numbered = {int(found[1]): found[2] for line in lines if (found := NUMBERED.fullmatch(line))}
    return [numbered[label] for label in sorted(numbered)] if sorted(numbered) == list(range(len(lines))) else lines


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
    raise ConfigError(
        f"{path}: expected a list of class names, or the names by number from 0 without gaps{_gap(names)}"
    )


def _gap(names: Any) -> str:
    """Which number is not there, of names by number or numbers by name."""
    if not isinstance(names, dict):
        return ""
    said = next((s for s in (set(names), set(map(str, names.values()))) if s and all(map(str.isdecimal, s))), None)
    if said is None:
        return ""
    gap = next(number for number in range(len(said) + 1) if str(number) not in said)
    remedy = "Count from 0, as the label files do" if gap == 0 else "Name it too, even if no label file has it"
    return f"; there is no {gap}. {remedy}"
