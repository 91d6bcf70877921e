"""tools/bench.py what=train and what=infer, the turns that contestants take, and where memory is kept."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from mnv2_tasks.bench.bench import bench
from mnv2_tasks.bench.contestants import CLASSES, SIZES, noise, our_batch, our_config, our_loss, our_network
from mnv2_tasks.bench.train import CONTESTS
from mnv2_tasks.bench.turns import repeat, take_turns
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.cost import model_cost


def prepare(megabytes):
    if megabytes is None:
        raise ConfigError("cannot be prepared")
    return lambda: torch.ones(megabytes * 2**18).sum()


def test_each_takes_its_turn_and_one_that_fails_does_not_stop_the_others():
    contestants = {
        name: partial(repeat, partial(prepare, size)) for name, size in (("large", 64), ("bad", None), ("small", 1))
    }
    found = take_turns(contestants, rounds=2, warmup=1, threads=1, calls=3)
    assert found["bad"] == "ConfigError: cannot be prepared"
    assert [[len(laps) for laps in found[name].rounds] for name in ("large", "small")] == [[3, 3], [3, 3]]
    assert found["large"].peak_bytes > found["small"].peak_bytes + 32 * 2**20
    assert found["small"].times_as_fast_as(found["large"]) > 1
    assert found["small"].times_as_fast_as(found["bad"]) is None


@pytest.mark.parametrize("task", CLASSES)
def test_each_task_has_a_batch_that_it_can_learn_from(task):
    network = our_network(our_config(task, 64, width=0.1))
    loss = our_loss(network, task, our_batch(task, noise(2, 64, CLASSES[task])))
    loss.backward()
    assert torch.isfinite(loss) and any(p.grad.abs().sum() > 0 for p in network.tasks[task].parameters())


@pytest.mark.parametrize(
    "task, params", [("classification", 3_504_872), ("ssdlite", 4_337_013), ("mobile_deeplabv3", 2_113_557)]
)
def test_the_networks_that_are_measured_are_the_papers(task, params):
    assert model_cost(our_network(our_config(task, SIZES[task])), SIZES[task]).params == params


def count_turns(turns):
    return sum(1 for _ in turns)


def test_what_a_contestant_returns_comes_with_its_turns():
    found = take_turns({"one": count_turns}, rounds=3, warmup=1, threads=1)
    assert found["one"].answer == 4 and len(found["one"].rounds) == len(found["one"].processor) == 3


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train", "infer"])
def test_a_quick_run_fills_a_table(what, tmp_path, monkeypatch):
    if what == "train":
        monkeypatch.setattr("mnv2_tasks.bench.train.CONTESTS", CONTESTS[:1])
    else:
        pytest.importorskip("onnxscript")
        monkeypatch.setattr("mnv2_tasks.bench.infer.PEERS", {"classification": {}})
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
