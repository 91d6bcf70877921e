"""CVAT for images 1.1: one annotations.xml; boxes, masks of each class, or the best class as a tag."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from mnv2_tasks.prediction.formats.annotated import Annotated, rounded_boxes
from mnv2_tasks.prediction.formats.objects import objects_of
from mnv2_tasks.prediction.formats.xml_file import write_xml

KINDS: tuple[str, ...] = ("detection", "segmentation", "classification")
COPIES: bool = True
TYPES = {"detection": "rectangle", "segmentation": "mask", "classification": "tag"}


def row(picture: Annotated, kind: str, class_names: Sequence[str], folder: Path) -> ElementTree.Element:
    height, width = picture.size
    image = ElementTree.Element("image", name=picture.copy, width=str(width), height=str(height))
    common = {"source": "auto"}
    if kind == "classification":
        ElementTree.SubElement(image, "tag", {"label": class_names[int(picture.found.argmax())], **common})
        return image
    common |= {"occluded": "0"}
    if kind == "segmentation":
        for label in objects_of(picture.found, class_names):
            mask = {"label": class_names[label], **common, **_mask(picture.found == label), "z_order": "0"}
            ElementTree.SubElement(image, "mask", mask)
        return image
    for label, _, box in rounded_boxes(picture.found):
        sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{side:.2f}" for side in box)))
        ElementTree.SubElement(image, "box", {"label": class_names[label], **common, **sides, "z_order": "0"})
    return image


def _mask(inside: np.ndarray) -> dict[str, str]:
    """Run lengths of the rows of what lies in the mask's own box, the first of them outside of the mask."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, left, height, width = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    pixels = inside[top : top + height, left : left + width].ravel()
    changes = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    runs = [0, *runs] if pixels[0] else runs
    place = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, runs))} | {name: str(value) for name, value in place.items()}


def write(rows: Sequence[Any], task: str, kind: str, class_names: Sequence[str], folder: Path) -> None:
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    of_task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(of_task, "size").text = str(len(rows))
    labels = ElementTree.SubElement(of_task, "labels")
    for name in class_names:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "type").text = TYPES[kind]
        ElementTree.SubElement(label, "attributes")
    for number, image in enumerate(rows):
        image.attrib = {"id": str(number), **image.attrib}
        root.append(image)
    write_xml(folder / "annotations.xml", root)
