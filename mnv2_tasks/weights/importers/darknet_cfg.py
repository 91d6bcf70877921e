"""Darknet's .cfg files: sections of `key=value`, of which [net] is the first and each other one a layer, in order."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_bytes
from mnv2_tasks.wording import brief

MOST_BYTES = 1 << 20  # a hundred times the largest that Darknet comes with
INTEGER = re.compile(r"[-+]?\d{1,9}")
OTHER_NAMES = {"network": "net", "conv": "convolutional", "max": "maxpool", "avg": "avgpool", "soft": "softmax"}


class Setting(NamedTuple):
    text: str
    line: int  # of the file, from 1


class Section(NamedTuple):
    kind: str
    settings: dict[str, Setting]
    source: str = ""  # the file
    line: int = 0
    layer: int = -1  # counted as Darknet does, from 0; -1: [net]

    @property
    def name(self) -> str:
        return f"[{brief(self.kind)}]" if self.layer < 0 else f"layer {self.layer} [{brief(self.kind)}]"

    def has(self, key: str) -> bool:
        return key in self.settings

    def text(self, key: str, default: str) -> str:
        return self.settings[key].text if key in self.settings else default

    def integer(self, key: str, default: int) -> int:
        """Raises ConfigError, naming the line, for what is none of at most nine digits."""
        text = self.text(key, str(default))
        if not INTEGER.fullmatch(text):
            raise self.error("expected a whole number of at most nine digits", key)
        return int(text)

    def error(self, problem: str, key: str | None = None) -> ConfigError:
        """That it is wrong, or one of its settings."""
        if key is None:
            return ConfigError(f"{self.source}, line {self.line}, {self.name}: {problem}")
        text, line = self.settings.get(key, Setting("", self.line))
        shown = f"{brief(key)}={brief(text)}" if key in self.settings else key
        return ConfigError(f"{self.source}, line {line}, {self.name}: {shown}: {problem}")


def section(kind: str, **settings: object) -> Section:
    """One that is not from a file."""
    return Section(kind, {key: Setting(str(value), 0) for key, value in settings.items()})


def read_cfg(path: Path) -> list[Section]:
    """The sections of a file. Like Darknet: spaces do not matter, the first of equal keys counts.

    Raises:
        ConfigError: it cannot be read, or a line is neither a section nor a setting of one.
    """
    sections: list[Section] = []
    text = read_bytes(path, most_bytes=MOST_BYTES).decode(errors="replace")  # comments may be in any encoding
    for number, line in enumerate(text.split("\n"), start=1):
        line = "".join(line.split())
        if not line or line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        if line[0] == "[" and line[-1] == "]":
            kind = OTHER_NAMES.get(line[1:-1], line[1:-1])
            sections.append(Section(kind, {}, str(path), number, len(sections) - 1))
        elif equals and sections:
            sections[-1].settings.setdefault(key, Setting(value.partition("#")[0], number))
        else:
            raise ConfigError(f"{path}, line {number}: {brief(line)!r} is neither a [section] nor a key=value of one")
    return sections


def cfg_text(sections: Iterable[Section]) -> str:
    """What `read_cfg` reads."""
    return "\n".join(
        "\n".join([f"[{part.kind}]", *(f"{key}={setting.text}" for key, setting in part.settings.items()), ""])
        for part in sections
    )
