"""What a network found in one image, drawn task by task, and the file that tells it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnv2_tasks.contracts import Task
from mnv2_tasks.drawing.canvas import DARK, LIGHT, Canvas, fit, pad, text_size
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.whole_files import write_text


def draw_results(
    image: np.ndarray, results: Mapping[str, Any], tasks: Mapping[str, Task], *, min_score: float = 0.5
) -> np.ndarray:
    """The pictures of all tasks side by side, each under its name.

    Args:
        results: {task name: what the task predicts for this one image}.
        tasks: {task name: task}, for the kinds and the class names.
        min_score: of the boxes to draw.
    """
    panels = [
        KINDS[tasks[name].kind].draw(image, result, tasks[name].class_names, min_score)
        for name, result in results.items()
    ]
    height = max(panel.shape[0] for panel in panels)
    size = text_size(fit(image)[0])
    panels = [_titled(pad(panel, height, 0), name, size) for panel, name in zip(panels, results)]
    gap = np.full((panels[0].shape[0], 8, 3), DARK, np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)


def _titled(panel: np.ndarray, title: str, size: int) -> np.ndarray:
    strip = Canvas(np.full((round(2.2 * size), panel.shape[1], 3), DARK, np.uint8), size)
    strip.write(size, strip.height / 2, strip.elide(title, strip.width - 2 * size, bold=True), LIGHT, bold=True)
    return np.concatenate([strip.array(), panel])


def write_entries(folder: Path, entries: list[dict[str, Any]]) -> None:
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    # a file's name may be bytes that are no text: these become escapes, which JSON reads as it reads others
    write_text(folder / "results.json", text.encode(errors="backslashreplace").decode())
