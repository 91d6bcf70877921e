"""A sampler that gives some samples more often than others."""

from collections import Counter

import numpy as np
import pytest

from mnv2_tasks.loading.samplers import TrainingSampler, pass_length

REPEATS = np.array([1.0, 1.0, 1.25, 2.5, 1.0, 3.0, 1.4, 1.0])
LENGTH = pass_length(len(REPEATS), REPEATS)


def keys(passes=1, *, epoch=0, **settings):
    sampler = TrainingSampler(
        len(REPEATS), **{"steps": LENGTH * passes, "batch_size": 1, "seed": 3, "repeats": REPEATS} | settings
    )
    sampler.set_epoch(epoch)
    return list(sampler)


def test_a_pass_gives_each_sample_its_factor_rounded_up_or_down():
    for number in range(20):
        of_pass = Counter(index for _, index in keys(epoch=number))
        times = np.array([of_pass[index] for index in range(len(REPEATS))])
        assert times.sum() == LENGTH
        assert ((times >= np.floor(REPEATS)) & (times <= np.ceil(REPEATS + 0.1))).all()


def test_in_the_mean_of_many_passes_each_sample_has_its_factor():
    times = Counter(index for _, index in keys(600))
    mean = np.array([times[index] for index in range(len(REPEATS))]) / 600
    np.testing.assert_allclose(mean, REPEATS * LENGTH / REPEATS.sum(), atol=0.06)


def test_no_two_samples_have_one_key_so_that_none_is_augmented_alike():
    found = keys(50)
    assert len(set(found)) == len(found)


def test_a_repeated_sample_is_not_given_twice_in_a_row_by_rule():
    found = [index for _, index in keys(50)]
    rows = sum(a == b for a, b in zip(found, found[1:])) / len(found)
    assert rows < 0.2


def test_processes_share_the_stream_of_one():
    whole = keys(2)
    shares = [keys(1, batch_size=1, rank=rank, world=2) for rank in (0, 1)]
    assert [key for pair in zip(*shares) for key in pair] == whole


def test_a_resumed_run_goes_on_with_the_same_samples():
    assert keys(done=(0, 5)) == keys()[5:]
    assert keys(epoch=3, done=(3, 2)) == keys(epoch=3)[2:]


def test_shards_are_read_together_with_repeats():
    shards = [np.arange(i, i + 2) for i in range(0, 8, 2)]
    found = Counter(index for _, index in keys(shards=shards))
    assert set(found) == set(range(8)) and sum(found.values()) == LENGTH


@pytest.mark.parametrize("shards", [None, [np.arange(5), np.arange(5, 8)]])
def test_factors_of_one_read_all_once(shards):
    found = keys(repeats=np.ones(8), shards=shards, steps=8)
    assert sorted(index for _, index in found) == list(range(8))
