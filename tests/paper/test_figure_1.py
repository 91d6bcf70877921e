"""Figure 1, and lemma 2 and theorem 1 of appendix A, of which it is an example."""

from math import comb

import numpy as np
import pytest

from mnv2_tasks.paper.figure_1 import (
    DIMENSIONS,
    draw_figure_1,
    expected_loss,
    is_lost,
    random_matrix,
    spiral,
    there_and_back,
)


@pytest.mark.parametrize("n, m", [(2, 2), (2, 3), (2, 5), (3, 4), (3, 8), (5, 6), (5, 20)])
def test_theorem_1_counts_how_much_random_matrices_collapse(n, m):
    """V - N V / 2^m of the volume V, N the sum of m over k for k up to m - n."""
    rng = np.random.default_rng(n * m)
    points = rng.uniform(-1, 1, (200, n))
    found = [is_lost(points, random_matrix(m, rng, n)).mean() for _ in range(2000)]
    kept = sum(comb(m, k) for k in range(m - n + 1)) / 2**m
    assert expected_loss(n, m) == pytest.approx(1 - kept)
    assert np.mean(found) == pytest.approx(1 - kept, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_lemma_2_finds_the_point_from_the_rows_that_are_positive(seed):
    """ReLU(B x) = y has one solution if n of y's coordinates are positive, with independent rows of B."""
    rng = np.random.default_rng(seed)
    n, m = 4, 12
    matrix, points = random_matrix(m, rng, n), rng.standard_normal((50, n))
    values = np.maximum(points @ matrix.T, 0)
    for point, value, lost in zip(points, values, is_lost(points, matrix)):
        rows = value > 0
        if lost:
            continue
        assert np.linalg.matrix_rank(matrix[rows]) == n
        np.testing.assert_allclose(np.linalg.lstsq(matrix[rows], value[rows], rcond=None)[0], point, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_lemma_2_finds_another_point_where_too_few_rows_are_positive(seed):
    rng = np.random.default_rng(seed)
    n, m = 4, 5
    matrix, points = random_matrix(m, rng, n), rng.standard_normal((50, n))
    lost = is_lost(points, matrix)
    assert lost.any()
    for point in points[lost]:
        rows = matrix @ point > 0
        aside = np.linalg.svd(matrix[rows])[2][-1] if rows.any() else rng.standard_normal(n)  # which those do not see
        other = point + 1e-6 * aside / np.linalg.norm(aside)
        np.testing.assert_allclose(np.maximum(matrix @ other, 0), np.maximum(matrix @ point, 0), atol=1e-12)
        assert np.abs(other - point).max() > 1e-7


def test_a_point_whose_rows_are_all_positive_comes_back_as_it_was():
    points, rng = np.random.default_rng(0).uniform(0.1, 1, (20, 2)), np.random.default_rng(1)
    np.testing.assert_allclose(there_and_back(points, rng.uniform(0.1, 1, (7, 2))), points)


def test_the_spiral_is_lost_as_often_as_the_theorem_says():
    points, rng = spiral(100), np.random.default_rng(3)
    for n, expected in zip(DIMENSIONS, (0.75, 0.5, 0.1875, 16 / 2**15, 31 / 2**30)):
        assert expected_loss(2, n) == pytest.approx(expected)
        found = np.mean([is_lost(points, random_matrix(n, rng)).mean() for _ in range(1000)])
        assert found == pytest.approx(expected, abs=0.02)


def test_the_figure_is_drawn_with_what_is_lost(tmp_path):
    figure = draw_figure_1()
    figure.write(tmp_path / "figure_1.png")
    assert (tmp_path / "figure_1.png").read_bytes().startswith(b"\x89PNG")
    assert "74." in figure.claims[0].ours and "75 %, 50 %, 18.8 %" in figure.claims[1].ours
