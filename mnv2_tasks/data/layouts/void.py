"""Classes and values that are no class: left out of the class list, their pixels neither trained on nor scored."""

from collections.abc import Sequence

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.data.images.mask_values import MaskValues
from mnv2_tasks.data.reading.class_names import is_void
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import did_you_mean, first_few

Ignored = int | str | Sequence[int | str] | None  # values or class names; None: classes called void


def without_ignored(names: list[str], values: MaskValues, ignore: Ignored) -> tuple[list[str], MaskValues, list[str]]:
    """(class names that are left, what the masks say in terms of them, notes for people)

    Raises:
        ConfigError: there is no such class, or none is left.
    """
    if ignore is None:
        ignored = [label for label, name in enumerate(names) if is_void(name)]
        ignored = ignored if len(names) - len(ignored) > 1 else []
    else:
        ignored = [
            _value(names, word, values)
            for word in ([ignore] if not isinstance(ignore, Sequence) or isinstance(ignore, str) else ignore)
        ]
    if not ignored:
        return names, values, []
    note = [_note(names, ignored, values)]
    if values.form == "white":
        return names, values._replace(classes=tuple((value, IGNORE) for value in ignored)), note
    kept = [label for label in range(len(names)) if label not in ignored]
    if not kept:
        raise ConfigError(f"data.ignore={ignore}: leaves none of the {len(names)} classes {first_few(names)}")
    label_of = {old: new for new, old in enumerate(kept)}
    if values.form == "colour":
        classes = tuple((code, label_of.get(label, IGNORE)) for code, label in values.classes)
    else:
        inside = [(old, label_of.get(old, IGNORE)) for old in range(len(names))]
        classes = tuple((old, new) for old, new in inside if old != new)
        classes += tuple((value, IGNORE) for value in ignored if value not in range(len(names)))
    return [names[label] for label in kept], values._replace(classes=classes), note


def _value(names: Sequence[str], word: int | str, values: MaskValues) -> int:
    if isinstance(word, str) and word in names:
        return names.index(word)
    if isinstance(word, bool) or not isinstance(word, int | str):
        raise ConfigError(f"data.ignore={word}: expected mask values or names of classes, such as 255 or [0,void]")
    if isinstance(word, str) or (values.form == "colour" and word not in range(len(names))):
        hint = did_you_mean(str(word), names)
        raise ConfigError(f"data.ignore={word}: there is no such class. {hint}There are {first_few(names, 20)}")
    if not 0 <= int(word) <= FULL:
        raise ConfigError(f"data.ignore={word}: a mask holds values from 0 to {FULL:,}")
    return int(word)


def _note(names: Sequence[str], ignored: Sequence[int], values: MaskValues) -> str:
    named = values.form != "white"
    told = [f"{value} ({names[value]})" if named and value in range(len(names)) else str(value) for value in ignored]
    return f"no class: {first_few(told)}"
