import pytest

from mnv2_tasks.bench import scale
from mnv2_tasks.bench.bench import bench
from mnv2_tasks.bench.scale import slope
from mnv2_tasks.config.compose import compose


def test_the_slope_of_work_that_squares_is_two_and_what_is_constant_does_not_hide_it():
    amounts = [1, 10, 100, 1000, 10_000]
    assert slope(amounts, [100.0 + a**2 for a in amounts]) == pytest.approx(2, abs=0.01)
    assert slope(amounts, [3.0] * 5) == pytest.approx(0, abs=1e-9)


def test_work_worse_than_linear_is_told_in_time_and_memory(monkeypatch):
    monkeypatch.setattr(scale, "least_seconds", lambda call, **_: 1.0 if isinstance(call(), int) else call())

    def told(grown):
        return scale.measured(scale.Growth("work", "things", [1, 10, 100], lambda n: lambda: grown(n)), 0.0)

    assert told(lambda n: float(n)) == ["work", "things", 100, 1e5, pytest.approx(1), None, None, ""]
    assert told(lambda n: float(n**2))[-1] == "worse than linear"
    assert told(lambda n: 10**6 * n)[-4:] == [pytest.approx(0, abs=1e-9), 100.0, pytest.approx(1), ""]
    assert told(lambda n: n**2)[-1] == "worse than linear"


@pytest.mark.slow
def test_a_quick_run_tells_time_and_memory_over_pixels_images_classes_objects_and_annotations(tmp_path):
    (table,) = bench(compose("bench", ["what=scale", "quick=true", "threads=1", f"out={tmp_path}"]))
    slopes = {(work, axis): (seconds, memory) for work, axis, _, _, seconds, _, memory, _ in table.rows}
    assert len(slopes) == len(table.rows) == 21
    steps = {axis: memory for (work, axis), (_, memory) in slopes.items() if work == "ssdlite, training step"}
    assert 0.5 < steps["pixels of an image"] <= 1 and 0.5 < steps["images of a batch"] <= 1
    assert 0 < steps["classes"] < 0.1 and abs(steps["objects of an image"]) < 0.1
    assert {("reading COCO json", "annotations"), ("COCO's numbers", "annotations")} <= slopes.keys()
    assert (tmp_path / "scale.md").is_file()
