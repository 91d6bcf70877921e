"""Text files of strangers: lists of images, labels."""

from collections import Counter
from pathlib import Path

from mnv2_tasks.data.download.safe_names import name_fault
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.plain_data import decoded, read_bytes
from mnv2_tasks.wording import brief, first_few

MOST_BYTES = 64 << 20  # of a list: two million names


def read_text(path: Path, *, most_bytes: int) -> str:
    """Whole, with line ends as `\\n`.

    Raises:
        DataError: it cannot be opened, is larger, or is no text.
    """
    try:
        text = decoded(read_bytes(path, most_bytes=most_bytes), str(path))
    except ConfigError as error:
        raise DataError(str(error)) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def listed_once(path: Path) -> tuple[list[str], str | None]:
    """The same, each name once; and what to tell people of those that are there again."""
    names = listed_names(path)
    again = [f"{name} {times} times" for name, times in Counter(names).items() if times > 1]
    note = f"listed again in {path.name} and taken once: {first_few(again)}" if again else None
    return list(dict.fromkeys(names)), note


def listed_names(path: Path) -> list[str]:
    """The lines of an image list, without empty ones.

    Raises:
        DataError: it cannot be read, names nothing, or a name leads out of the folder that it is looked for in.
    """
    names = [line.strip() for line in read_text(path, most_bytes=MOST_BYTES).split("\n")]
    for number, name in enumerate(names, start=1):
        if fault := name_fault(name):
            raise DataError(f"{path}: line {number} names {brief(name)!r}, which {fault}")
    if not any(names):
        raise DataError(f"{path}: lists no image. Write the name of one a line, or remove the list")
    return [name for name in names if name]
