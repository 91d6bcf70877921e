"""Results as files of one folder: a picture, masks and crops of each, and results.json."""

import json
import threading
import time
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mnv2_tasks.data.images import page_files
from mnv2_tasks.data.images.file_bytes import WEB
from mnv2_tasks.drawing.picture_files import file_name, write_picture
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.network.devices import num_helpers
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.whole_files import write_text

SAVED = ("pictures", "masks", "crops", "json")


class ResultFiles:
    """
    Args:
        folder: is there, and empty.
        saved: of SAVED.
        waiting: results that may wait to be written, each of which holds its image.
    """

    def __init__(self, folder: Path, saved: Collection[str], *, waiting: int):
        self.folder, self.saved, self.waiting = folder, saved, waiting
        self.entries: list[dict[str, Any]] = []  # of results.json
        self.taken: set[str] = set()  # stems of the files written, in lower case
        self.seconds = 0.0  # spent so far, in all threads together
        self._writers = ThreadPoolExecutor(num_helpers())
        self._waiting: deque[Future[dict[str, Any]]] = deque()
        self._counting = threading.Lock()

    def write(self, result: Result) -> None:
        """Soon; those before it first. A file that could not be written is told by a later call."""
        stem = self._free_stem(_stem(result.name))
        self._waiting.append(self._writers.submit(self._write, result, stem))
        while len(self._waiting) > self.waiting:
            self.entries.append(self._waiting.popleft().result())

    def finish(self) -> None:
        """What was given is written; if some cannot be, the others are."""
        self._writers.shutdown()
        errors = [error for writing in self._waiting if (error := writing.exception())]
        self.entries += [writing.result() for writing in self._waiting if not writing.exception()]
        self._waiting.clear()
        if "json" in self.saved:
            write_entries(self.folder, self.entries)
        if errors:
            raise errors[0]

    def _write(self, result: Result, stem: str) -> dict[str, Any]:
        began = time.perf_counter()
        content = result.to_dict()
        entry = {"file": content.pop("file")}
        if "pictures" in self.saved:
            entry["picture"] = f"{stem}.jpg"
            write_picture(self.folder / entry["picture"], result.drawn())
        entry |= content
        for task, of_task in result.tasks.items():
            kind = KINDS[of_task.kind]
            if kind.FILES in self.saved:
                kind.write_files(of_task.found, entry[task], result.image, self.folder, f"{stem}_{task}")
        spent = time.perf_counter() - began
        with self._counting:
            self.seconds += spent
        return entry

    def _free_stem(self, stem: str) -> str:
        """cat, then cat-2: inputs from several folders, or of several formats, may share a name."""
        numbered = (f"{stem}-{number}" for number in count(2))
        free = next(name for name in chain([stem], numbered) if name.lower() not in self.taken)
        self.taken.add(free.lower())
        return free


def _stem(name: str) -> str:
    """Of a file, scan-2 of its second page; of a URL what of its path every file system takes."""
    if page := page_files.NAME.fullmatch(name):
        return f"{_stem(page['file'])}-{page['number']}"
    return file_name(Path(urlsplit(name).path).stem, "picture") if name.startswith(WEB) else Path(name).stem


def write_entries(folder: Path, entries: list[dict[str, Any]]) -> None:
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    # a file's name may be bytes that are no text: these become escapes, which JSON reads as it reads others
    write_text(folder / "results.json", text.encode(errors="backslashreplace").decode())
