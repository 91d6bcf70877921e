"""Pictures that annotations name by a place of another machine, such as ../../data/upload/1/a.jpg."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from mnv2_tasks.data.reading.folders import pictures_below, spelled
from mnv2_tasks.errors import DataError
from mnv2_tasks.wording import counted, first_few

HASH = re.compile(r"[0-9a-f]{8}-")  # that Label Studio puts before the name of an uploaded file


class Strays:
    """Finds them below the root by their own name, and by as much of their folders as agrees."""

    def __init__(self, root: Path):
        self.root = root
        self._by_name: dict[str, list[str]] | None = None
        self._found: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """The file; None where there is none.

        Raises:
            DataError: several are as likely.
        """
        places = self._places(name)
        agreeing = [_common_tail(place, name) for place in places]
        best = [place for place, number in zip(places, agreeing) if number == max(agreeing)]
        if len(best) > 1:
            raise DataError(f"{name!r} may be {first_few(best, 3)}. Name it by its place below {self.root}")
        if best:
            self._found[name] = best[0]
        return best[0] if best else None

    def lies_somewhere(self, name: str) -> bool:
        return bool(self._places(name))

    def notes(self) -> list[str]:
        if not self._found:
            return []
        name, file = next(iter(self._found.items()))
        example = f"{name} is {Path(os.path.relpath(file, self.root)).as_posix()}"
        return [f"{counted(len(self._found), 'picture')} found by name: {example}"]

    def _places(self, name: str) -> list[str]:
        if self._by_name is None:
            self._by_name = {}
            for file in pictures_below(self.root)[0]:
                self._by_name.setdefault(spelled(os.path.basename(file)), []).append(file)
        own = (
            spelled(name.rsplit("/", 1)[-1]),
            spelled(re.split("[/=]", unquote(name))[-1]),
        )  # ...?d=my%20folder/a.jpg
        options = [option for last in own for option in (last, HASH.sub("", last, count=1))]
        return next((places for option in options if (places := self._by_name.get(option))), [])


def _common_tail(path: str, name: str) -> int:
    """How many of the last folders agree."""
    number = 0
    for ours, theirs in zip(reversed(Path(path).parts[:-1]), reversed(name.split("/")[:-1])):
        if spelled(ours) != spelled(theirs):
            break
        number += 1
    return number
