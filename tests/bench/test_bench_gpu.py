"""tools/bench.py what=gpu, tried on the CPU: the steps, what is counted, and the time that it keeps to."""

import time
from functools import partial

import pytest
import torch

from mnv2_tasks.bench import gpu_steps
from mnv2_tasks.bench.bench import bench
from mnv2_tasks.bench.contestants import CLASSES, noise, our_config, our_network, their_batch, their_loss
from mnv2_tasks.bench.gpu import CONTESTS, YOLOV2
from mnv2_tasks.bench.gpu_steps import THEIR_NETWORKS, Traffic, bytes_of_an_image, contest_config, place
from mnv2_tasks.bench.torchvision_networks import mobile_deeplabv3, ssdlite
from mnv2_tasks.bench.train import Contest
from mnv2_tasks.bench.turns import LEFT_OUT, repeat, take_turns
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.finite import FiniteWatch


@pytest.mark.parametrize(
    "network, task, more", [(mobile_deeplabv3(21), "mobile_deeplabv3", 0), (ssdlite(320, 80), "ssdlite", 0.04)]
)
def test_what_is_built_of_torchvisions_parts_is_the_network_that_we_train(network, task, more):
    ours, theirs = (
        sum(parameter.numel() for parameter in net.parameters())
        for net in (our_network(our_config(task, 320)), network)
    )
    assert ours <= theirs <= ours * (1 + more)  # six anchors on the first map, of which ours has three


@pytest.mark.parametrize("task", THEIR_NETWORKS)
def test_their_network_learns_from_the_same_samples(task):
    loss = their_loss(task, THEIR_NETWORKS[task]().train(), *their_batch(task, noise(2, 64, CLASSES[task])))
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("contest", [*CONTESTS, YOLOV2], ids=lambda contest: contest.task)
def test_every_contest_is_a_recipe_of_tools_train(contest):
    config = contest_config(contest)
    assert (config.imgsz, config.batch) == (contest.size, contest.batch) and set(
        config.tasks
    ) <= gpu_steps.OUR_CLASSES.keys()


def test_bytes_are_those_that_operators_read_and_write_and_views_move_none():
    x = torch.ones(4, 256)
    with Traffic() as counted:
        y = x + 1
        y.t()[:2].detach()
        y.mul_(x)
    assert counted.bytes == (2 + 3) * x.nbytes  # in place: both that are read, and the one that is written
    with Traffic() as counted:
        x[0].clone().expand(1000, 256).sum()
    assert counted.bytes == 3 * 256 * 4 + 4  # the row, its copy written and read, the sum


def test_bytes_of_an_image_grow_with_its_pixels():
    one, two, four = (bytes_of_an_image(Contest("classification", "imagenet", side, 2)) for side in (32, 64, 128))
    assert (four - two) / (two - one) == pytest.approx(4, rel=0.1)


def test_who_is_not_done_in_time_is_left_out_and_the_others_are_not():
    contestants = {"quick": partial(repeat, nothing), "slow": partial(repeat, sleeping)}
    began = time.monotonic()
    assert take_turns(contestants, rounds=1, warmup=0, threads=1, deadline=began) == dict.fromkeys(
        contestants, LEFT_OUT
    )
    found = take_turns({"slow": contestants["slow"]}, rounds=1, warmup=0, threads=1, deadline=began + 1)
    assert found == {"slow": LEFT_OUT}
    assert (
        len(
            take_turns({"quick": contestants["quick"]}, rounds=1, warmup=0, threads=1, deadline=began + 600)[
                "quick"
            ].rounds
        )
        == 1
    )


def nothing():
    return int


def sleeping():
    return partial(time.sleep, 600)


def test_a_wait_is_told_with_the_line_of_ours_that_began_it():
    def not_there():
        raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError) as caught:
        try:
            FiniteWatch().add(torch.tensor(False), not_there)
        finally:  # what clears up waits too
            raise RuntimeError("called a synchronizing CUDA operation")
    assert place(caught.value).startswith("finite.py:") and "tell()" in place(caught.value)


def test_no_time_at_all_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="minutes=0: expected more than 0"):
        bench(compose("bench", ["what=gpu", "minutes=0", f"out={tmp_path / 'out'}"]))


@pytest.mark.slow
def test_without_a_gpu_tiny_pictures_show_that_it_runs(tmp_path):
    waits, *tables = bench(compose("bench", ["what=gpu", "quick=true", "threads=1", f"out={tmp_path}"]))
    assert [row[0] for row in waits.rows] == [*(contest.task for contest in CONTESTS), "yolov2"]
    if not torch.cuda.is_available():
        assert {row[1] for row in waits.rows} == {"not looked at, for want of a GPU"}
    assert all(isinstance(value, float) for table in tables for row in table.rows for value in row[1:3]), tables
    assert len(tables) == 2 * len(CONTESTS) and (tmp_path / "gpu.json").is_file()
