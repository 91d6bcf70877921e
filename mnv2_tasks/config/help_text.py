"""What --help prints: every key of a tool as it is typed, with the comment that stands beside it in conf/.

The files are read as text: composing them would take ten times as long, and lose the comments.
"""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mnv2_tasks.config.words import CONF, GROUPS, files_of, options_of
from mnv2_tasks.shipped import as_called_here

COLUMN = 34  # where meanings begin
KEY = re.compile(r"( *)([\w<>]+):(?: +([^# ].*?))?(?: +(#.*))?")
NOTE = (
    "_target_ is the class or function that the keys beside it go to. Values are those of conf/, before a recipe's: "
    "--cfg job prints them as they are used. With a choice beside --help, such as data=coco, keys are those of that "
    "choice alone. MNV2_CONF=<folder> names choices of your own, see docs/extend.md."
)
CHOICE = re.compile(r"  - (\w+): (\S+)(?: +# (.*))?")


@dataclass(frozen=True)
class KeyHelp:
    key: str  # with those it stands within: trainer.devices
    value: str | None  # None: it only holds others
    meaning: str
    section: str  # the comment above it


def help_text(config_name: str, arguments: Sequence[str] = ()) -> str:
    """Usage, choices and keys.

    Args:
        arguments: of the command line. Of a group that is chosen there, the keys are those of the choice alone; of
            another, those of all its options.
    """
    text = _read(config_name)
    usage = [line.removeprefix("#").removeprefix(" ") for line in _leading_comment(text)]
    own, shared = list(_entries(text)), []
    if "\n  - train\n" in text:  # eval and export take the keys of training too
        text = _read("train")
        shared = [entry for entry in _entries(text) if entry.key not in {entry.key for entry in own}]
    groups = {group: (option, note) for group, option, note in CHOICE.findall(text) if group in GROUPS}
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    chosen = {group: given[group] for group in groups if given.get(group) in options_of(group)}
    of_groups = {
        group: list(_of_group(group, chosen.get(group), default))
        for group, (default, _) in sorted(groups.items(), key=lambda item: item[0] == "task")  # whose keys few change
        if default != "null" and group != "study"
    }
    on_top = [entry for found in of_groups.values() for entry in found if "." not in entry.key and entry.value]
    first = (shared or own)[0].section
    on_top = [replace(entry, section=first) for entry in on_top]  # lr, output_stride

    lines = [*usage, ""]
    if groups:
        lines += [
            "Choices",
            *(line for group in groups for line in _choice(group, options_of(group), groups[group][1])),
        ]
        if " recipe: " in text:
            start = f"{chosen['task']}_" if "task" in chosen else ""
            lines += _choice("recipe", [name for name in options_of("recipe") if name.startswith(start)])
        lines.append("")
    keys = [*own, *on_top, *shared] if shared else [*on_top, *own]
    for section, found in _by_section(entry for entry in keys if not entry.key.startswith("choices")):  # filled in
        lines += [*_wrapped(section, 0), *(line for entry in found for line in _shown(entry)), ""]
    for group, found in of_groups.items():
        lines += [f"{group}={chosen.get(group, f'<{group}>')}"]
        lines += [*(line for entry in found if entry.key not in {e.key for e in on_top} for line in _shown(entry)), ""]
    return as_called_here("\n".join([*lines, *(_wrapped(NOTE, 0) if of_groups else [])]).rstrip())


def _read(name: str) -> str:
    return (CONF / f"{name}.yaml").read_text(encoding="utf-8").split("\nhydra:")[0]


def _leading_comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        if line != "# @package _global_":
            yield line


