import hashlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from mnv2_tasks.data.scenes import CLASS_NAMES, draw_scene
from mnv2_tasks.data.shapes import Shapes
from mnv2_tasks.errors import ConfigError

SCENES = [draw_scene(0, "val", index, 96) for index in range(200)]


def pixels(index):
    return hashlib.sha256(draw_scene(0, "train", index, 96).image.tobytes()).hexdigest()


def test_same_seed_and_index_give_the_same_pixels_in_every_process():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(pixels, range(4))) == [pixels(index) for index in range(4)]


def test_pixels_are_those_of_every_machine():
    """Golden: a change here changes the data set, and with it every published figure on shapes."""
    digest = hashlib.sha256(b"".join(draw_scene(0, "val", i, 96).image.tobytes() for i in range(16)))
    assert digest.hexdigest()[:16] == "a51c73b32578b021"


def test_validation_scenes_are_never_training_scenes():
    train = {draw_scene(0, "train", i, 64).image.tobytes() for i in range(300)}
    val = {draw_scene(0, "val", i, 64).image.tobytes() for i in range(300)}
    assert len(train) == len(val) == 300 and not train & val


def test_training_draws_new_scenes_in_every_epoch_and_validation_the_same():
    source = Shapes(kind="detection", train_size=4, val_size=4, image_size=64, seed=0)
    seen = {source.sample("train", epoch, i).image.tobytes() for epoch in range(3) for i in range(4)}
    assert len(seen) == 12
    assert np.array_equal(source.sample("val", 0, 1).image, source.sample("val", 5, 1).image)


def test_boxes_are_tight_around_the_visible_pixels_of_their_class():
    for scene in SCENES:
        for (x0, y0, x1, y1), label in zip(scene.boxes.astype(int), scene.box_labels):
            inside = scene.mask[y0:y1, x0:x1] == label + 1
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    for scene in SCENES:  # and no class pixel lies outside its boxes
        covered = np.zeros(scene.mask.shape, bool)
        for x0, y0, x1, y1 in scene.boxes.astype(int):
            covered[y0:y1, x0:x1] = True
        assert not (scene.mask[~covered] > 0).any()


def test_main_class_is_that_of_the_largest_visible_object():
    for scene in SCENES:
        if len(set(scene.box_labels)) == len(scene.box_labels):  # else the mask does not tell objects apart
            area = np.bincount(scene.mask.ravel(), minlength=len(CLASS_NAMES) + 1)[1:]
            assert area.argmax() == scene.label


def test_objects_hide_parts_of_each_other():
    overlapping = 0
    for scene in SCENES:
        x0, y0, x1, y1 = scene.boxes.T
        for i in range(len(scene.boxes)):
            for j in range(i):
                width = min(x1[i], x1[j]) - max(x0[i], x0[j])
                height = min(y1[i], y1[j]) - max(y0[i], y0[j])
                overlapping += width > 0 and height > 0
    assert overlapping > 50


def test_scenes_are_varied():
    counts = [len(scene.boxes) for scene in SCENES]
    assert min(counts) == 1 and max(counts) == 4
    assert set(np.concatenate([scene.box_labels for scene in SCENES])) == set(range(len(CLASS_NAMES)))
    widths = np.concatenate([scene.boxes[:, 2] - scene.boxes[:, 0] for scene in SCENES])
    assert widths.min() < 15 and widths.max() > 60
    assert np.std([scene.image.mean() for scene in SCENES]) > 15


def test_image_size_scales_the_same_scene():
    small, large = draw_scene(0, "val", 3, 96), draw_scene(0, "val", 3, 288)
    assert small.label == large.label
    np.testing.assert_allclose(large.boxes / 3, small.boxes, atol=2)


def test_coco_ground_truth_holds_the_boxes_of_the_validation_scenes():
    source = Shapes(kind="detection", train_size=4, val_size=6, image_size=96, seed=0)
    truth = source.coco_ground_truth()
    assert [image["id"] for image in truth["images"]] == list(range(6))
    sample = source.sample("val", 0, 2)
    x, y, w, h = np.array([a["bbox"] for a in truth["annotations"] if a["image_id"] == 2]).T
    np.testing.assert_allclose(np.stack([x, y, x + w, y + h], 1), sample.boxes)
    assert [c["name"] for c in truth["categories"]] == CLASS_NAMES


@pytest.mark.parametrize("change", [{"train_size": 0}, {"val_size": 0}, {"image_size": 16}])
def test_impossible_sizes_are_refused_by_name(change):
    with pytest.raises(ConfigError, match=f"data.{next(iter(change))}="):
        Shapes(**{"kind": "detection", "train_size": 4, "val_size": 4, "image_size": 96, "seed": 0, **change})
