"""What messages say alike: seconds, counts and long lists in words."""

from collections.abc import Iterable


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
    plural = {"class": "classes", "category": "categories"}.get(noun, f"{noun}s")
    return f"{number:,} {noun if number == 1 else plural}"


def first_few(names: Iterable[str], shown: int = 8) -> str:
    """The first few names, and how many there are beyond."""
    names = list(names)
    return ", ".join(names[:shown]) + (f" ... ({len(names) - shown} more)" if len(names) > shown else "")
