"""Crops and colours of TF's trainers: tf.image, slim's inception_preprocessing, the detectors' ssd_random_crop."""

import colorsys
import random

import albumentations as A
import numpy as np
import pytest

from mnv2_tasks.contracts import IGNORE, Sample
from mnv2_tasks.data.images.augment import Augment, TFResizedCrop
from mnv2_tasks.data.images.tf_crop import TFColours, TFDetectionCrop, random_part, saturated

BOXES = np.array([[10, 20, 60, 90], [80, 30, 150, 70]], float)
SIZE = (120, 160)  # height, width


def parts(count, boxes=BOXES, size=SIZE, **wishes):
    settings = {"covered": 0.0, "ratios": (0.5, 2.0), "areas": (0.1, 1.0), **wishes}
    return np.array([random_part(random.Random(i), size, boxes, **settings) for i in range(count)])


def share_within(boxes, part):
    """(N,) share of each box's own area, pixel by pixel."""
    held = []
    for x0, y0, x1, y1 in boxes.astype(int):
        canvas = np.zeros(SIZE)
        canvas[y0:y1, x0:x1] = 1
        held.append(canvas[part[1] : part[3], part[0] : part[2]].sum() / canvas.sum())
    return np.array(held)


@pytest.mark.parametrize("covered", TFDetectionCrop.SHARES)
def test_a_part_has_the_ratio_and_the_area_and_holds_the_share_of_an_object(covered):
    found = parts(300, covered=covered)
    wide, tall = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    assert found[:, :2].min() >= 0 and found[:, 2].max() <= 160 and found[:, 3].max() <= 120
    whole = (wide == 160) & (tall == 120)
    assert ((wide / tall >= 0.5 - 0.02) & (wide / tall <= 2 + 0.02)).all()
    assert ((wide * tall >= 0.1 * 120 * 160) | whole).all() and whole.mean() < 0.05
    best = [share_within(BOXES, part).max() for part in found]
    assert min(best) >= covered
    if covered == 0:
        assert min(best) == 0  # for which a part without any object will do


def test_heights_are_as_likely_not_areas():
    """TF draws the height evenly between those of the least and the greatest area: 500 to 1000 here."""
    found = parts(3000, np.zeros((0, 4)), (1000, 1000), ratios=(1.0, 1.0), areas=(0.25, 1.0))
    tall = found[:, 3] - found[:, 1]
    assert tall.mean() == pytest.approx(750, abs=8)  # 778 if areas were
    assert np.percentile(tall, 25) == pytest.approx(625, abs=12)


def test_a_picture_without_objects_is_the_object():
    found = parts(300, np.zeros((0, 4)), covered=0.5)
    areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    assert (areas >= 0.5 * 120 * 160).all() and len(set(areas.tolist())) > 50


def test_what_no_part_holds_leaves_the_picture_whole():
    everywhere = np.array([[0, 0, 160, 120]], float)
    assert parts(5, everywhere, covered=1.0, areas=(0.1, 0.5)).tolist() == 5 * [[0, 0, 160, 120]]


def cropped(index):
    crop = A.Compose([TFDetectionCrop()], bbox_params=A.BboxParams("pascal_voc", ["label"]))
    crop.set_random_state(np.random.default_rng(index), random.Random(index))
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(160)[None], np.arange(120)[:, None]  # each pixel says its place
    out = crop(image=image, bboxes=BOXES, label=[0, 1])
    left, top = out["image"][0, 0, :2].astype(int)
    height, width = out["image"].shape[:2]
    return (left, top, left + width, top + height), out


def test_objects_stay_that_have_the_share_within_and_are_cut_at_the_edge():
    kept_of_cut = whole = 0
    for index in range(400):
        part, out = cropped(index)
        whole += part == (0, 0, 160, 120)
        held = share_within(BOXES, part)
        labels = [int(label) for label in out["label"]]
        # with the share of one case: no object that is left out has more within than one that stays
        stays, goes = held[labels], np.delete(held, labels)
        assert len(goes) == 0 or len(stays) == 0 or goes.max() < stays.min() or goes.max() == 0
        for label, box in zip(labels, out["bboxes"]):
            x0, y0, x1, y1 = BOXES[label]
            left, top, right, bottom = part
            inside = [max(x0, left) - left, max(y0, top) - top, min(x1, right) - left, min(y1, bottom) - top]
            np.testing.assert_allclose(box, inside, atol=1e-3)
            kept_of_cut += held[label] < 0.5
    assert kept_of_cut > 10  # not by their centres
    assert whole / 400 == pytest.approx(0.15, abs=0.06)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.4])
