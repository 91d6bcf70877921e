import pytest

from mnv2_tasks.bench.bench import bench
from mnv2_tasks.config.compose import compose


@pytest.mark.slow
def test_a_quick_run_tells_files_a_second_and_memory_of_each_number_of_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path / "cache"))
    (table,) = bench(compose("bench", ["what=files", "quick=true", f"out={tmp_path / 'out'}"]))
    assert [row[0] for row in table.rows] == [100, 1000]
    assert all(rate > 0 for row in table.rows for rate in row[1:6])
    assert (tmp_path / "out" / "files.md").is_file()
