"""TrivialAugment, RandAugment and erasing: from the sample's key alone, and for classification alone."""

import numpy as np
import pytest
import torch

from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Sample
from mnv2_tasks.data.images.augment import CLASSIFICATION_ONLY, Augment, make_transforms
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.train import train

GREY = [127.0] * 3


def photo():
    rows, columns = np.mgrid[:96, :128]
    return Sample(np.stack([rows * 2, columns, rows + columns], axis=2).astype(np.uint8), 5, 3)


@pytest.mark.parametrize("preset", sorted(CLASSIFICATION_ONLY))
def test_pictures_depend_on_the_key_alone_and_differ_between_keys(preset):
    one, other = Augment(preset, 64, GREY), Augment(preset, 64, GREY)
    torch.manual_seed(1)
    first = [one(photo(), (0, key)).image for key in range(12)]
    torch.manual_seed(2)
    again = [other(photo(), (0, key)).image for key in reversed(range(12))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert len({image.tobytes() for image in first}) == 12
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in first)


@pytest.mark.parametrize("preset", sorted(CLASSIFICATION_ONLY))
def test_global_generator_stands_where_it_stood(preset):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    Augment(preset, 64, GREY)(photo(), (0, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tenth_of_the_pictures_lose_a_rectangle_to_the_fill():
    flat = photo()._replace(image=np.full((96, 96, 3), 60, np.uint8))
    augment = Augment("imagenet_trivial", 64, [200.0, 10.0, 90.0])
    augment.compose.transforms = augment.compose.transforms[-1:]  # the erasing
    share = [(augment(flat, (0, key)).image == (200, 10, 90)).all(axis=2).mean() for key in range(400)]
    erased = [s for s in share if s]
    assert 20 <= len(erased) <= 65
    assert 0.015 < min(erased) and max(erased) < 0.36  # 2 to 33 % of the area, up to rounding


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_presets_that_move_pixels_alone_are_refused_for_boxes_and_masks(kind):
    with pytest.raises(ConfigError, match=rf"augmentation.{kind}=imagenet_rand: moves the picture without its boxes"):
        make_transforms("imagenet_rand", kind, 64, (0, 0, 0))
    with pytest.raises(ConfigError, match=r"augmentation.detection=sdd: is unknown; there are .*ssd_crop"):
        make_transforms("sdd", "detection", 64, (0, 0, 0))


def test_own_presets_are_functions_named_by_their_path_and_see_every_pixel():
    own = Augment("mnv2_tasks.data.images.augment.ssd", 32, [0, 0, 0])
    ours = Augment("ssd", 32, [0, 0, 0])
    assert [type(t) for t in own.compose] == [type(t) for t in ours.compose]
    assert (own.least, ours.least) == (None, 64)
    with pytest.raises(ConfigError, match=r"augmentation.detection=nowhere.faded: cannot be imported .*PYTHONPATH"):
        make_transforms("nowhere.faded", "detection", 64, (0, 0, 0))


def test_data_without_augmentation_for_a_kind_name_the_key_to_add(tiny):
    with pytest.raises(ConfigError, match=r"data=shapes: its augmentation has nothing for detection.*\+data.aug"):
        train(compose("train", ["task=ssdlite", *tiny, "~data.augmentation.detection"]))


def test_a_run_with_such_a_preset_is_refused_before_its_folder_is_made(tiny, tmp_path):
    config = compose("train", ["task=ssdlite", *tiny, "data.augmentation.detection=imagenet_trivial"])
    with pytest.raises(ConfigError, match="classification alone"):
        train(config)
    assert not (tmp_path / "ssdlite").exists()
