"""Annotations drawn on their image, and below it in words."""

from collections.abc import Sequence

import numpy as np

from mnv2_tasks.drawing.canvas import Canvas, class_colours, fit, legend
from mnv2_tasks.drawing.predictions import Rect, frame_box, free_place, write_tab


def draw_label(image: np.ndarray, label: int, class_names: Sequence[str]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of such an image, with its class below."""
    return legend(fit(image)[0], [(class_names[label], class_colours(len(class_names))[label])], "")


def draw_boxes(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Boxes with their class, the smallest on top; those without sides or without a class are left out.

    Args:
        boxes: (N, 4) xyxy pixels.
        labels: (N,) int.
    """
    colours = class_colours(len(class_names))
    picture, scale = fit(image)
    canvas = Canvas(picture)
    height, width = image.shape[:2]
    boxes = np.nan_to_num(boxes).clip(0, [width, height, width, height])
    sides = boxes[:, 2:] - boxes[:, :2]
    rows = [
        ((boxes[i] * scale).round().astype(int).tolist(), int(labels[i]))
        for i in np.argsort(-sides.prod(axis=1), kind="stable")
        if (sides[i] > 0).all() and 0 <= labels[i] < len(class_names)
    ]
    for box, label in rows:
        frame_box(canvas, box, colours[label])
    taken: list[Rect] = []
    for box, label in rows:
        text = canvas.elide(class_names[label], canvas.width // 3)
        tab = free_place(canvas, box, canvas.text_width(text) + canvas.text_size, taken)
        if tab is not None:
            taken.append(tab)
            write_tab(canvas, tab, text, colours[label])
    shown = [label for _, label in rows]
    entries = [(f"{shown.count(label)} {class_names[label]}", colours[label]) for label in sorted(set(shown))]
    return legend(canvas.array(), entries, "no objects")
