"""Results drawn on the image they belong to: boxes, masks, scores.

Every function returns a new (H, W, 3) uint8 RGB picture, at a size at which its text can be read (see `canvas.fit`).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from mnv2_tasks.contracts import Detections, FoundBoxes
from mnv2_tasks.drawing.canvas import (
    DARK,
    LIGHT,
    TRACK,
    Canvas,
    Colour,
    class_colours,
    fit,
    ink_on,
    legend,
    scaled_size,
    strip,
    text_size,
)

TOP = 5  # classes in a chart of scores
Rect = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the picture; x1, y1 exclusive
Row = tuple[Sequence[int], float, int]  # box in pixels of the picture, score, label


def draw_detections(
    image: np.ndarray, found: Detections | FoundBoxes, class_names: Sequence[str], *, min_score: float
) -> np.ndarray:
    """Boxes with their class and score, and below the image how many of each class.

    Labels touch their box and never cover one another; where a crowd leaves no room, the better detection is labelled.

    Args:
        image: (H, W, 3) uint8 RGB.
        min_score: boxes below it are left out.
    """
    picture, scale = fit(image)
    canvas, colours = Canvas(picture), class_colours(len(class_names))
    height, width = image.shape[:2]
    boxes = np.asarray(found.boxes.tolist(), float).reshape(-1, 4).clip(0, [width, height, width, height])
    corners = (boxes * scale).round().astype(int).tolist()
    rows: list[Row] = list(zip(corners, found.scores.tolist(), found.labels.tolist()))
    rows = [row for row in sorted(rows, key=lambda row: -row[1]) if row[1] >= min_score]
    for box, _, label in reversed(rows):  # the best on top
        frame_box(canvas, box, colours[label])
    taken: list[Rect] = []
    for box, score, label in rows:
        text = f"{canvas.elide(class_names[label], canvas.width // 3)} {score:.2f}"
        tab = free_place(canvas, box, canvas.text_width(text) + canvas.text_size, taken)
        if tab is not None:
            taken.append(tab)
            write_tab(canvas, tab, text, colours[label])
    labels = [label for _, _, label in rows]
    entries = [(f"{labels.count(label)} {class_names[label]}", colours[label]) for label in sorted(set(labels))]
    return legend(canvas.array(), entries, f"nothing scores {min_score:.2f} or more")


def draw_mask(image: np.ndarray, class_map: np.ndarray | Tensor, class_names: Sequence[str]) -> np.ndarray:
    """Classes laid over the image with their contours, and below it each one's share of the pixels.

    Args:
        class_map: (H, W) int; the background is not painted, nor is a value without a name (IGNORE).
    """
    class_map = np.asarray(class_map.cpu() if isinstance(class_map, Tensor) else class_map)
    picture, scale = fit(image)
    labels = cv2.resize(class_map.astype(np.uint8), scaled_size(image, scale), interpolation=cv2.INTER_NEAREST)
    region = picture[: labels.shape[0], : labels.shape[1]]
    shares = np.bincount(class_map.ravel(), minlength=len(class_names)) / class_map.size
    colours = {label: colour for label, colour in mask_colours(class_names).items() if shares[label]}
    palette, painted = np.zeros((1, 256, 3), np.uint8), np.zeros(256, np.uint8)
    for label, colour in colours.items():
        palette[0, label], painted[label] = colour, 255
    paint = cv2.addWeighted(region, 0.5, cv2.LUT(cv2.merge([labels] * 3), palette), 0.5, 0)
    cv2.copyTo(paint, cv2.LUT(labels, painted), region)
    line = Canvas(picture).line - 1
    for label, colour in colours.items():
        outlines, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, line)
    entries = [(f"{shares[label]:.1%} {class_names[label]}", colour) for label, colour in colours.items()]
    return legend(picture, entries, "background alone")


def mask_colours(class_names: Sequence[str]) -> dict[int, Colour]:
    """{label: colour} of the classes that are painted: all but one called background.

    Where that is class 0, the others have the colours that a detector, which has no class for it, gives them.
    """
    background = [label for label, name in enumerate(class_names) if name.strip("_ ").lower() == "background"]
    colours, first = class_colours(len(class_names)), int(0 in background)
    return {label: colours[label - first] for label in range(len(class_names)) if label not in background}


def draw_scores(image: np.ndarray, probabilities: np.ndarray | Tensor, class_names: Sequence[str]) -> np.ndarray:
    """Below the image, a bar for each of the most probable classes.

    Args:
        probabilities: (K,) in [0, 1].
    """
    scores = np.asarray(probabilities.tolist(), float)
    best: list[int] = np.argsort(-scores, kind="stable")[:TOP].tolist()
    picture, _ = fit(image)
    size = text_size(picture)
    row = Canvas(picture[:1], size).row
    canvas = Canvas(strip(size // 2 * 2 + row * len(best), picture.shape[1]), size)
    colours = class_colours(len(class_names))
    names = [canvas.elide(class_names[label], int(0.45 * canvas.width)) for label in best]
    left = 2 * size + max(canvas.text_width(name) for name in names)
    right = canvas.width - 2 * size - canvas.text_width("100.0%")
    for index, (label, name) in enumerate(zip(best, names)):
        middle = size // 2 + (index + 0.5) * row
        top, bottom = round(middle - 0.32 * row), round(middle + 0.32 * row)
        canvas.write(size, middle, name, LIGHT)
        canvas.draw.rectangle((left, top, right - 1, bottom), fill=TRACK)
        length = round((right - left) * scores[label])
        if length:
            canvas.draw.rectangle((left, top, left + length - 1, bottom), fill=colours[label])
        canvas.write(canvas.width - size, middle, f"{scores[label]:.1%}", LIGHT, anchor="r")
    return np.concatenate([picture, canvas.array()])


def sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of any sizes on one page, `columns` in a row."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = max(picture.shape[1] for picture in pictures)
    gap = max(8, width // 60)
    page = np.full((gap, gap + len(rows[0]) * (width + gap), 3), DARK, np.uint8)
    for row in rows:
        band = np.full((max(picture.shape[0] for picture in row) + gap, page.shape[1], 3), DARK, np.uint8)
        for column, picture in enumerate(row):
            left = gap + column * (width + gap) + (width - picture.shape[1]) // 2
            band[: picture.shape[0], left : left + picture.shape[1]] = picture
        page = np.concatenate([page, band])
    return page


def frame_box(canvas: Canvas, box: Sequence[int], colour: Colour) -> None:
    """A box outline with a dark edge, which shows on any background."""
    x0, y0, x1, y1 = box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)
    canvas.draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=DARK, width=canvas.line + 2)
    canvas.draw.rectangle((x0, y0, x1, y1), outline=colour, width=canvas.line)


def write_tab(canvas: Canvas, tab: Rect, text: str, colour: Colour) -> None:
    x0, y0, x1, y1 = tab
    canvas.draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
    canvas.write(x0 + canvas.text_size // 2, (y0 + y1) / 2, text, ink_on(colour))


def free_place(canvas: Canvas, box: Sequence[int], width: int, taken: Sequence[Rect]) -> Rect | None:
    """The first place for a label of this width that lies on the canvas, touches the box and covers no other."""
    x0, y0, x1, y1 = box
    height = canvas.row
    for y in (y0 - height, y0, y1, y1 - height, *range(y0 + height, y1 - height, height)):
        for x in (x0, x1 - width):
            left = max(0, min(x, canvas.width - width))
            top = max(0, min(y, canvas.height - height))
            place = (left, top, left + width, top + height)
            if not any(_overlap(place, other) for other in taken):
                return place
    return None


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
