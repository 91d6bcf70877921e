"""Annotations in formats that are not read: whose they are, and what to do, where no layout is recognised."""

import itertools
from pathlib import Path
from typing import Any

from mnv2_tasks.data.reading.folders import files_below, pictures_below
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import read_bytes, read_json
from mnv2_tasks.wording import counted, visible

LOOKED_AT = 20  # files that may be annotations
MOST_BYTES = 4 << 20
AS_COCO = "export it as COCO json"
KEYS = (  # of a tool's JSON, and of which tool
    ({"shapes", "imagePath"}, "labelme's format: convert it to COCO json (labelme2coco), or to masks (labelme2voc)"),
    ({"objects", "imgHeight"}, "Cityscapes' polygons: its masks, *_gtFine_labelIds.png, are read"),
    ({"objects", "size"}, f"Supervisely's format: export the project with masks, or {AS_COCO}"),
    ({"objects", "tags"}, f"Supervisely's format: export the project with masks, or {AS_COCO}"),
    ({"_via_img_metadata"}, f"a project of VIA: {AS_COCO}"),
    ({"data", "annotations"}, f"Label Studio's own JSON: {AS_COCO}, or as YOLO"),
)
CVAT = f"CVAT's own XML: {AS_COCO}, as YOLO, or as Segmentation mask 1.1"


def unread_note(root: Path) -> str:
    """Lines for people on what lies below a folder and cannot be read; "" where there is nothing to tell."""
    pictures, others = pictures_below(root)
    if not pictures and others:
        endings = ", ".join(f"{ending or 'no ending'}" for ending, _ in others.most_common(5))
        return f"\n  none of its {counted(others.total(), 'file')} is called as a picture is ({visible(endings)})"
    annotations = (file for file in files_below(root) if file.lower().endswith((".json", ".xml")))
    for file in itertools.islice(annotations, LOOKED_AT):
        try:
            if tool := _tool(Path(file)):
                return f"\n  {visible(file)} is {tool}"
        except ConfigError:
            continue
    return ""


def _tool(file: Path) -> str | None:
    if file.suffix.lower() == ".xml":
        return CVAT if b"<annotations>" in read_bytes(file, most_bytes=MOST_BYTES)[:500] else None
    content: Any = read_json(file, most_bytes=MOST_BYTES)
    if isinstance(content, list) and content:
        content = content[0]
    held = set(content) if isinstance(content, dict) else set()
    return next((tool for keys, tool in KEYS if keys <= held), None)