def _entries(text: str, package: str = "") -> Iterator[KeyHelp]:
    """The keys of a YAML file, whose values stand on their lines.

    Args:
        package: what the file's keys stand within, such as `trainer`.
    """
    path: list[tuple[int, str]] = []  # indentation and name of the keys that hold this line's
    section, note, column, last = "", "", -1, None
    for line in text.splitlines()[len(list(_leading_comment(text))) + text.startswith("# @package") :]:
        content = line.strip()
        if content.startswith("#"):
            words = content.lstrip("# ")
            if last and line.index("#") == column:
                last = replace(last, meaning=f"{last.meaning} {words}")
            elif line.startswith("#"):
                section = words
            else:
                note = f"{words}; "
            continue
        found = KEY.fullmatch(line)
        if not found or found[2] == "defaults":
            if not content and last:  # a blank line ends a section
                yield last
                last, section, path = None, "", []
            continue
        if last:
            yield last
        indent, name, value, comment = len(found[1]), found[2], found[3], found[4]
        path = [(outer, key) for outer, key in path if outer < indent]
        key = ".".join([*([package] if package else []), *(key for _, key in path), name])
        path.append((indent, name))
        last = KeyHelp(key, value or None, note + (comment or "").lstrip("# "), section)
        note, column = "", line.index("#") if comment else -1
    if last:
        yield last


def _of_group(group: str, chosen: str | None, default: str) -> Iterator[KeyHelp]:
    """The keys of the chosen option, or of all; a meaning that one lacks is that of another."""
    options = options_of(group)
    options.sort(key=lambda option: option != default)
    of_options = {option: list(_of_option(group, option, named=option == chosen)) for option in options}
    shown = [of_options[chosen]] if chosen else of_options.values()
    known: dict[str, str] = {}
    for option, found in of_options.items():
        for entry in found:
            general = re.sub(rf"\.{option}\b", ".<task>", entry.key) if group == "task" else entry.key
            known[general] = known.get(general) or entry.meaning
    done = set()
    for entry in (entry for found in shown for entry in found):
        general = re.sub(rf"\.{chosen}\b", ".<task>", entry.key) if group == "task" else entry.key
        if entry.key in (*done, group):  # logger: null
            continue
        done.add(entry.key)
        holders = [option for option in options if any(other.key == entry.key for other in of_options[option])]
        only = "" if chosen or options[0] in holders else f"[{', '.join(sorted(holders))}] "
        yield replace(entry, meaning=only + (entry.meaning or known.get(general, "")))


def _of_option(group: str, option: str, *, named: bool) -> Iterator[KeyHelp]:
    """The keys of a file of a group, and of those in its defaults."""
    text = files_of(group)[option].read_text(encoding="utf-8")
    for other in re.findall(r"^  - (\w+)$", text, re.MULTILINE) if named else ():
        if other != "_self_":
            yield from _of_option(group, other, named=named)
    for entry in _entries(text, "" if "# @package _global_" in text else group):
        general = group == "task" and not named
        yield replace(entry, key=re.sub(rf"\.{option}\b", ".<task>", entry.key)) if general else entry


def _by_section(entries: Iterable[KeyHelp]) -> list[tuple[str, list[KeyHelp]]]:
    sections: dict[str, list[KeyHelp]] = {}
    for entry in entries:
        sections.setdefault(entry.section, []).append(entry)
    return list(sections.items())


def _choice(group: str, options: Sequence[str], note: str = "") -> list[str]:
    lines = _wrapped(f"{group}={' | '.join(options)}", 4)
    return [lines[0][2:], *lines[1:], *_wrapped(note)]


def _shown(entry: KeyHelp) -> list[str]:
    if entry.value is None and not entry.meaning:
        return []
    word = f"  {entry.key}" + ("" if entry.value is None else f"={entry.value.replace(', ', ',')}")
    meaning = _wrapped(entry.meaning)
    if not meaning or len(word) > COLUMN - 2:
        return [word, *meaning]
    return [word.ljust(COLUMN) + meaning[0].lstrip(), *meaning[1:]]


def _wrapped(text: str, column: int = COLUMN) -> list[str]:
    width = min(120, shutil.get_terminal_size((120, 24)).columns)
    return [" " * column + line for line in textwrap.wrap(text, max(30, width - column), break_on_hyphens=False)]
