"""tools/bench.py what=train and what=infer, the turns that contestants take, and where memory is kept."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from mnv2_tasks.bench.bench import bench
from mnv2_tasks.bench.train import CONTESTS, least_bytes, our_batch
from mnv2_tasks.bench.turns import repeat, take_turns
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError


def prepare(megabytes):
    if megabytes is None:
        raise ConfigError("cannot be prepared")
    return lambda: torch.ones(megabytes * 2**18).sum()


def test_each_takes_its_turn_and_one_that_fails_does_not_stop_the_others():
    contestants = {
        name: repeat(partial(prepare, size), 3) for name, size in (("large", 64), ("bad", None), ("small", 1))
    }
    found = take_turns(contestants, rounds=2, warmup=1, threads=1)
    assert found["bad"] == "ConfigError: cannot be prepared"
    assert [[len(laps) for laps in found[name].rounds] for name in ("large", "small")] == [[3, 3], [3, 3]]
    assert found["large"].peak_bytes > found["small"].peak_bytes + 32 * 2**20
    assert found["small"].times_faster_than(found["large"]) > 1


def test_a_step_moves_at_least_the_maps_of_every_convolution_three_times():
    network = build_network(compose("train", ["task=classification", "width=1.0"]), {"classification": ["a"]})
    moved = least_bytes(network, 224, 4)
    assert moved == 2 * least_bytes(network, 224, 2)
    assert 100e6 < moved < 400e6


def test_each_task_has_a_batch_that_it_can_learn_from():
    for contest in CONTESTS:
        contest = contest._replace(size=64, batch=2)
        config = compose("train", [f"task={contest.task}", "width=0.1"])
        network = build_network(config, {contest.task: [str(i) for i in range(contest.classes)]})
        batches = {contest.task: our_batch(contest)}
        terms = network.loss(network.outputs(batches), batches)[contest.task]
        assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("what", ["train", "infer"])
def test_a_quick_run_fills_a_table(what, tmp_path, monkeypatch):
    if what == "train":
        monkeypatch.setattr("mnv2_tasks.bench.train.CONTESTS", CONTESTS[:1])
    else:
        pytest.importorskip("onnxscript")
        monkeypatch.setattr("mnv2_tasks.bench.infer.PEERS", {})
    tables = bench(compose("bench", [f"what={what}", "quick=true", "threads=1", f"out={tmp_path}"]))
    assert all(isinstance(row[1], float) for row in tables[0].rows), tables[0].rows
    assert (tmp_path / f"{what}.md").is_file()


def test_a_task_that_is_not_measured_is_an_error_with_those_that_are(tmp_path):
    with pytest.raises(ConfigError, match="only=ssd: unknown. Did you mean ssdlite"):
        bench(compose("bench", ["what=infer", "only=ssd", "quick=true", f"out={tmp_path / 'out'}"]))


def test_freed_memory_is_kept_for_the_next_step():
    code = """
import resource, torch
from mnv2_tasks.network.allocator import keep_freed_memory
if not keep_freed_memory():
    raise SystemExit(3)
for _ in range(20):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
raise SystemExit(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before > 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    if done.returncode == 3:
        pytest.skip("another malloc than glibc's")
    assert done.returncode == 0
