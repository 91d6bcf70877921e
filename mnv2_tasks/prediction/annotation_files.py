"""Results as annotations to correct and to learn from: a folder for each format and task, `yolo_ssdlite/`."""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from mnv2_tasks.data.reading.folders import PICTURES
from mnv2_tasks.drawing.picture_files import file_name, write_picture
from mnv2_tasks.prediction.formats.annotated import Annotated
from mnv2_tasks.prediction.formats.save_formats import SAVE_FORMATS
from mnv2_tasks.prediction.results import Result, TaskResult
from mnv2_tasks.whole_files import written_whole


class Row(NamedTuple):
    """Of one picture, in one format."""

    word: str  # of SAVE_FORMATS
    task: TaskResult
    content: Any


class AnnotationFiles:
    """
    Args:
        folder: is there.
        words: of SAVE_FORMATS.
    """

    def __init__(self, folder: Path, words: Collection[str]):
        self.folder, self.words = folder, words
        self._rows: dict[tuple[str, str], list[Any]] = {}
        self._of_task: dict[str, tuple[str, list[str]]] = {}  # kind and class names

    def rows(self, result: Result, stem: str) -> list[Row]:
        """Write what is the picture's own, and give what `add` takes. By any thread.

        Args:
            stem: no other picture's, whatever its case.
        """
        height, width = result.image.shape[:2]
        copy = stem + (_suffix(result.name) or ".png")
        rows = []
        for word in self.words:
            of_format = SAVE_FORMATS[word]
            for name, task in result.tasks.items():
                if task.kind in of_format.KINDS:
                    place = self._place(word, name)
                    place.mkdir(exist_ok=True)
                    if of_format.COPIES:
                        _copy(result, place / "images" / copy)
                    picture = Annotated(result.name, copy, (height, width), task.found)
                    rows.append(Row(word, task, of_format.row(picture, task.kind, task.names, place)))
        return rows

    def add(self, rows: Collection[Row]) -> None:
        """Of a picture; those before it first."""
        for word, task, content in rows:
            self._rows.setdefault((word, task.name), []).append(content)
            self._of_task[task.name] = task.kind, task.names

    def finish(self) -> None:
        for (word, name), rows in self._rows.items():
            SAVE_FORMATS[word].write(rows, name, *self._of_task[name], self._place(word, name))

    def _place(self, word: str, task: str) -> Path:
        return self.folder / f"{word}_{file_name(task, 'task')}"


def _suffix(name: str) -> str | None:
    """Of a file that can be copied as it is; None of a page, of a URL, of a kind that `data=folder` passes by."""
    path = Path(name)
    suffix = path.suffix.lower()
    return suffix if suffix in PICTURES and path.is_file() else None


def _copy(result: Result, path: Path) -> None:
    """The file itself, or the pixels that were looked at."""
    path.parent.mkdir(exist_ok=True)
    if _suffix(result.name) is None:
        write_picture(path, result.image)
        return
    with open(result.name, "rb") as source, written_whole(path, durable=False) as file:
        shutil.copyfileobj(source, file)
