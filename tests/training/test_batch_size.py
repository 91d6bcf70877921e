"""batch=auto, and a batch that is halved where memory runs out."""

import json

import pytest
import torch
from conftest import TINY
from omegaconf import OmegaConf
from safetensors.torch import load_file

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training import batch_size
from mnv2_tasks.training.batch_size import reckoned
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.prepared_run import prepare
from mnv2_tasks.training.train import train

pytestmark = pytest.mark.usefixtures("lean")

MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
GPU_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."


def words(tmp_path, *more):
    small = [*TINY, "imgsz=33", "data.source.train_size=16", "logger=none", f"runs={tmp_path}"]
    return ["task=classification", *small, *more]


@pytest.mark.parametrize(
    "smaller, larger, room, batch",
    [
        (500, 900, 1700, 16),  # 100 beside 100 for each image
        (500, 900, 1699, 8),
        (400, 800, 100 * 64, 64),
        (400, 800, 10**9, 64),  # no more than asked for
        (400, 800, 10, 1),  # no less than an image
        (700, 700, 700, 8),  # too little to be told apart: all of it is the images'
        (0, 0, 100, 64),
        (100, 400, 600, 8),  # a part that is negative counts as none
    ],
)
def test_a_step_takes_a_part_of_its_own_and_a_part_for_each_image(smaller, larger, room, batch):
    assert reckoned(4, smaller, larger, room, most=64) == batch


def test_auto_measures_and_leaves_a_number_and_the_network_as_it_was(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(batch_size, "MOST", {"cpu": 8})
    words_of = words(tmp_path, "reference_batch=4")
    found = prepare(compose("train", [*words_of, "batch=auto"]))
    assert "batch=auto: batch=8; a step of 4 images took " in caplog.text and "learning rate" not in caplog.text
    assert found.config.batch == found.module.batch == found.data.batch_size == 8
    plain = prepare(compose("train", [*words_of, "batch=8"]))
    assert found.description["initial_weights"] == plain.description["initial_weights"]
    assert {**found.description["config"]} == {**plain.description["config"]}
    for a, b in zip(found.network.state_dict().values(), plain.network.state_dict().values()):
        assert torch.equal(a, b)


def test_auto_takes_what_half_of_the_free_memory_holds(tmp_path, monkeypatch):
    taken = {8: 900, 4: 500}
    monkeypatch.setattr(batch_size, "_taken", lambda config, sources, module, precision, batch, device: taken[batch])
    monkeypatch.setattr(batch_size, "free_memory", lambda shared: (2 * 1000, "memory"))
    assert prepare(compose("train", words(tmp_path, "batch=auto", "data.source.train_size=64"))).config.batch == 8
    monkeypatch.setattr(batch_size, "free_memory", lambda shared: (10**9, "memory"))
    assert prepare(compose("train", words(tmp_path, "batch=auto", "data.source.train_size=40"))).config.batch == 32


def test_auto_is_no_more_than_the_training_images(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(batch_size, "_taken", None)  # nothing to measure
    assert prepare(compose("train", words(tmp_path, "batch=auto", "data.source.train_size=5"))).config.batch == 5
    assert "batch=auto: batch=5, all training images" in caplog.text


@pytest.mark.parametrize(
    "verb, more, message",
    [
        ("train", ["batch=auto", "trainer.devices=2"], "batch=auto: is measured for one process"),
        ("train", ["batch=auto", "trainer.nodes=2"], "batch=auto: is measured for one process"),
        ("train", ["batch=most"], "batch=most: expected a whole number"),
        ("train", ["epochs=auto"], "epochs=auto: expected a whole number"),
        ("eval", ["batch=auto"], "batch=auto: is found by steps of training"),
    ],
)
def test_auto_elsewhere_and_other_words_are_refused(tmp_path, verb, more, message):
    with pytest.raises(ConfigError, match=message):
        train(compose(verb, words(tmp_path, *more)))
    assert not list(tmp_path.iterdir())


def test_auto_is_refused_where_the_system_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_size, "start_measuring", lambda: None)
    with pytest.raises(ConfigError, match="batch=auto: this system does not tell.*say batch=<number>"):
        prepare(compose("train", words(tmp_path, "batch=auto")))


@pytest.fixture
def memory_for(monkeypatch):
    """Memory runs out in steps of more images than this, in this epoch and those after it."""
    step = TasksModule.training_step

    def patch(images, epoch=0, error=None):
        def training_step(self, batches, batch_index):
            loss = step(self, batches, batch_index)
            if self.trainer.current_epoch >= epoch and len(batches["classification"].images) > images and batch_index:
                raise error or RuntimeError(MEMORY)
            return loss

        monkeypatch.setattr(TasksModule, "training_step", training_step)

    return patch


@pytest.mark.parametrize(
    "error", [None, MemoryError(), torch.OutOfMemoryError(GPU_MEMORY)], ids=["CPU", "Python", "GPU"]
)
def test_memory_that_runs_out_halves_the_batch_and_the_run_is_that_of_the_smaller_one(
    tmp_path, memory_for, caplog, error
):
    caplog.set_level("INFO")
    memory_for(2, error=error)
    run = train(compose("train", words(tmp_path, "name=halved", "trainer.save_every_steps=1")))
    assert (
        "batch=4 needs more memory than there is: the run begins anew with batch=2 trainer.accumulate=2" in caplog.text
    )
    assert "4 images in a step of the optimizer, and batch norms see 2" in (run / "train.log").read_text()
    stored = OmegaConf.load(run / "config.yaml")
    assert (stored.batch, stored.trainer.accumulate) == (2, 2)
    assert json.loads((run / "run.json").read_text())["config"]["batch"] == 2
    other = train(compose("train", words(tmp_path, "name=small", "batch=2", "trainer.accumulate=2")))
    one, two = (load_file(r / "weights.safetensors") for r in (run, other))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert (run / "metrics.json").read_text() == (other / "metrics.json").read_text()


def test_a_second_time_it_is_the_error(tmp_path, memory_for, caplog):
    memory_for(1)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        train(compose("train", words(tmp_path)))
    assert caplog.text.count("the run begins anew") == 1


def test_once_an_epoch_is_done_in_a_resumed_run_and_of_other_errors_it_is_the_error(tmp_path, memory_for, caplog):
    memory_for(2, epoch=1)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        train(compose("train", words(tmp_path, "epochs=2", "name=a")))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        train(compose("train", [f"resume={tmp_path / 'classification' / 'a'}"]))
    memory_for(2, error=RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        train(compose("train", words(tmp_path)))
    assert "begins anew" not in caplog.text
