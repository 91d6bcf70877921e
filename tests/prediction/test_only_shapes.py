"""Weights of drawn shapes say that they know no photos, once, and name those that do."""

import logging

import numpy as np
import pytest

import mnv2_tasks
from mnv2_tasks.build import load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.prediction import only_shapes
from mnv2_tasks.prediction.only_shapes import say_if_only_shapes
from mnv2_tasks.prediction.predict import predict
from mnv2_tasks.weights.find import manifest

SAID = "know drawn shapes alone: of photos they tell nothing. These know photos: imagenet (classes), coco_ssdlite"


@pytest.fixture(autouse=True)
def unsaid(caplog):
    only_shapes._say.cache_clear()
    caplog.set_level(logging.WARNING)


@pytest.fixture(scope="module")
def passport():
    return load_network("multitask_shapes")[1]


def test_python_says_it_once_of_photos(caplog):
    model = mnv2_tasks.load("multitask_shapes")
    for _ in range(2):
        model(np.zeros((64, 64, 3), np.uint8))
    assert [SAID in line for line in caplog.messages] == [True]
    assert caplog.messages[0].startswith("weights=multitask_shapes ")


def test_the_command_line_says_it_of_photos(photo, tmp_path, caplog):
    predict(compose("predict", [f"source={photo}", f"out={tmp_path / 'out'}", "device=cpu"]))
    assert SAID in caplog.text


def test_nothing_is_said_of_drawn_scenes(passport, caplog):
    say_if_only_shapes("multitask_shapes", passport, "shapes")
    assert not caplog.text


@pytest.mark.parametrize(
    "choices, said",
    [
        ({"data": "shapes"}, True),
        ({"data": "folder"}, False),
        ({"data": "shapes", "datasets": {"ssdlite": "shapes"}}, True),
        ({"data": "shapes", "datasets": {"ssdlite": "coco"}}, False),
    ],
)
def test_weights_that_saw_anything_else_are_left_alone(choices, said, caplog):
    say_if_only_shapes("mine", {"config": {"choices": choices}}, ["photo.jpg"])
    assert bool(caplog.text) == said


def test_the_weights_that_it_names_are_published():
    assert {"imagenet_mobilenet_v2", "coco_ssdlite", "voc_mobile_deeplabv3"} <= manifest().keys()
