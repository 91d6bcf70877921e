"""What a network found in one picture: numbers, words and drawings of it."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mnv2_tasks.contracts import Task
from mnv2_tasks.drawing.canvas import DARK, LIGHT, Canvas, strip, text_size
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.wording import visible

GAP = 8  # pixels between the panels of two tasks
WRITTEN = (".jpg", ".jpeg", ".png", ".webp")  # by `Result.save`


class TaskResult:
    """What one task says of a picture: `kind` tells which of the arrays it has."""

    def __init__(self, name: str, kind: str, class_names: Sequence[str], found: Any, least: np.ndarray):
        self.name, self.kind, self.min_score = name, kind, min(1.0, float(least.min()))  # of any class
        self.names: list[str] = list(class_names)
        """Of the classes: index i is label i; of a segmentation, mask value i."""
        self.found = KINDS[kind].as_arrays(found, least)

    @property
    def boxes(self) -> np.ndarray:
        """(M, 4) float32 x0, y0, x1, y1 in pixels of the picture, best first; of a detection."""
        return self._array("boxes")

    @property
    def scores(self) -> np.ndarray:
        """(M,) float32 in [0, 1], descending; of a detection."""
        return self._array("scores")

    @property
    def labels(self) -> np.ndarray:
        """(M,) int64, indices of `names`; of a detection."""
        return self._array("labels")

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8, an index of `names` for each pixel of the picture; of a segmentation."""
        return self._array("mask")

    @property
    def probabilities(self) -> np.ndarray:
        """(K,) float32 in [0, 1], one for each of `names`; of a classification."""
        return self._array("probabilities")

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes and their probabilities, best first; of a classification."""
        best = np.argsort(-self.probabilities, kind="stable")[: max(count, 0)]
        return [(self.names[label], float(self.probabilities[label])) for label in best]

    def as_json(self) -> Any:
        """As results.json of tools/predict.py has it."""
        return KINDS[self.kind].as_json(self.found, self.names, self.min_score)

    def drawn_on(self, image: np.ndarray) -> np.ndarray:
        return KINDS[self.kind].draw(image, self.found, self.names, self.min_score)

    def in_words(self) -> str:
        return KINDS[self.kind].in_words(self.as_json())

    def __repr__(self) -> str:
        return f"TaskResult({self.name}: {visible(self.in_words())}; it has {', '.join(self.fields)})"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the arrays that it has."""
        return KINDS[self.kind].FIELDS

    def _array(self, field: str) -> np.ndarray:
        if field not in self.fields:
            raise AttributeError(f"{field}: {self.name} is a {self.kind}, which has {', '.join(self.fields)}")
        return getattr(self.found, field) if isinstance(self.found, tuple) else self.found


