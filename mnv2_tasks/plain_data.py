"""JSON and YAML from anywhere -> plain data: dict with text as keys, list, str, int, float, bool and None.

Nothing that a file says is run, resolved or expanded, and a file that is too large, too deep or holds what 64 bits do
not is refused by name. Of a key that is given twice the last one counts, as in json and yaml.
"""

import codecs
import json
import math
import os
import re
import stat
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import yaml

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import shortened, visible

# libyaml, if PyYAML was built with it: twenty times as fast
BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_BYTES = 4 << 20  # annotations have a reader of their own, data/reading/coco_json.py
MOST_YAML_BYTES = 1 << 20  # it takes ten times as long
DEEPEST = 64  # lists and mappings within each other
LONGEST_NUMBER = 400  # characters; the largest float has 309 digits


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """A file as `parse_json` reads it; one that cannot be opened is a ConfigError too."""
    return parse_json(read_bytes(path, most_bytes=most_bytes), str(path), most_bytes=most_bytes)


def read_yaml(path: Path, *, as_written: bool = False, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """A file as `parse_yaml` reads it; one that cannot be opened is a ConfigError too."""
    content = read_bytes(path, most_bytes=most_bytes)
    return parse_yaml(content, str(path), as_written=as_written, most_bytes=most_bytes)


def parse_json(content: bytes | str, name: str, *, most_bytes: int = MOST_BYTES) -> Any:
    """JSON as plain data.

    Args:
        name: of the file, or of the field that holds this text; errors start with it.

    Raises:
        ConfigError: it is no JSON, or no plain data: NaN, infinity, a number that 64 bits do not hold, half of a
            surrogate pair, more than `most_bytes` or more levels than `DEEPEST`.
    """
    text = _text(content, name, most_bytes)
    return _plain(lambda: json.loads(text, parse_int=_integer), name)


def parse_yaml(content: bytes | str, name: str, *, as_written: bool = False, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """YAML as plain data: a date is text, 1e-3 is a number as OmegaConf has it.

    Args:
        name: of the file, or of the field that holds this text; errors start with it.
        as_written: every value is text: a class may be called `no`.

    Raises:
        ConfigError: as `parse_json`; and for an alias (`*name`), which makes gigabytes of a few lines, and for a tag
            (`!!type`).
    """
    text = _text(content, name, most_bytes)
    loader = BaseLoader if as_written else _PlainLoader

    def load() -> Any:
        _check_events(text, name, loader)
        return yaml.load(text, loader)

    return _plain(load, name)


def read_bytes(path: str | Path, *, most_bytes: int) -> bytes:
    """A file's content.

    Raises:
        ConfigError: it cannot be opened, is no file (a pipe would be waited for), or is larger.
    """
    with _opened(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise ConfigError(f"{path}: {_too_large(most_bytes)}")
        return file.read()


def read_start(path: str | Path, size: int) -> bytes:
    """The first so many bytes of a file, or all that it has; errors as of `read_bytes`."""
    with _opened(path) as file:
        return file.read(size)


@contextmanager
def _opened(path: str | Path) -> Iterator[FileIO]:
    """A file to read. What goes wrong, within too, is a ConfigError."""
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is not a file")
            yield file
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be opened ({reason})") from None
    except MemoryError:
        raise ConfigError(f"{path}: is too large for this machine's memory") from None


def _open_at_once(path: str, flags: int) -> int:
    """Without waiting for who writes into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _too_large(most_bytes: int) -> str:
    return f"is larger than {most_bytes:,} bytes, more than such a file ever needs"


def _check_size(content: bytes | str, name: str, most_bytes: int) -> None:
    if len(content) > most_bytes:
        raise ConfigError(f"{name}: {_too_large(most_bytes)}")


def _text(content: bytes | str, name: str, most_bytes: int) -> str:
    _check_size(content, name, most_bytes)
    if isinstance(content, str):
        return content
    return decoded(content, name)


def decoded(content: bytes, name: str) -> str:
    """The text of a file: UTF-8, or UTF-16 where it begins with its mark, as Windows' editors and PowerShell write it.

    Args:
        name: of the file; errors start with it.

    Raises:
        ConfigError: it is neither.
    """
    mark = next((mark for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) if content.startswith(mark)), None)
    try:
        return content.decode("utf-8-sig" if mark is None else "utf-16")  # some tools begin UTF-8 with a mark too
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}, line {line}: is not UTF-8 text ({error.reason}). Save it as UTF-8") from None


def _plain(load: Callable[[], Any], name: str) -> Any:
    try:
        value = load()
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{name}, line {error.lineno}, column {error.colno}: is not valid JSON ({error.msg}); was it cut short?"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"{name}{place}: is not valid YAML ({visible(str(error.problem or error.context))})"
        ) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(f"{name}: is not valid YAML ({visible(' '.join(str(error).split()))})") from None
    except RecursionError:
        raise ConfigError(f"{name}: has more than {DEEPEST} lists and mappings within each other") from None
    except MemoryError:
        raise ConfigError(f"{name}: is too large for this machine's memory") from None
    check_plain(value, name)
    return value


def check_plain(value: Any, name: str, trail: tuple[Hashable, ...] = ()) -> None:
    """Raise a ConfigError that names the first field that is no plain data."""
    if isinstance(value, dict | list):
        if len(trail) == DEEPEST:
            raise ConfigError(f"{name}: has more than {DEEPEST} lists and mappings within each other")
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and (
                fault := _fault(key) if isinstance(key, str) else "is no text: put it in quotes"
            ):
                raise ConfigError(f"{name}: the key {_field((*trail, key))} {fault}")
            check_plain(inner, name, (*trail, key))
    elif fault := _fault(value):
        raise ConfigError(f"{name}: {_field(trail)} {fault}")


def _fault(value: Any) -> str | None:
    if isinstance(value, bool | None):
        return None
    if isinstance(value, str):
        return None if value.isascii() or _is_encodable(value) else "holds half of a surrogate pair"
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**64 else "is a number that 64 bits do not hold"
    if isinstance(value, float):
        return None if math.isfinite(value) else "is no finite number of 64 bits"
    return f"is a {type(value).__name__}, which is no plain data"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _field(trail: tuple[Hashable, ...]) -> str:
    return visible(shortened(".".join(shortened(str(key), 60) for key in trail), 200)) or "its value"


def _integer(digits: str) -> int | float:
    """One that is too long becomes infinite, for `check_plain` to name its field: Python refuses 4,300 digits."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else math.inf


def _check_events(text: str, name: str, loader: type) -> None:
    """Refuse what would be built by others' rules, before anything is built."""
    depth = 0
    for event in yaml.parse(text, loader):
        place = f"{name}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(
                f"{place}: refers to another place (*{visible(event.anchor)}), write out what it stands for"
            )
        if getattr(event, "tag", None) is not None:
            raise ConfigError(f"{place}: asks for a type ({visible(event.tag)}), write a plain value")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{place}: has more than {DEEPEST} lists and mappings within each other")


class _PlainLoader(SafeLoader):
    """YAML's numbers, truths and nothing; no dates."""

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """As `_integer`; YAML's 1:30 makes digits of digits, which takes hours for a long one."""
        if len(node.value) > LONGEST_NUMBER:
            return math.inf
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
for tag in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{tag}", _PlainLoader.construct_number)
