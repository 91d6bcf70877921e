"""What a network found in one image: as JSON, in words, and as files."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mnv2_tasks.contracts import Task
from mnv2_tasks.drawing.canvas import class_colours
from mnv2_tasks.drawing.results import TOP
from mnv2_tasks.errors import ConfigError


def as_json(task: Task, result: Any, *, min_score: float) -> Any:
    """The result of one image, as results.json has it."""
    names = task.class_names
    if task.kind == "classification":
        scores, labels = result.sort(descending=True, stable=True)
        best = list(zip(labels.tolist(), scores.tolist()))[:TOP]
        return [{"class": names[label], "score": round(score, 4)} for label, score in best]
    if task.kind == "detection":
        rows = zip(result.labels.tolist(), result.scores.tolist(), result.boxes.tolist())
        return [
            {"class": names[label], "score": round(score, 4), "box": [round(side, 2) for side in box]}
            for label, score, box in rows
            if score >= min_score
        ]
    shares = np.bincount(result.ravel(), minlength=len(names)) / result.size
    return {"classes": {name: round(share, 6) for name, share in zip(names, shares.tolist()) if share}}


def in_words(task: Task, content: Any) -> str:
    """The same in a few words, such as "4 person, 1 bus".

    Args:
        content: what `as_json` returned.
    """
    if task.kind == "classification":
        return f"{content[0]['class']} {content[0]['score']:.0%}"
    if task.kind == "detection":
        counts = Counter(found["class"] for found in content)
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no object"
    shares = sorted(((share, name) for name, share in content["classes"].items()), reverse=True)
    return ", ".join(f"{share:.0%} {name}" for share, name in shares if share >= 0.005)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """JPEG or PNG, by the suffix; colours of letters and lines are kept sharp."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(path.suffix, bgr, options if path.suffix == ".jpg" else [])[1].tobytes())


def write_mask(path: Path, class_map: np.ndarray) -> None:
    """PNG whose pixels are class indices, with a palette for looking at, as in PASCAL VOC. Read it with Pillow."""
    image = Image.fromarray(class_map)
    image.putpalette([0, 0, 0, *(part for colour in class_colours(255) for part in colour)])
    image.save(path)


def make_folder(out: str | None, parent: Path = Path("runs/predict")) -> Path:
    """A folder for results: `out`, or `<parent>/<n>` with the first free n.

    Raises:
        ConfigError: `out` holds files already, which might be the user's photos, or the folder cannot be made.
    """
    folder = Path(out).expanduser() if out else parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not out:
            number = 1 + max((int(p.name) for p in parent.iterdir() if p.name.isdecimal()), default=0)
            folder = parent / str(number)
            folder.mkdir()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror}); choose another place with out=") from None
    if any(folder.iterdir()):
        raise ConfigError(f"out={out}: is not empty, and nothing is overwritten; choose another folder")
    return folder


def write_entries(folder: Path, entries: list[dict[str, Any]]) -> None:
    (folder / "results.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
