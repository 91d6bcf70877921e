"""tools/bench.py what=memory: activations counted and measured."""

import sys

import pytest
import torch

from mnv2_tasks.bench.bench import bench
from mnv2_tasks.bench.memory import _fewest, _rise_in_own_process
from mnv2_tasks.config.compose import compose
from mnv2_tasks.network.activation_memory import Operation


def test_the_fewest_shares_are_those_with_which_every_operation_fits():
    operations = [Operation("stem", 30), Operation("bottleneck", 10, channels=6, cells=10)]
    assert [_fewest(operations, values) for values in (70, 69, 40, 30, 29)] == ["whole", "2", "2", "3", "-"]


def allocate_and_free():
    for _ in range(4):
        torch.ones(2**21)  # 8 MiB


def prepare():
    return allocate_and_free


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of resident memory")
def test_the_rise_of_memory_is_what_was_in_use_at_once():
    assert abs(_rise_in_own_process(prepare) - 8 * 2**20) < 2**20  # the kernel counts pages in batches


@pytest.mark.slow
def test_a_quick_run_counts_and_measures(tmp_path):
    pytest.importorskip("onnxscript")
    *counted, measured = bench(compose("bench", ["what=memory", "quick=true", "threads=1", f"out={tmp_path}"]))
    assert [table.rows[0][:2] for table in counted] == [
        ["classification 0.35, 96", size] for size in ("1,677", "3,354")
    ]
    names = ["whole", "2", "auto as 2"]
    assert [row[0] for row in measured.rows] == [
        f"{run}, {name}" for run in ("PyTorch", "ONNX Runtime") for name in names
    ]
    assert all(isinstance(row[3], float) for row in measured.rows), measured.rows