def test_saturation_is_that_of_hsv(factor):
    pixels = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = 0, 0.5, (1, 0, 0)  # black, grey and what cannot become more
    for ours, (red, green, blue) in zip(saturated(pixels, factor).reshape(-1, 3), pixels.reshape(-1, 3).tolist()):
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        theirs = colorsys.hsv_to_rgb(hue, min(1, saturation * factor), value)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_light_is_added_up_to_32_and_comes_first_in_a_quarter():
    colours = TFColours()
    drawn = []
    for index in range(400):
        colours.set_random_state(np.random.default_rng(index), random.Random(index))
        drawn.append(colours.get_params())
    light = np.array([of["light"] for of in drawn]) * 255
    assert 30 < light.max() <= 32 and -32 <= light.min() < -30
    saturation = [of["saturation"] for of in drawn]
    assert 0.5 <= min(saturation) < 0.52 and 1.48 < max(saturation) <= 1.5
    assert np.mean([of["light_first"] for of in drawn]) == pytest.approx(0.25, abs=0.06)
    grey = np.full((2, 2, 3), 250, np.uint8)
    assert (colours.apply(grey, light=32 / 255, saturation=1.5) == 255).all()  # cut off
    assert (colours.apply(grey, light=-10 / 255, saturation=0.5, light_first=True) == 240).all()


def test_slims_crop_holds_a_tenth_of_the_picture_and_prefers_small_parts():
    crop = TFResizedCrop((64, 64), scale=(0.05, 1.0), ratio=(0.75, 1.33))
    shares = []
    for index in range(1000):
        crop.set_random_state(np.random.default_rng(index), random.Random(index))
        x0, y0, x1, y1 = crop.get_params_dependent_on_data({"shape": (300, 300, 3)}, {})["crop_coords"]
        shares.append((x1 - x0) * (y1 - y0) / 300**2)
        assert 0.74 <= (x1 - x0) / (y1 - y0) <= 1.35
    assert 0.1 <= min(shares) < 0.12
    assert np.mean(shares) < 0.47  # torchvision's, with even areas from 0.1 on, is 0.55


def test_deeplabs_scales_are_seven_and_its_canvas_grows_to_the_right_and_downwards():
    image = np.full((60, 60, 3), 200, np.uint8)
    augment, sizes = Augment("deeplab_tf", 129, [0.0] * 3), set()
    for index in range(80):
        out = augment(Sample(image, 0, 0, None, None, np.ones((60, 60), np.uint8)), (0, index))
        assert out.image.shape == (129, 129, 3)
        rows = np.flatnonzero((out.mask != IGNORE).any(axis=1))
        assert rows[0] == 0  # the picture begins at the top
        sizes.add(len(rows))
    assert sizes == {30, 45, 60, 75, 90, 105, 120}


@pytest.mark.slow
def test_parts_and_colours_are_distributed_as_tensorflows(tf):
    boxes = (BOXES[:, [1, 0, 3, 2]] / [120, 160, 120, 160])[None].astype(np.float32)
    theirs = []
    for index in range(1500):
        (top, left, _), (tall, wide, _), _ = tf.image.stateless_sample_distorted_bounding_box(
            [120, 160, 3], boxes, seed=[index, 7], min_object_covered=0.7, aspect_ratio_range=(0.5, 2.0),
            area_range=(0.1, 1.0), max_attempts=100,
        )  # fmt: skip
        theirs.append([int(left), int(top), int(left) + int(wide), int(top) + int(tall)])
    ours, theirs = parts(1500, covered=0.7), np.array(theirs)
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=4)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), atol=3)
    pixels = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(saturated(pixels, 1.3), tf.image.adjust_saturation(pixels, 1.3).numpy(), atol=1e-5)