class Result:
    """What a network found in one picture, in numpy and in the picture's own pixels: `result[task]` is a `TaskResult`.

    The arrays of `TaskResult` can be asked for here too, where one task alone has them.

    Args:
        name: of the file or URL; "picture" where there is none.
        image: (H, W, 3) uint8 RGB, as it was looked at: upright, without transparency.
        tasks: {task name: of a Task at least `kind` and `class_names`}.
        found: {task name: what the task predicts for this one image}.
        least: {task name: scores below which boxes are left out}, see `least_scores`.
    """

    def __init__(
        self,
        name: str,
        image: np.ndarray,
        tasks: Mapping[str, Task],
        found: Mapping[str, Any],
        least: Mapping[str, np.ndarray],
    ):
        self.name, self.image = name, image
        self.tasks = {
            task: TaskResult(task, tasks[task].kind, tasks[task].class_names, of_task, least[task])
            for task, of_task in found.items()
        }

    def __getitem__(self, task: str) -> TaskResult:
        if task not in self.tasks:
            raise KeyError(f"{task}: there is no such task; there are {', '.join(self.tasks)}")
        return self.tasks[task]

    @property
    def boxes(self) -> np.ndarray:
        """(M, 4) float32 x0, y0, x1, y1 in pixels of the picture, best first; of a detection."""
        return self._only("boxes").boxes

    @property
    def scores(self) -> np.ndarray:
        """(M,) float32 in [0, 1], descending; of a detection."""
        return self._only("scores").scores

    @property
    def labels(self) -> np.ndarray:
        """(M,) int64, indices of `names`; of a detection."""
        return self._only("labels").labels

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8, an index of `names` for each pixel of the picture; of a segmentation."""
        return self._only("mask").mask

    @property
    def probabilities(self) -> np.ndarray:
        """(K,) float32 in [0, 1], one for each of `names`; of a classification."""
        return self._only("probabilities").probabilities

    @property
    def names(self) -> list[str]:
        """Of the classes; index i is label i. Of several tasks each has its own, `result[task].names`."""
        if len(self.tasks) > 1:
            raise AttributeError(f"names: each task has its own; say result['{next(iter(self.tasks))}'].names")
        return next(iter(self.tasks.values())).names

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes and their probabilities, best first; of a classification."""
        return self._only("probabilities").top(count)

    def _only(self, field: str) -> TaskResult:
        having = [task for task in self.tasks.values() if field in task.fields]
        if len(having) > 1:
            names = ", ".join(task.name for task in having)
            raise AttributeError(f"{field}: {names} have them; say result['{having[0].name}'].{field}")
        if not having:
            there = "; ".join(f"{task.name} has {', '.join(task.fields)}" for task in self.tasks.values())
            raise AttributeError(f"{field}: no task of this network finds them; {there}")
        return having[0]

    @property
    def in_words(self) -> str:
        """Such as "bus.jpg 640x480: 4 person, 1 bus"."""
        words = [of_task.in_words() for of_task in self.tasks.values()]
        phrases = words if len(words) == 1 else [f"{task} {phrase}" for task, phrase in zip(self.tasks, words)]
        return f"{Path(self.name).name} {self.image.shape[1]}x{self.image.shape[0]}: {'; '.join(phrases)}"

    def __repr__(self) -> str:
        return f"Result({visible(self.in_words)})"

    def plot(self) -> Image.Image:
        """The picture with what was found, a panel for each task, at a size at which its text can be read."""
        return Image.fromarray(self.drawn())

    def drawn(self) -> np.ndarray:
        """`plot` as (H, W, 3) uint8 RGB."""
        return side_by_side({task: of_task.drawn_on(self.image) for task, of_task in self.tasks.items()})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `plot` to a file; its suffix says the format, .jpg, .png or .webp. What has the name is replaced.

        Raises:
            ConfigError: another suffix, or the file cannot be written.
        """
        file = Path(path).expanduser()
        if file.suffix.lower() not in WRITTEN:
            raise ConfigError(f"{file}: expected a name that ends in {', '.join(WRITTEN)}")
        write_picture(file, self.drawn())
        return file

    def to_dict(self) -> dict[str, Any]:
        """An entry of results.json of tools/predict.py: file, width, height, and what each task says.

        That is the best five classes, the boxes, or each class's share of the pixels. Scores have four digits, those of
        the arrays all.
        """
        entry: dict[str, Any] = {"file": self.name, "width": self.image.shape[1], "height": self.image.shape[0]}
        return entry | {task: of_task.as_json() for task, of_task in self.tasks.items()}

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), indent=indent)


def side_by_side(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """{title: (H, W, 3) uint8 RGB picture} on one, each under its title."""
    height, size = max(panel.shape[0] for panel in panels.values()), max(map(text_size, panels.values()))
    columns = []
    for task, panel in panels.items():
        width = panel.shape[1]
        column = [_title(task, width, size), panel, strip(height - panel.shape[0], width)]
        columns += [np.concatenate(column), strip(column[0].shape[0] + height, GAP, DARK)]
    return np.concatenate(columns[:-1], axis=1)


@lru_cache  # of all pictures of one size
def _title(task: str, width: int, size: int) -> np.ndarray:
    canvas = Canvas(strip(round(2.2 * size), width, DARK), size)
    canvas.write(size, canvas.height / 2, canvas.elide(task, width - 2 * size, bold=True), LIGHT, bold=True)
    return canvas.array()
