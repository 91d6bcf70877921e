import pytest
import torch

from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import BoxTargets, DetectionBatch, Frames
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.assemble import build_multi_scale
from mnv2_tasks.training.multi_scale import MultiScale


def made(**changes):
    return MultiScale(**{"least": 320, "largest": 608, "every": 10, "final": 200, "seed": 0, **changes})


def test_a_size_holds_for_ten_steps_and_all_ten_sizes_come():
    scale = made()
    sides = [scale.side(step, 10_000) for step in range(9_800)]
    assert all(len(set(sides[at : at + 10])) == 1 for at in range(0, 9_800, 10))
    counts = {side: sides.count(side) for side in range(320, 609, 32)}
    assert sum(counts.values()) == 9_800 and min(counts.values()) > 600


def test_the_last_steps_are_the_largest_size():
    assert {made().side(step, 1000) for step in range(800, 1000)} == {608}


def test_sizes_follow_from_step_and_seed_alone():
    """So that all processes, and a run that is gone on with, have the same."""
    assert [made().side(step, 9000) for step in (500, 20, 3000)] == [
        made().side(step, 9000) for step in (500, 20, 3000)
    ]
    assert [made(seed=1).side(step, 9000) for step in range(0, 900, 10)] != [
        made().side(step, 9000) for step in range(0, 900, 10)
    ]


def test_pictures_shrink_and_boxes_which_are_fractions_stay():
    sizes = torch.tensor([[96, 96]])
    targets = BoxTargets(torch.rand(1, 2, 4), torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    images = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    images[..., 48:] = 200
    batch = DetectionBatch(images, targets, torch.tensor([3]), Frames((96, 96), sizes, sizes))
    shrunk = MultiScale(least=64, largest=64, every=1, final=0, seed=0)(batch, 0, 10)
    assert shrunk.images.shape == (1, 3, 64, 64) and shrunk.targets is targets
    assert shrunk.images[..., :30].max() == 0 and shrunk.images[..., 34:].min() > 199.9
    assert made(least=96, largest=96)(batch, 0, 10) is batch


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["task=yolov2", "imgsz=416", "multi_scale.least=300"], "multi_scale.least=300: expected a multiple of 32"),
        (["task=yolov2", "imgsz=416", "multi_scale.least=448"], "up to the side of the training pictures"),
        (["task=ssdlite", "imgsz=300", "multi_scale.least=320"], "imgsz=300"),
        (["task=yolov2", "imgsz=416", "multi_scale.least=320", "multi_scale.every=0"], "expected every >= 1"),
        (["task=deeplabv3", "imgsz=416", "multi_scale.least=320"], "deeplabv3 has masks"),
    ],
)
def test_what_cannot_be_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_multi_scale(compose("train", overrides))
