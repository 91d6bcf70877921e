"""The list of colours that lies beside coloured masks: which colour is which class."""

import re
from pathlib import Path
from typing import Any

from mnv2_tasks.data.reading.class_names import check_class_names
from mnv2_tasks.data.reading.text_files import read_text
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import MOST_BYTES, read_json, read_yaml
from mnv2_tasks.wording import brief

# CVAT's, CamVid's as it comes and as Kaggle packs it, Supervisely's, and what people call theirs
NAMES = ("labelmap.txt", "label_colors.txt", "label_colours.txt", "class_dict.csv", "obj_class_to_machine_color.json")
MACHINE_COLOURS = NAMES[-1]
LONGEST = 1000  # characters of a line
NUMBERS = r"[\[(]?(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)[\])]?"
LINES = (  # name and colour; what CVAT writes behind it, parts and actions, is left out
    re.compile(rf"(?P<name>[^:]*\S)\s*:\s*{NUMBERS}\s*(?::.*)?"),
    re.compile(rf"(?P<name>.*[^\s,;=])[\s,;=]+{NUMBERS}[\s,;]*"),
    re.compile(rf"{NUMBERS}[\s,;:=]+(?P<name>\S.*)"),
)
HEX = re.compile(r"#?([0-9a-fA-F]{6})")
HEX_LINES = (
    re.compile(r"(?P<name>.*[^\s,;:=])[\s,;:=]+#(?P<hex>[0-9a-fA-F]{6})"),
    re.compile(r"#(?P<hex>[0-9a-fA-F]{6})[\s,;:=]+(?P<name>\S.*)"),
)

Colours = dict[int, str]  # {0xRRGGBB: class}


def read_colour_file(path: Path) -> Colours:
    """A colour for each class, in the order of the classes; a class may have several.

    Text with `name r g b`, `name,r,g,b`, `r g b name`, `name:r,g,b::` or `name #rrggbb` a line; JSON or YAML with
    {name: [r, g, b]} or {name: "#rrggbb"}, or a list of {"name" | "title" | "label", "color" | "colour"}.

    Raises:
        ConfigError: it is none of these, or gives one colour to two classes.
    """
    if path.suffix.lower() == ".json":
        rows = _rows(path, read_json(path))
    elif path.suffix.lower() in (".yaml", ".yml"):
        rows = _rows(path, read_yaml(path))
    else:
        rows = _lines(path)
    colours: Colours = {}
    if path.name == MACHINE_COLOURS and not any(code == 0 for code, _ in rows):
        rows = [(0, "background"), *rows]  # as Supervisely leaves what nobody labelled
    for code, name in rows:
        if colours.setdefault(code, name) != name:
            red, green, blue = code >> 16, code >> 8 & 255, code & 255
            raise ConfigError(f"{path}: gives the colour ({red}, {green}, {blue}) to {colours[code]} and to {name}")
    if not colours:
        raise ConfigError(f"{path}: lists no colours")
    check_class_names(list(dict.fromkeys(colours.values())), str(path))
    return colours


def _lines(path: Path) -> list[tuple[int, str]]:
    rows = []
    for number, line in enumerate(read_text(path, most_bytes=MOST_BYTES).split("\n"), start=1):
        line = line.strip()
        row = _from_line(line, f"{path}: line {number}") if len(line) <= LONGEST else None
        if row is not None:
            rows.append(row)
        elif line and not line.startswith("#") and not (number == 1 and not re.search(r"\d", line)):  # a table's head
            raise ConfigError(
                f"{path}: line {number} is {brief(line)!r}, expected a class and its colour, such as `road 128 64 128`"
            )
    return rows


def _from_line(line: str, where: str) -> tuple[int, str] | None:
    for pattern in HEX_LINES:
        if found := pattern.fullmatch(line):
            return int(found["hex"], 16), found["name"].strip().strip('"')
    if line.startswith("#"):
        return None
    for pattern in LINES:
        if found := pattern.fullmatch(line):
            colour = [int(found[part]) for part in ("red", "green", "blue")]
            return _code(colour, where), found["name"].strip().strip('"')
    return None


def _rows(path: Path, content: Any) -> list[tuple[int, str]]:
    for key in ("classes", "labels"):  # Supervisely's meta.json, Mapillary's config.json
        if isinstance(content, dict) and isinstance(content.get(key), list):
            content = content[key]
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list) and all(isinstance(row, dict) for row in content):
        pairs = [
            (
                next((row[key] for key in ("name", "title", "readable", "label") if key in row), None),
                next((row[key] for key in ("color", "colour", "rgb") if key in row), None),
            )
            for row in content
        ]
    else:
        pairs = [(None, None)]
    rows = []
    for name, colour in pairs:
        if not isinstance(name, str):
            raise ConfigError(f'{path}: expected {{class: [red, green, blue]}}, or {{class: "#rrggbb"}}')
        if isinstance(colour, str) and (found := HEX.fullmatch(colour)):
            rows.append((int(found[1], 16), name))
        else:
            rows.append((_code(colour, f"{path}: {brief(name)}"), name))
    return rows


def _code(colour: Any, where: str) -> int:
    """[r, g, b] -> 0xRRGGBB"""
    right = isinstance(colour, list) and len(colour) in (3, 4)
    if not right or not all(type(part) is int and 0 <= part <= 255 for part in colour):
        raise ConfigError(f"{where}: {brief(colour)} is no colour, three numbers from 0 to 255 are")
    red, green, blue = colour[:3]
    return red << 16 | green << 8 | blue
