"""Scenes drawn from a number: several textured shapes with their boxes, masks and main class.

Only IEEE arithmetic, integers and a table of sines are used, so the same (seed, split, index, size) gives the same
pixels on every machine and in every worker process.
"""

import colorsys
import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import cv2
import numpy as np

from mnv2_tasks.contracts import Sample

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]  # object coordinates u, v in about [-1, 1] -> bool


class Shape(NamedTuple):
    """A class: its outline, the centre of its range of hues (a turn is 1) and its texture."""

    outline: Pattern
    hue: float
    texture: Pattern


def _outside(u: np.ndarray, v: np.ndarray, sides: int, radius: float) -> np.ndarray:
    """How many sides of a regular polygon with this inner radius each point lies beyond."""
    turns = [2 * math.pi * k / sides for k in range(sides)]
    normals = [(round(math.sin(t), 9), round(math.cos(t), 9)) for t in turns]  # libm may differ in the last digit
    return reduce(np.add, ((u * x + v * y > radius).astype(np.int8) for x, y in normals))


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = 1.2 * u, 1.2 * v + 0.15
    ball = x * x + y * y - 1
    return ball * ball * ball - x * x * y * y * y <= 0


def _stripes(x: np.ndarray, per_unit: float) -> np.ndarray:
    return np.floor(per_unit * x).astype(int) % 2 == 0


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ((4 * u) % 1 - 0.5) ** 2 + ((4 * v) % 1 - 0.5) ** 2 < 0.08


SHAPES: dict[str, Shape] = {
    "disc": Shape(lambda u, v: u * u + v * v <= 1, 0.0, lambda u, v: u > 2),
    "ring": Shape(lambda u, v: abs(u * u + v * v - 0.65) <= 0.35, 0.125, lambda u, v: _stripes(u, 6)),
    "square": Shape(
        lambda u, v: np.maximum(abs(u), abs(v)) <= 0.85, 0.25, lambda u, v: _stripes(u, 3) == _stripes(v, 3)
    ),
    "triangle": Shape(lambda u, v: _outside(u, v, 3, 0.5) == 0, 0.375, lambda u, v: _stripes(v, 4)),
    "star": Shape(lambda u, v: _outside(u, v, 5, 0.36) <= 1, 0.5, lambda u, v: u * u + v * v < 0.12),
    "cross": Shape(
        lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.32) & (np.maximum(abs(u), abs(v)) <= 1),
        0.625,
        lambda u, v: u * v > 0,
    ),
    "crescent": Shape(
        lambda u, v: (u * u + v * v <= 1) & ((u - 0.55) ** 2 + v * v > 0.55),
        0.75,
        lambda u, v: _stripes(v, 8) & _stripes(v, 4),
    ),
    "heart": Shape(_heart, 0.875, _dots),
}
CLASS_NAMES = list(SHAPES)

HUE_SPREAD = 0.09  # neighbours overlap, so that hue alone does not decide
MIN_VISIBLE = 0.55  # of each object's area; a shape that would hide more is not placed
MAX_OTHERS = 3
SPLITS = {"train": 0, "val": 1}


class _Placed(NamedTuple):
    label: int
    rows: slice
    columns: slice
    inside: np.ndarray  # bool, of the window
    textured: np.ndarray  # bool, of the window
    colours: tuple[np.ndarray, np.ndarray]  # each (3,) uint8


def _rgb(rng: np.random.Generator, hue: float, saturation: tuple, value: tuple) -> np.ndarray:
    rgb = colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(*saturation), rng.uniform(*value))
    return np.array([int(255 * c) for c in rgb], np.uint8)


