"""COCO: one annotations.json beside images/; boxes with their scores, masks as run lengths, one of each class."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as run_length

from mnv2_tasks.prediction.formats.annotated import Annotated, rounded_boxes
from mnv2_tasks.prediction.formats.objects import objects_of
from mnv2_tasks.whole_files import write_text

KINDS: tuple[str, ...] = ("detection", "segmentation")
COPIES: bool = True


def row(picture: Annotated, kind: str, class_names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Categories count from 1, as COCO's own do."""
    found = _masks(picture, class_names) if kind == "segmentation" else _boxes(picture)
    height, width = picture.size
    return {"image": {"file_name": picture.copy, "width": width, "height": height}, "annotations": found}


def _boxes(picture: Annotated) -> list[dict[str, Any]]:
    found = []
    for label, score, (x0, y0, x1, y1) in rounded_boxes(picture.found):
        width, height = round(x1 - x0, 2), round(y1 - y0, 2)
        box = {"bbox": [x0, y0, width, height], "area": round(width * height, 4), "iscrowd": 0, "segmentation": []}
        found.append({"category_id": label + 1, "score": score, **box})
    return found


def _masks(picture: Annotated, class_names: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for label in objects_of(picture.found, class_names):
        runs: Any = run_length.encode(np.asfortranarray(picture.found == label, np.uint8))
        box, area = run_length.toBbox(runs).tolist(), int(run_length.area(runs))
        outline = {"size": list(picture.size), "counts": runs["counts"].decode()}
        found.append({"category_id": label + 1, "bbox": box, "area": area, "iscrowd": 0, "segmentation": outline})
    return found


def write(rows: Sequence[Any], task: str, kind: str, class_names: Sequence[str], folder: Path) -> None:
    content: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": number, **row["image"]} for number, row in enumerate(rows, start=1)],
        "annotations": [],
        "categories": [{"id": label, "name": name} for label, name in enumerate(class_names, start=1)],
    }
    for image, row in enumerate(rows, start=1):
        for found in row["annotations"]:
            content["annotations"].append({"id": len(content["annotations"]) + 1, "image_id": image, **found})
    write_text(folder / "annotations.json", json.dumps(content))
