"""Augmentation as a list of albumentations' transforms, with arguments, and of presets."""

import albumentations as A
import numpy as np
import pytest
import yaml

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images.augment import Augment, make_transforms
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.stored.run_files import read_config
from mnv2_tasks.training.prepared_run import prepare
from mnv2_tasks.training.train import train

GREY = [127.0] * 3


def test_a_list_is_albumentations_own_transforms_in_order():
    steps = ["D4", {"RandomBrightnessContrast": {"brightness_limit": 0.3, "p": 1.0}}]
    made = make_transforms(steps, "detection", 64, (0, 0, 0))
    assert [type(one).__name__ for one in made] == ["D4", "RandomBrightnessContrast", "Resize"]
    assert made[1].brightness_limit == (-0.3, 0.3) and made[1].p == 1.0


def test_presets_stand_in_lists_and_transforms_in_groups():
    steps = ["ssd_crop", {"OneOf": {"transforms": ["VerticalFlip", {"Blur": {"blur_limit": 3}}], "p": 0.5}}]
    made = make_transforms(steps, "detection", 64, (0, 0, 0))
    names = [type(one).__name__ for one in made]
    assert names == ["SSDCrop", "HorizontalFlip", "Resize", "OneOf", "Resize"]
    assert [type(one) for one in made[3].transforms] == [A.VerticalFlip, A.Blur]


@pytest.mark.parametrize("kind", ["classification", "detection", "segmentation"])
def test_boxes_and_masks_move_along_and_the_picture_has_the_networks_size(kind):
    scene = draw_scene(0, "train", 0, 96)
    augment = Augment([{"VerticalFlip": {"p": 1.0}}], 96, GREY, kind)
    out = augment(scene, (0, 0, 0))
    straight = Augment([], 96, GREY, kind)(scene, (0, 0, 0))
    assert out.image.shape == (96, 96, 3) and out.mask.shape == (96, 96)
    np.testing.assert_array_equal(out.image, straight.image[::-1])
    np.testing.assert_array_equal(out.mask, straight.mask[::-1])
    top, bottom = straight.boxes[:, 1], straight.boxes[:, 3]
    np.testing.assert_allclose(out.boxes[:, 1], 96 - bottom, atol=1e-3)
    np.testing.assert_allclose(out.boxes[:, 3], 96 - top, atol=1e-3)


def test_pictures_are_reduced_where_a_preset_comes_first_alone():
    assert Augment(["ssd_crop", "D4"], 64, GREY, "detection").least == 128
    assert Augment(["D4", "ssd_crop"], 64, GREY, "detection").least is None


@pytest.mark.parametrize(
    "steps, message",
    [
        (
            ["HorizontalFlop"],
            r"detection\[0\]: albumentations has no transform HorizontalFlop. Did you mean Horizontal",
        ),
        ([{"HorizontalFlip": {"prob": 0.5}}], r"detection\[0\].HorizontalFlip: Argument\(s\) 'prob' are not valid"),
        (["D4", {"HorizontalFlip": {"p": 3}}], r"detection\[1\].HorizontalFlip: p: Input should be less than or equal"),
        ([{"OneOf": {"transforms": ["Blur", "Blurr"]}}], r"OneOf\[1\]: albumentations has no transform Blurr"),
        ([{"OneOf": {"transforms": "Blur"}}], r"OneOf.transforms=Blur: expected a list"),
        ([{"OneOf": {}}], "missing 1 required"),
        ([{"RandomCrop": {"height": 0, "width": 4}}], "RandomCrop: height: Input should be greater than"),
        (["CoarseDropout3D"], "moves the picture without its bboxes"),
        (["imagenet_rand"], "moves the picture without its boxes and masks"),
        (["Lambda"], "needs functions or further pictures"),
        (["os.system"], "albumentations has no transform os.system"),
        ([{"Blur": 3}], "expected the name of a transform"),
        ([{"Blur": {}, "D4": {}}], "expected the name of a transform"),
        ([7], "expected the name of a transform"),
    ],
)
def test_what_is_wrong_in_a_list_is_named_with_its_place(steps, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_transforms(steps, "detection", 64, (0, 0, 0))
    assert "\n" not in str(error.value) and "pydantic" not in str(error.value)


@pytest.mark.parametrize(
    "augmentation, message",
    [
        ("[{RandomCrop: {height: 900, width: 900}}]", "data.augmentation.detection: fails on a training image"),
        ("[{ToFloat: {p: 1.0}}]", "makes float32"),
    ],
)
def test_a_list_is_tried_on_a_picture_before_a_folder_is_made(tmp_path, tiny, augmentation, message):
    with pytest.raises(ConfigError, match=message):
        train(compose("train", ["task=ssdlite", *tiny, f"data.augmentation.detection={augmentation}"]))
    assert not (tmp_path / "ssdlite").exists()


def test_a_file_of_a_list_goes_into_the_config_of_the_run(tmp_path, tiny):
    steps = ["light", {"Rotate": {"limit": [-10, 10], "p": 0.5}}]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(steps))
    run = train(compose("train", ["task=ssdlite", *tiny, f"data.augmentation.detection={tmp_path / 'mine.yaml'}"]))
    (tmp_path / "mine.yaml").unlink()
    assert read_config(run / "config.yaml")["data"]["augmentation"]["detection"] == steps
    again = prepare(compose("train", [f"repeat={run}"]))
    assert [type(one).__name__ for one in again.data.augment("ssdlite").compose.transforms][-2:] == ["Rotate", "Resize"]


@pytest.mark.parametrize("content, message", [("D4: {}", "expected a list of transforms"), ("[", "mine.yaml")])
def test_a_file_that_is_no_list_is_named(tmp_path, content, message):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        compose("train", ["task=ssdlite", f"data.augmentation.detection={tmp_path / 'mine.yaml'}"])