def _place(rng: np.random.Generator, size: int, radius: tuple[float, float]) -> _Placed:
    """A random shape at a random place, turned and stretched."""
    label = int(rng.integers(len(SHAPES)))
    shape = SHAPES[CLASS_NAMES[label]]
    scale, stretch = rng.uniform(*radius) * size, rng.uniform(0.8, 1.25)
    centre = rng.uniform(0.1 * size, 0.9 * size, size=2)  # y, x: objects may leave the image
    turn = 2 * math.pi * rng.uniform()
    sin, cos = round(math.sin(turn), 9), round(math.cos(turn), 9)
    reach = 1.3 * scale * max(stretch, 1 / stretch)
    y0, x0 = (max(0, int(c - reach)) for c in centre)
    y1, x1 = (min(size, int(c + reach) + 1) for c in centre)
    y = (np.arange(y0, y1)[:, None] + 0.5 - centre[0]) / scale
    x = (np.arange(x0, x1)[None, :] + 0.5 - centre[1]) / scale
    u, v = (x * cos + y * sin) * stretch, (y * cos - x * sin) / stretch
    colour = _rgb(rng, shape.hue + rng.uniform(-HUE_SPREAD, HUE_SPREAD), (0.5, 1.0), (0.55, 1.0))
    shade = (colour * rng.uniform(0.35, 0.7)).astype(np.uint8)
    return _Placed(label, slice(y0, y1), slice(x0, x1), shape.outline(u, v), shape.texture(u, v), (colour, shade))


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth blotches of a few muted colours, crossed by thin bars of any colour: clutter without a class."""
    cells = int(rng.integers(2, 6))
    palette = np.stack([_rgb(rng, rng.uniform(), (0.0, 0.5), (0.2, 0.9)) for _ in range(3)])
    blotches = palette[rng.integers(3, size=(cells, cells))]
    image = cv2.resize(blotches, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)
    for _ in range(int(rng.integers(0, 5))):
        ends = rng.integers(0, size, size=(2, 2)).tolist()
        colour = _rgb(rng, rng.uniform(), (0.3, 1.0), (0.3, 1.0)).tolist()
        cv2.line(image, ends[0], ends[1], colour, max(1, int(rng.integers(1, 5)) * size // 128))
    return image


def draw_scene(seed: int, split: str, index: int, size: int) -> Sample:
    """One main object and up to three smaller ones, which may hide parts of each other.

    Args:
        split: "train" or "val"; each has its own stream of random numbers, so no scene is in both.
        size: of the square image, in pixels.

    Returns:
        A sample with every field: `label` is the class of the largest object, boxes enclose the visible pixels, and
        `mask` holds class + 1, or 0 for background.
    """
    rng = np.random.default_rng([seed, SPLITS[split], index])
    image = _background(rng, size)
    radii = [(0.2, 0.38)] + [(0.09, 0.17)] * int(rng.integers(0, MAX_OTHERS + 1))
    owner = np.full((size, size), -1, np.int8)
    placed: list[_Placed] = []
    areas: list[int] = []
    for radius in radii:
        shape = _place(rng, size, radius)
        window = owner[shape.rows, shape.columns]
        hidden = np.bincount(window[shape.inside & (window >= 0)], minlength=len(placed))
        visible = [int((owner == i).sum()) for i in range(len(placed))]
        area = int(shape.inside.sum())
        if area < 12 or any(v - h < MIN_VISIBLE * a for v, h, a in zip(visible, hidden, areas)):
            continue
        window[shape.inside] = len(placed)
        placed.append(shape)
        areas.append(area)
        pixels = image[shape.rows, shape.columns]
        pixels[shape.inside] = shape.colours[0]
        pixels[shape.inside & shape.textured] = shape.colours[1]
    image = _photograph(rng, image)

    labels = np.array([shape.label for shape in placed], np.int64)
    boxes = np.array([_box(owner == i) for i in range(len(placed))], np.float32).reshape(-1, 4)
    visible = np.bincount(owner[owner >= 0], minlength=len(placed))
    mask = np.append(labels + 1, 0)[owner].astype(np.uint8)  # owner -1 takes the last entry, the background
    return Sample(image, index, int(labels[visible.argmax()]), boxes, labels, mask)


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Exposure and sensor noise."""
    gain = int(rng.integers(160, 300))  # over 256
    noise = int(rng.integers(2, 22))
    grain = rng.integers(-noise, noise + 1, size=image.shape, dtype=np.int16)
    return np.clip((image.astype(np.int32) * gain >> 8) + grain, 0, 255).astype(np.uint8)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight xyxy box of a non-empty mask, in pixels; the right and lower edges are exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
