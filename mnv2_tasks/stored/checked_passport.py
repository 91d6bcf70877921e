"""Passports out of files: of weights, of checkpoints, and of exported networks."""

from pathlib import Path
from typing import Any

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import check_plain, parse_json
from mnv2_tasks.stored.argument_types import fits
from mnv2_tasks.stored.checked_config import check_config
from mnv2_tasks.wording import shortened, visible

MOST_BYTES = 4 << 20  # ImageNet's 21,841 classes need half of one
MOST_CLASSES, LONGEST_NAME = 100_000, 1_000
TEXTS = ("version", "command")


def check_passport(passport: Any, source: Path, *, trust: bool = False) -> dict[str, Any]:
    """A passport that came from a file, where it is one; see `weights/passport.py` for what it holds.

    Args:
        passport: JSON, or plain data as a checkpoint holds them.
        trust: the file is the user's own, its config may name any class.

    Raises:
        ConfigError: names the file, the field and what is wrong with it.
    """
    name = f"{source}: its passport"
    if isinstance(passport, str | bytes):
        passport = parse_json(passport, name, most_bytes=MOST_BYTES)
    else:
        check_plain(passport, name)
    if not isinstance(passport, dict):
        raise ConfigError(f"{name}: is no group of keys")
    for key in TEXTS:
        if not isinstance(passport.get(key), str | None) or not str(passport.get(key)).isprintable():
            raise ConfigError(f"{name}: {key}: expected a line of text")
    exported = passport.get("exported", False)
    check_config(passport.get("config"), passport.get("version"), str(source), trust=trust, rebuilt=not exported)
    tasks, names = list(passport["config"]["tasks"]), passport.get("class_names")
    if not isinstance(names, dict) or not fits(names, dict[str, list[str]]) or set(names) != set(tasks):
        raise ConfigError(f"{name}: class_names: expected a list of names for each of {', '.join(tasks)}")
    for task, of_task in names.items():
        if not 0 < len(of_task) <= MOST_CLASSES:
            raise ConfigError(f"{name}: class_names.{task}: {len(of_task):,} names, expected 1 to {MOST_CLASSES:,}")
        for class_name in of_task:
            if len(class_name) > LONGEST_NAME or visible(class_name) != class_name:
                shown = shortened(visible(class_name), 60)
                raise ConfigError(f"{name}: class_names.{task}: {shown!r} is no name that can be shown")
    training = passport.get("training", {})
    if not isinstance(training, dict) or not isinstance(training.get("started_from", ""), str):
        raise ConfigError(f"{name}: training: expected what the run started from")
    return passport
