"""CSV: a row for each box, or for each of the best five classes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnv2_tasks.kinds import classification
from mnv2_tasks.prediction.formats.annotated import Annotated, rounded_boxes
from mnv2_tasks.whole_files import write_text
from mnv2_tasks.wording import inert_cell

KINDS: tuple[str, ...] = ("detection", "classification")
COPIES: bool = False
COLUMNS = ("file", "class", "score", "x0", "y0", "x1", "y1")


def row(picture: Annotated, kind: str, class_names: Sequence[str], folder: Path) -> list[list[Any]]:
    if kind == "classification":
        best = classification.as_json(picture.found, class_names, 0.0)
        return [
            [inert_cell(picture.file), inert_cell(found["class"]), found["score"], "", "", "", ""] for found in best
        ]
    names = [inert_cell(name) for name in class_names]
    boxes = rounded_boxes(picture.found)
    return [[inert_cell(picture.file), names[label], score, *box] for label, score, box in boxes]


def write(rows: Sequence[Any], task: str, kind: str, class_names: Sequence[str], folder: Path) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *(line for of_picture in rows for line in of_picture)])
    # a file's name may be bytes that are no text
    write_text(folder / "annotations.csv", text.getvalue().encode(errors="backslashreplace").decode())
