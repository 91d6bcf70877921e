"""Results as files of one folder: a picture, masks and crops of each, results.json, and annotations for other tools."""

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
from mnv2_tasks.prediction.annotation_files import AnnotationFiles, Row
from mnv2_tasks.prediction.formats.save_formats import SAVE_FORMATS
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.whole_files import write_text

OURS = ("pictures", "masks", "crops", "json")
SAVED = (*OURS, *SAVE_FORMATS)


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
        self.annotations = AnnotationFiles(folder, [word for word in SAVE_FORMATS if word in saved])
        self.taken: set[str] = set()  # stems of the files written, in lower case
        self.copied: set[str] = set()  # of the pictures beside annotations
        self.seconds = 0.0  # spent so far, in all threads together
        self._writers = ThreadPoolExecutor(num_helpers())
        self._waiting: deque[Future[tuple[dict[str, Any], list[Row]]]] = deque()
        self._counting = threading.Lock()

    def write(self, result: Result) -> None:
        """Soon; those before it first. A file that could not be written is told by a later call."""
        stem = _stem(result.name)
        copy = _free(file_name(stem, "picture"), self.copied)
        self._waiting.append(self._writers.submit(self._write, result, _free(stem, self.taken), copy))
        while len(self._waiting) > self.waiting:
            self._add(*self._waiting.popleft().result())

    def finish(self) -> None:
        """What was given is written; if some cannot be, the others are."""
        self._writers.shutdown()
        errors = [error for writing in self._waiting if (error := writing.exception())]
        for writing in self._waiting:
            if not writing.exception():
                self._add(*writing.result())
        self._waiting.clear()
        if "json" in self.saved:
            write_entries(self.folder, self.entries)
        self.annotations.finish()
        if errors:
            raise errors[0]

    def _add(self, entry: dict[str, Any], rows: list[Row]) -> None:
        self.entries.append(entry)
        self.annotations.add(rows)

    def _write(self, result: Result, stem: str, copy: str) -> tuple[dict[str, Any], list[Row]]:
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
        rows = self.annotations.rows(result, copy)
        spent = time.perf_counter() - began
        with self._counting:
            self.seconds += spent
        return entry, rows


def _free(stem: str, taken: set[str]) -> str:
    """cat, then cat-2: inputs from several folders, or of several formats, may share a name."""
    numbered = (f"{stem}-{number}" for number in count(2))
    free = next(name for name in chain([stem], numbered) if name.lower() not in taken)
    taken.add(free.lower())
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
