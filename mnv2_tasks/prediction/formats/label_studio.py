"""Label Studio: tasks.json with a prediction each, and labels.xml, the labelling interface that they belong to."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from mnv2_tasks.prediction.formats.annotated import Annotated, rounded_boxes
from mnv2_tasks.prediction.formats.xml_file import write_xml
from mnv2_tasks.whole_files import write_text

KINDS: tuple[str, ...] = ("detection", "classification")
COPIES: bool = True
LOCAL = "/data/local-files/?d=images/"  # below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
NAMES = {"from_name": "label", "to_name": "image"}  # of the tags of labels.xml


def row(picture: Annotated, kind: str, class_names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Boxes are percentages of the image's sides."""
    height, width = picture.size
    results: list[dict[str, Any]] = []
    if kind == "classification":
        label = int(picture.found.argmax())
        score = round(float(picture.found[label]), 4)
        results.append({"type": "choices", "value": {"choices": [class_names[label]]}, "score": score})
    for label, score, box in rounded_boxes(picture.found) if kind == "detection" else []:
        x0, y0, x1, y1 = (100 * side / length for side, length in zip(box, (width, height, width, height)))
        value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
        value |= {"rectanglelabels": [class_names[label]]}
        results.append({"type": "rectanglelabels", "value": value, "score": score})
    of_image = {"original_width": width, "original_height": height, "image_rotation": 0}
    numbered = [{"id": str(number), **NAMES, **of_image, **found} for number, found in enumerate(results, start=1)]
    return {"data": {"image": LOCAL + quote(picture.copy)}, "predictions": [{"result": numbered}]}


def write(rows: Sequence[Any], task: str, kind: str, class_names: Sequence[str], folder: Path) -> None:
    for row in rows:
        row["predictions"][0]["model_version"] = task
    write_text(folder / "tasks.json", json.dumps(rows))
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=NAMES["to_name"], value="$image")
    group, one = ("Choices", "Choice") if kind == "classification" else ("RectangleLabels", "Label")
    labels = ElementTree.SubElement(view, group, name=NAMES["from_name"], toName=NAMES["to_name"])
    for name in class_names:
        ElementTree.SubElement(labels, one, value=name)
    write_xml(folder / "labels.xml", view)
