"""Names beside points of a plot, none of which lies on another one, on a point, or outside."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

RADII = (9, 16, 26, 38, 52, 68, 86, 106, 128)  # pixels at 100 dpi from a point to the nearest edge of its name
ANGLES = [math.radians(a) for a in (0, 180, 45, -45, 135, -135, 90, -90)]
POINT = 6  # pixels around a point that names keep off


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], *, size: float = 8) -> None:
    """Write each name at the first free place around its point, with a thin line to it if that is far off.

    Call it when limits, scales and layout are final. A name that finds no free place stands where it covers least.

    Args:
        points: in data coordinates.
    """
    figure = axes.figure
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    unit = figure.dpi / 100
    inside = axes.get_window_extent()
    places = [tuple(axes.transData.transform(point)) for point in points]
    taken = [Bbox.from_bounds(x, y, 0, 0).padded(POINT * unit) for x, y in places]
    for (x, y), name in zip(places, names):
        text = axes.text(0, 0, name, fontsize=size, transform=None, ha="left", va="bottom", zorder=5)
        box = text.get_window_extent(canvas.get_renderer())
        candidates = [
            (radius, _beside(x, y, box.width, box.height, radius * unit, angle)) for radius in RADII for angle in ANGLES
        ]
        radius, place = min(
            candidates, key=lambda candidate: _covered(candidate[1], taken, inside)
        )  # the first of equals
        taken.append(place.padded(1.5 * unit))
        text.set_transform(axes.transAxes)  # so that the name stays there at any resolution
        text.set_position(axes.transAxes.inverted().transform((place.x0, place.y0)))
        if radius > RADII[1]:
            near = (min(max(x, place.x0), place.x1), min(max(y, place.y0), place.y1))
            ends = axes.transAxes.inverted().transform([(x, y), near])
            axes.plot(*ends.T, transform=axes.transAxes, color="0.6", linewidth=0.6, zorder=1)


def _beside(x: float, y: float, width: float, height: float, gap: float, angle: float) -> Bbox:
    """A box of this size in a direction from a point, its nearest edge or corner that gap away."""
    dx, dy = math.cos(angle), math.sin(angle)
    left = x + gap * dx - width * (1 - dx) / 2
    bottom = y + gap * dy - height * (1 - dy) / 2
    return Bbox.from_bounds(left, bottom, width, height)


def _covered(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """Square pixels of the box that lie on others or outside."""
    area = 0.0
    for other in taken:
        shared = Bbox.intersection(box, other)
        area += shared.width * shared.height if shared is not None else 0.0
    within = Bbox.intersection(box, inside)
    return area + box.width * box.height - (within.width * within.height if within is not None else 0.0)
