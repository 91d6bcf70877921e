import random

import albumentations as A
import numpy as np
import pytest
import torch

from mnv2_tasks.contracts import IGNORE, Sample
from mnv2_tasks.data.images.augment import PRESETS, Augment
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.images.ssd_crop import SSDCrop
from mnv2_tasks.data.images.window import _cut
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.data.shapes import Shapes
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.collate import Item, collate
from mnv2_tasks.loading.loaders import TasksData
from mnv2_tasks.loading.samplers import TrainingSampler, ValidationSampler

KINDS = {"cls": "classification", "det": "detection", "seg": "segmentation"}
SOURCES = {name: Shapes(kind=kind, train_size=24, val_size=10, image_size=64, seed=0) for name, kind in KINDS.items()}
GREY = [127.5] * 3


def data(**changes):
    fit = Fit(mode="square", size=64, resize=None, fill=GREY)
    settings = {"augment": lambda kind: Augment("light", 64, GREY), "fit": fit, "batch_size": 4, "workers": 0}
    return TasksData(sources=SOURCES, seed=0, **{**settings, **changes})


def keys(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def rectangles():
    """Two filled rectangles on noise, which any cut leaves filled: boxes (N, 4), labels and mask say the same."""
    image = np.random.default_rng(0).integers(0, 99, (120, 160, 3), np.uint8)
    mask = np.zeros((120, 160), np.uint8)
    boxes = np.array([[10, 20, 60, 90], [80, 30, 150, 70]], np.float32)
    for label, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        image[y0:y1, x0:x1], mask[y0:y1, x0:x1] = 150 + 60 * label, label + 1
    return Sample(image, 5, 0, boxes, np.array([0, 1]), mask)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_boxes_mask_and_image_together(preset):
    augment, seen = Augment(preset, 64, GREY), 0
    for index in range(40):
        sample = augment(rectangles(), (0, index))
        assert sample.image.shape == (64, 64, 3) and sample.image.dtype == np.uint8
        assert set(np.unique(sample.mask)) <= {0, 1, 2, IGNORE}
        for (x0, y0, x1, y1), label in zip(np.round(sample.boxes).astype(int), sample.box_labels):
            if min(x1 - x0, y1 - y0) < 8:
                continue
            seen += 1
            assert (sample.mask[y0:y1, x0:x1] == label + 1).mean() > 0.8
            assert (sample.mask == label + 1).sum() <= 1.25 * (y1 - y0) * (x1 - x0)
    assert seen > 20


@pytest.mark.parametrize("index", range(20))
def test_ssd_crop_keeps_the_objects_whose_centres_it_holds(index):
    crop = A.Compose([SSDCrop(zoom_out=1.0, fill=(0, 0, 0))], bbox_params=A.BboxParams("pascal_voc", ["label"]))
    crop.set_random_state(np.random.default_rng(index), random.Random(index))
    whole = rectangles()
    out = crop(image=whole.image, bboxes=whole.boxes, label=whole.box_labels)
    assert len(out["bboxes"]) >= 1
    for (x0, y0, x1, y1), label in zip(np.round(out["bboxes"]).astype(int), out["label"]):
        inside = out["image"][y0:y1, x0:x1].reshape(-1, 3)
        assert (np.abs(inside.astype(int) - (150 + 60 * int(label))) == 0).mean() > 0.9


def test_ssd_crop_fills_what_lies_outside_the_picture():
    whole = rectangles()
    for image, fill in ((whole.image, (9, 8, 7)), (whole.mask, IGNORE)):
        canvas = np.full((200, 300, *image.shape[2:]), fill, np.uint8)
        canvas[30:150, 50:210] = image
        assert np.array_equal(_cut(image, (-50, -30, 250, 170), fill), canvas)
        assert np.array_equal(_cut(image, (-50, 10, 100, 50), fill), canvas[40:80, :150])
        assert np.array_equal(_cut(image, (10, 20, 60, 90), fill), image[20:90, 10:60])


def test_flipping_twice_restores_boxes_and_mask():
    scene = draw_scene(0, "train", 0, 64)
    transform = Augment("light", 64, GREY)
    width, flipped = 64, None
    for key in range(50):  # find a key that flips
        out = transform(scene, (key,))
        if not np.array_equal(out.mask, scene.mask):
            flipped = out
            break
    back = flipped.boxes.copy()
    back[:, [0, 2]] = width - flipped.boxes[:, [2, 0]]
    np.testing.assert_allclose(back, scene.boxes, atol=1e-3)
    np.testing.assert_array_equal(flipped.mask[:, ::-1], scene.mask)


def test_augmentation_depends_on_its_key_alone():
    scene, one, other = draw_scene(0, "train", 0, 64), Augment("light", 64, GREY), Augment("light", 64, GREY)
    for index in range(5):
        other(scene, (9, index))  # another history
    assert np.array_equal(one(scene, (1, 2)).image, other(scene, (1, 2)).image)
    assert len({one(scene, (1, key)).image.tobytes() for key in range(10)}) > 5


def test_resizing_keeps_ignored_pixels_and_mask_values():
    scene = draw_scene(0, "train", 0, 64)
    mask = scene.mask.copy()
    mask[:5] = IGNORE
    out = Augment("none", 100, GREY)(scene._replace(mask=mask), (0,))
    assert set(np.unique(out.mask)) == set(np.unique(mask))


@pytest.mark.parametrize("preset", PRESETS)
def test_images_without_objects_pass(preset):
    empty = Sample(np.zeros((64, 64, 3), np.uint8), 7, 0, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    augment = Augment(preset, 64, GREY)
    batch = collate("detection", [Item(augment(empty, (key,)), (64, 64), (64, 64)) for key in range(8)])
    assert batch.targets.boxes.shape == (8, 0, 4) and batch.targets.labels.dtype == torch.int64


def test_batches_follow_the_contract():
    loaders = data().train_dataloader()
    cls, det, seg = (next(iter(loaders[name])) for name in ("cls", "det", "seg"))
    for batch in (cls, det, seg):
        assert batch.images.shape == (4, 3, 64, 64) and batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.frames.original_sizes.tolist() == [[64, 64]] * 4
    assert cls.labels.dtype == torch.int64
    boxes, labels, valid = det.targets
    assert boxes.dtype == torch.float32 and labels.dtype == torch.int64 and valid.dtype == torch.bool
    assert boxes.shape == (*valid.shape, 4) and labels.shape == valid.shape and valid.any(0).all()
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[valid][:, 2:] > boxes[valid][:, :2]).all()
    assert not boxes[~valid].any() and not labels[~valid].any()
    assert seg.masks.shape == (4, 64, 64) and seg.masks.dtype == torch.uint8


def test_batches_do_not_depend_on_the_number_of_workers():
    alone = [batch.images for batch in data().train_dataloader()["det"]]
    helped = [batch.images for batch in data(workers=2).train_dataloader()["det"]]
    assert len(alone) == 6 and all(torch.equal(a, b) for a, b in zip(alone, helped))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_gives_every_image_to_exactly_one_process(world):
    seen = [index for rank in range(world) for _, index in ValidationSampler(10, rank=rank, world=world, batch_size=3)]
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_gives_every_process_as_many_images_and_none_twice_in_a_pass(world):
    steps = 10 // (2 * world)
    shares = [list(TrainingSampler(10, steps=steps, batch_size=2, seed=0, rank=r, world=world)) for r in range(world)]
    assert {len(share) for share in shares} == {steps * 2}
    indices = [index for share in shares for _, index in share]
    assert len(set(indices)) == len(indices) == steps * 2 * world


def test_order_of_training_depends_on_seed_and_epoch_alone():
    sampler = TrainingSampler(10, steps=5, batch_size=2, seed=0)
    assert keys(sampler, 1) == keys(TrainingSampler(10, steps=5, batch_size=2, seed=0), 1)
    assert [i for _, i in keys(sampler, 1)] != [i for _, i in keys(sampler, 2)]
    assert keys(sampler, 3)[0][0] == 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 0}, "batch=0"),
        ({"batch_size": 25}, "at most the 24"),
        ({"workers": -1}, "workers=-1"),
    ],
)
def test_impossible_loader_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        data(**change).train_dataloader()


@pytest.mark.parametrize("side, averages", [(120, False), (400, True)])
def test_crops_skip_no_pixel_of_the_picture(side, averages):
    """Stripes one pixel wide: a crop that skipped pixels would see white or black alone."""
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    augment = Augment("imagenet", 64, GREY)
    augment.compose.transforms[0].scale = (1.0, 1.0)
    augment.compose.transforms[0].ratio = (1.0, 1.0)
    image = augment(Sample(stripes, 0, 0, None, None, None), (0,)).image
    assert abs(image.mean() - 127.5) < 3
    assert (image.std() < 30) == averages
