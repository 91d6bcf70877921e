"""Figure 1: a spiral embedded by a random matrix T into n dimensions, through ReLU, and back by T's pseudo-inverse.

What comes through tells where a point was if as many coordinates are positive as the spiral has dimensions (lemma 2 of
appendix A); how often they are, theorem 1 counts.
"""

from math import comb

import numpy as np
from matplotlib.figure import Figure

from mnv2_tasks.paper.figure import Claim, DrawnFigure, write_figure

DIMENSIONS = (2, 3, 5, 15, 30)
POINTS, TURNS = 1000, 2.0
MATRICES = 1000  # over which shares are averaged


def spiral(points: int = POINTS) -> np.ndarray:
    """(points, 2), from near the origin, which nothing embeds, to radius 1."""
    along = np.linspace(0.05, 1, points)
    angle = 2 * np.pi * TURNS * along
    return along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def random_matrix(n: int, rng: np.random.Generator, m: int = 2) -> np.ndarray:
    """T, (n, m) of a normal distribution."""
    return rng.standard_normal((n, m))


def there_and_back(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(P, m) points -> T^-1 ReLU(T x), (P, m)."""
    return np.maximum(points @ matrix.T, 0) @ np.linalg.pinv(matrix).T


def is_lost(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(P,) bool: fewer coordinates are positive than the points have dimensions, so others map to the same."""
    return (points @ matrix.T > 0).sum(axis=1) < points.shape[1]


def expected_loss(m: int, n: int) -> float:
    """Of points with m dimensions in n: the share that ReLU collapses, 1 - N / 2^n of theorem 1 (its n and m)."""
    return 1 - sum(comb(n, k) for k in range(n - m + 1)) / 2**n


def draw_figure_1() -> DrawnFigure:
    points, rng = spiral(), np.random.default_rng(0)
    figure = Figure(figsize=(15, 3), dpi=110, layout="constrained")
    axes = figure.subplots(1, 1 + len(DIMENSIONS))
    _show(axes[0], points, "input")
    losses, bends = [], []
    for panel, n in zip(axes[1:], DIMENSIONS):
        matrices = [random_matrix(n, rng) for _ in range(MATRICES)]
        losses.append(float(np.mean([is_lost(points, matrix).mean() for matrix in matrices])))
        back = there_and_back(points, matrices[0])
        bends.append(_bent_share(points, back))
        lost = is_lost(points, matrices[0]).mean()
        _show(panel, back, f"n = {n}: {_share(lost)} lost")
    expected = [expected_loss(2, n) for n in DIMENSIONS]
    names = ", ".join(map(str, DIMENSIONS))
    claims = [
        Claim(
            "n = 2, 3: certain points of the manifold collapse into each other (caption)",
            f"share of points with fewer than 2 positive coordinates at n = {names}: "
            f"{', '.join(map(_share, losses))} (mean of {MATRICES:,} matrices)",
        ),
        Claim(
            "theorem 1: the share that collapses is 1 - N / 2^n on average, N the number of sign patterns with "
            "2 or more positive",
            ", ".join(map(_share, expected)),
        ),
        Claim(
            "n = 15 to 30: the transformation is highly non-convex (caption)",
            "share of the result's variance that no linear map of the input gives: " + ", ".join(map(_share, bends)),
        ),
    ]
    return DrawnFigure("ReLU of a spiral in n dimensions", lambda path: write_figure(figure, path), claims)


def _bent_share(points: np.ndarray, back: np.ndarray) -> float:
    known = np.column_stack([points, np.ones(len(points))])
    rest = back - known @ np.linalg.lstsq(known, back, rcond=None)[0]
    return float((rest**2).sum() / ((back - back.mean(axis=0)) ** 2).sum())


def _show(axes, points: np.ndarray, title: str) -> None:
    axes.scatter(*points.T, c=np.arange(len(points)), cmap="viridis", s=5)  # colour: place along the spiral
    axes.set_title(title, fontsize=11)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"
