"""What a class may be called."""

import unicodedata
from collections.abc import Sequence

from mnv2_tasks.data.reading.folders import spelled
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import shortened, visible

LONGEST = 200  # characters
VOID = ("void", "unlabelled", "unlabeled", "ignore", "ignored")  # what label tools call pixels without a class


def check_class_names(names: Sequence[str], where: str) -> None:
    """Refuse a name that no table or terminal can show as it is.

    Args:
        where: the names come from, for the error.

    Raises:
        ConfigError: it is empty or longer than `LONGEST`, or holds a control character, a line break, half of a
            surrogate pair or a mark that turns the direction of writing.
    """
    for label, name in enumerate(names):
        if len(name) > LONGEST:
            fault = f"has {len(name):,} characters, a name has {LONGEST} at most"
        elif not name.strip():
            fault = "is empty. Give the class a name"
        elif visible(name) != name:
            fault = "holds a character that cannot be shown, such as a control character. Rename the class"
        else:
            continue
        raise ConfigError(f"{visible(where)}: class {label}, {shortened(visible(name), 60)!r}, {fault}")


def written(name: str) -> str:
    """A class's name without spaces around it, with accents as one character: what people cannot tell apart is one."""
    return unicodedata.normalize("NFC", name).strip(" ")


def alike(names: Sequence[str]) -> list[str]:
    """Names that differ from another in case or in spaces alone, which a slip of the pen may have made two classes."""
    of: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        of.setdefault("".join(spelled(name).split()), []).append(name)
    return [name for same in of.values() if len(same) > 1 for name in same]


def is_void(name: str) -> bool:
    """Whether a class is none."""
    return name.strip("_ ").lower() in VOID
