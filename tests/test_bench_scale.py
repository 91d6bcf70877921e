import pytest
from omegaconf import OmegaConf

from mnv2_tasks.bench.growth import Curve, Growth, grow, slope, table_of
from mnv2_tasks.bench.scale import measure


def test_the_slope_of_work_that_squares_is_two_and_what_is_constant_does_not_hide_it():
    amounts = [1, 10, 100, 1000, 10_000]
    assert slope(amounts, [100.0 + a**2 for a in amounts]) == pytest.approx(2, abs=0.01)
    assert slope(amounts, [3.0] * 5) == pytest.approx(0, abs=1e-9)
    assert slope([0, 5], [1.0, 2.0]) is None  # nothing lies at 0 in log-log


def test_work_worse_than_linear_is_told():
    curves = [Curve("good", [1, 10, 100], [1.0, 10.0, 100.0]), Curve("bad", [1, 10, 100], [1.0, 100.0, 10_000.0])]
    table = table_of(Growth("size", "things", curves))
    assert [row[-1] for row in table.rows] == ["", "worse than linear"]


def test_memory_is_that_of_what_the_work_returned():
    curve = grow("list", [1, 2], lambda n: lambda: [0] * n, repeats=1, megabytes=lambda n, found: len(found) / n)
    assert curve.megabytes == [1, 1] and all(seconds > 0 for seconds in curve.seconds)


def test_every_growth_leaves_a_table_and_a_plot(tmp_path):
    tables = measure(OmegaConf.create({"quick": True, "repeats": None, "threads": 1}), tmp_path)
    assert len(tables) == len(list(tmp_path.glob("*.png"))) == 5
    assert all(row[5] is not None for table in tables for row in table.rows)
