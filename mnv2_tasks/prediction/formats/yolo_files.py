"""YOLO: images/ with labels/, a text file for each; of masks images/ with masks/, PNGs of class indices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mnv2_tasks.drawing.picture_files import write_mask
from mnv2_tasks.prediction.formats.annotated import Annotated, rounded_boxes
from mnv2_tasks.whole_files import write_text, written_whole
from mnv2_tasks.wording import visible

KINDS: tuple[str, ...] = ("detection", "segmentation")
COPIES: bool = True


def row(picture: Annotated, kind: str, class_names: Sequence[str], folder: Path) -> None:
    """An image without objects has an empty file of labels: nothing is in it, rather than nobody has looked."""
    place = folder / ("masks" if kind == "segmentation" else "labels")
    place.mkdir(parents=True, exist_ok=True)
    name = Path(picture.copy).stem
    if kind == "segmentation":
        write_mask(place / f"{name}.png", picture.found)
        return
    height, width = picture.size
    lines = ""
    for label, _, (x0, y0, x1, y1) in rounded_boxes(picture.found):
        box = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
        lines += " ".join([str(label), *(f"{side:.8f}" for side in box)]) + "\n"
    with written_whole(place / f"{name}.txt", durable=False) as file:
        file.write(lines.encode())


def write(rows: Sequence[Any], task: str, kind: str, class_names: Sequence[str], folder: Path) -> None:
    if kind == "segmentation":
        write_text(folder / "classes.txt", "".join(f"{visible(name)}\n" for name in class_names))
        return
    content = {"train": "images", "names": dict(enumerate(class_names))}
    write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
