"""What messages say alike: the word that was meant, seconds, counts, long lists, long and unprintable names."""

import difflib
import logging
import re
import reprlib
import sys
from collections.abc import Iterable
from typing import Any

ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """The options most like a word, as a question before what else there is to say; "" where none is like it."""
    close = difflib.get_close_matches(word, list(options), n=2)
    return f"Did you mean {' or '.join(close)}? " if close else ""


def nearest(word: str, options: Iterable[str]) -> str:
    """The options most like a word, and all of them."""
    options = sorted(set(options))
    return f"{did_you_mean(word, options)}There are: {', '.join(options)}"


def duration(seconds: float) -> str:
    """As people say it: 40 s, 7 min, 2 h 05 min, 3 days 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def counted(number: int, noun: str) -> str:
    """Such as "1 class" or "3 classes"."""
    plural = {"class": "classes", "category": "categories", "box": "boxes"}.get(noun, f"{noun}s")
    return f"{number:,} {noun if number == 1 else plural}"


def first_few(names: Iterable[str], shown: int = 8) -> str:
    """The first few names, and how many there are beyond."""
    names = list(names)
    return visible(", ".join(names[:shown])) + (f" ... ({len(names) - shown} more)" if len(names) > shown else "")


def shortened(text: str, longest: int) -> str:
    """At most so many letters, the last of them an ellipsis where some are left out."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def visible(text: str) -> str:
    """A stranger's text on one line, as it may be shown: what a terminal would act on is written as \\x1b or \\u202e.

    That is control characters, line breaks, marks that turn the direction of writing, halves of surrogate pairs.
    """
    return ACTING.sub(lambda sign: repr(sign[0])[1:-1], text)


def visible_lines(text: str) -> str:
    """The same of a message that has lines of its own."""
    return "\n".join(visible(line) for line in text.split("\n"))


def inert_cell(text: str) -> str:
    """A stranger's text in a table: spreadsheets compute what begins like this; a quote before it makes it text."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@", "＝", "＋", "－", "＠") else text


def brief(value: Any) -> str:
    """What a file holds where something else belongs: its beginning, however large or deep it is."""
    if isinstance(value, str):
        return shortened(visible(value[:200]), 160)
    shown = reprlib.Repr()
    shown.maxlevel, shown.maxdict, shown.maxlist, shown.maxstring, shown.maxlong = 2, 8, 6, 60, 40
    return shortened(visible(shown.repr(value)), 160)


class VisibleFormatter(logging.Formatter):
    """Log lines in which no name acts on the terminal that shows them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible_lines(super().formatMessage(record))


def log_to_screen() -> None:
    """Show what is logged, unless the program around us has chosen how already."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx", "httpx2"):  # of huggingface_hub, which tell each request
        logging.getLogger(library).setLevel(logging.WARNING)
