"""Darknet's augmentation and its letterbox: where a picture comes to lie, and its boxes with it."""

import colorsys

import numpy as np
import pytest
import torch

from mnv2_tasks.contracts import Frames, Sample
from mnv2_tasks.data.images.augment import Augment
from mnv2_tasks.data.images.darknet import HSVScale
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.kinds.segmentation import from_exported


def picture(height, width):
    """Black with a red square, whose box is told."""
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2, 0] = 255
    box = np.float32([[width // 4, height // 4, width // 2, height // 2]])
    return Sample(image, 0, boxes=box, box_labels=np.int64([0]))


@pytest.mark.parametrize("preset", ["darknet", "darknet_2016"])
@pytest.mark.parametrize("size", [(100, 200), (240, 120)])
def test_boxes_follow_the_picture(preset, size):
    augment, seen = Augment(preset, 160, [0, 0, 0]), 0
    for key in range(40):
        out = augment(picture(*size), (key,))
        assert out.image.shape == (160, 160, 3)
        red = (out.image[..., 0].astype(int) - out.image[..., 1:].max(axis=2)) > 60
        if not len(out.boxes):  # moved out of the picture
            continue
        rows, columns = np.nonzero(red)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(out.boxes[0] - found).max() <= 2.5
        seen += 1
    assert seen >= 30


def test_the_whole_picture_stays_in_grey_since_2017_and_is_cut_in_2016():
    new, old = (Augment(preset, 160, [0, 0, 0]) for preset in ("darknet", "darknet_2016"))
    white = Sample(np.full((100, 200, 3), 255, np.uint8), 0)
    for key in range(10):
        values = new(white, (key,)).image.max(axis=2)  # of white, and of grey, as dark or as bright as it has become
        assert 0.2 < (values == values.max()).mean() < 0.95  # twice as wide as high, by 1.3 / 0.7 more or less
    boxes = np.concatenate([old(picture(100, 200), (key,)).boxes for key in range(20)])
    assert np.ptp(boxes[:, 3] - boxes[:, 1]) > 5


def test_colours_turn_and_scale_in_hsv_as_in_python():
    transform = HSVScale(hue=0.1, saturation=1.5, exposure=1.5)
    pixels = np.uint8([[[200, 100, 50], [10, 200, 30], [30, 30, 30], [0, 0, 0], [255, 255, 255]]])
    out = transform.apply(pixels, turn=0.05, factors=[1.4, 0.8])
    for pixel, got in zip(pixels[0], out[0]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        wanted = colorsys.hsv_to_rgb((hue + 0.05) % 1, min(1, saturation * 1.4), min(1, value * 0.8))
        assert np.abs(255 * np.array(wanted) - got).max() <= 1


@pytest.mark.parametrize(
    "size, content, offset",
    [((100, 200), (208, 416), (104, 0)), ((500, 375), (416, 312), (0, 52)), ((64, 64), (416, 416), (0, 0))],
)
def test_letterbox_is_as_large_as_fits_in_the_middle_of_grey(size, content, offset):
    image, *place = Fit(mode="letterbox", size=416, resize=None, fill=[0, 0, 0])(np.full((*size, 3), 255, np.uint8))
    assert tuple(place) == (content, offset)
    inside = np.zeros((416, 416), bool)
    inside[offset[0] : offset[0] + content[0], offset[1] : offset[1] + content[1]] = True
    assert (image[inside] == 255).all() and (image[~inside] == 128).all()


def test_a_picture_a_hundred_times_as_wide_as_high_still_has_a_row():
    image, content, _ = Fit(mode="letterbox", size=32, resize=None, fill=[0, 0, 0])(np.zeros((3, 1000, 3), np.uint8))
    assert content == (1, 32)


def test_class_map_of_a_letterboxed_image_is_cut_out_of_the_middle():
    class_map = torch.zeros(1, 64, 64, dtype=torch.uint8)
    class_map[:, 16:48] = 3
    frames = Frames((64, 64), torch.tensor([[32, 64]]), torch.tensor([[100, 200]]), torch.tensor([[16, 0]]))
    (cut,) = from_exported([class_map], frames)
    assert cut.shape == (100, 200) and (cut == 3).all()
