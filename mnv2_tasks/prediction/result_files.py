"""Results as files of one folder: a picture, and the masks, of each, and results.json."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from mnv2_tasks.data.images.file_bytes import WEB
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.whole_files import write_text


class ResultFiles:
    """
    Args:
        folder: is there, and empty.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.entries: list[dict[str, Any]] = []  # of results.json
        self.taken: set[str] = set()  # stems of the files written, in lower case

    def write(self, result: Result) -> np.ndarray:
        """Returns the picture that was drawn."""
        stem = self._free_stem(_stem(result.name))
        picture = result.drawn()
        write_picture(self.folder / f"{stem}.jpg", picture)
        content = result.to_dict()
        entry = {"file": content.pop("file"), "picture": f"{stem}.jpg", **content}
        for task, of_task in result.tasks.items():
            if files := KINDS[of_task.kind].write_files(of_task.found, self.folder, f"{stem}_{task}"):
                entry[task] |= files
        self.entries.append(entry)
        return picture

    def finish(self) -> None:
        write_entries(self.folder, self.entries)

    def _free_stem(self, stem: str) -> str:
        """cat, then cat-2: inputs from several folders, or of several formats, may share a name."""
        stems = [stem, *(f"{stem}-{n}" for n in range(2, len(self.taken) + 3))]
        free = next(s for s in stems if s.lower() not in self.taken)
        self.taken.add(free.lower())
        return free


def _stem(name: str) -> str:
    """Of a file; of a URL what of its path every file system takes."""
    if not name.startswith(WEB):
        return Path(name).stem
    return re.sub(r"[^\w.-]+", "_", Path(urlsplit(name).path).stem)[:100] or "picture"


def write_entries(folder: Path, entries: list[dict[str, Any]]) -> None:
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    # a file's name may be bytes that are no text: these become escapes, which JSON reads as it reads others
    write_text(folder / "results.json", text.encode(errors="backslashreplace").decode())
