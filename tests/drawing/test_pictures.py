from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mnv2_tasks.contracts import IGNORE, Detections
from mnv2_tasks.drawing import predictions as pictures
from mnv2_tasks.drawing.canvas import MAX_SIDE, MIN_SIDE, Canvas, class_colours
from mnv2_tasks.drawing.predictions import draw_detections, draw_mask, draw_scores, sheet
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.prediction.results import side_by_side

NAMES = ["person", "a class with a name so long that nobody would ever type it twice", "Blutkörperchen", "x"]
SIZES = [(1, 1), (9, 700), (700, 9), (96, 96), (320, 200), (720, 1280), (2500, 4000)]


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def detections(boxes, scores, labels):
    return Detections(torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(scores), torch.tensor(labels))


def crowd(height, width, seed, count=40):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4) * [width, height, width, height]
    return detections(corners, np.linspace(1, 0.5, count), rng.integers(len(NAMES), size=count))


def test_the_colour_of_a_class_depends_on_its_index_alone():
    assert class_colours(3) == class_colours(80)[:3]


def test_the_first_twenty_colours_can_be_told_apart():
    lab = cv2.cvtColor(np.array([class_colours(20)], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 999 * np.eye(20)
    assert distances.min() > 15  # 2 is the least that an eye can see


@pytest.mark.parametrize("height, width", SIZES)
def test_labels_lie_inside_the_picture_and_never_overlap(height, width, monkeypatch):
    tabs, texts = [], []
    monkeypatch.setattr(pictures, "write_tab", lambda canvas, tab, text, colour: (tabs.append(tab), texts.append(text)))
    picture = draw_detections(grey(height, width), crowd(height, width, seed=0), NAMES, min_score=0.5)

    assert "1.00" in texts[0]  # the best detection comes first, and has its label
    for x0, y0, x1, y1 in tabs:
        assert 0 <= x0 < x1 <= picture.shape[1]
        assert 0 <= y0 < y1 <= picture.shape[0]
    for i, a in enumerate(tabs):
        for b in tabs[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("height, width", SIZES)
def test_a_label_is_as_wide_as_its_text(height, width):
    canvas = Canvas(grey(max(height, 20), max(width, 20)))
    for room in (5, 60, 200):
        assert canvas.text_width(canvas.elide(NAMES[1], room)) <= room


@pytest.mark.parametrize("height, width", SIZES)
def test_pictures_of_any_image_have_a_size_for_reading(height, width):
    image = grey(height, width)
    for picture in (
        draw_detections(image, crowd(height, width, seed=1), NAMES, min_score=0.5),
        draw_scores(image, torch.tensor([0.4, 0.3, 0.2, 0.1]), NAMES),
        draw_mask(image, np.ones((height, width), np.int64), ["background", *NAMES]),
    ):
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        assert picture.shape[1] >= MIN_SIDE * 2 // 3
        assert picture.shape[0] >= MIN_SIDE // 4
        assert max(picture.shape) <= MAX_SIDE + 400  # the strip below comes on top


def test_small_images_are_enlarged_by_a_whole_number():
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    assert draw_mask(image, np.zeros((96, 96), int), ["background"]).shape[1] == 384


def test_a_box_is_drawn_around_its_pixels():
    picture = draw_detections(grey(600, 600), detections([[200, 300, 400, 500]], [0.9], [0]), NAMES, min_score=0.5)
    colour = class_colours(1)[0]
    assert tuple(picture[400, 200]) == tuple(picture[499, 300]) == colour
    assert tuple(picture[400, 300]) == (128, 128, 128)


def test_boxes_that_score_less_are_left_out():
    found = detections([[20, 20, 90, 90], [100, 100, 300, 300]], [0.9, 0.49], [0, 3])
    alone = detections([[20, 20, 90, 90]], [0.9], [0])
    image = grey(500, 500)
    both = draw_detections(image, found, NAMES, min_score=0.5)
    assert (both == draw_detections(image, alone, NAMES, min_score=0.5)).all()


def test_a_picture_without_objects_says_so():
    picture = draw_detections(grey(500, 500), detections([], [], []), ["only"], min_score=0.5)
    assert (picture[:500] == 128).all()
    assert picture[500:].max() > 100  # grey letters on the dark strip


def test_the_image_itself_is_left_alone():
    image = grey(500, 500)
    draw_detections(image, crowd(500, 500, seed=2), NAMES, min_score=0)
    draw_mask(image, np.ones((500, 500), int), ["background", "only"])
    draw_scores(image, torch.ones(1), ["only"])
    assert (image == 128).all()


@pytest.mark.parametrize("names", [["sky", "road"], ["road", "background"]])
def test_class_0_of_a_mask_is_painted_unless_it_is_called_background(names):
    class_map = np.zeros((500, 500), np.int64)
    class_map[:100], class_map[400:] = 1, IGNORE
    picture = draw_mask(grey(500, 500), class_map, names)
    colours = class_colours(2)
    assert np.abs(picture[250, 250].astype(int) - (128 + np.array(colours[0])) // 2).max() <= 1
    other = (128 + np.array(colours[1])) // 2 if "background" not in names else np.full(3, 128)
    assert np.abs(picture[50, 250].astype(int) - other).max() <= 1
    assert (picture[410:500] == 128).all()


def test_a_mask_paints_its_classes_and_nothing_else():
    class_map = np.zeros((500, 500), np.int64)
    class_map[:100], class_map[400:] = 1, IGNORE
    picture = draw_mask(grey(500, 500), class_map, ["background", "only"])
    assert np.abs(picture[50, 250].astype(int) - (128 + np.array(class_colours(1)[0])) // 2).max() <= 1
    assert (picture[150:500] == 128).all()


def test_detector_and_mask_give_a_class_the_same_colour():
    boxes = draw_detections(grey(500, 500), detections([[99, 99, 300, 300]], [0.9], [2]), NAMES, min_score=0.5)
    class_map = torch.zeros(500, 500, dtype=torch.int64)
    class_map[200:300, 200:300] = 3
    mask = draw_mask(grey(500, 500), class_map, ["background", *NAMES])
    assert tuple(boxes[200, 100]) == tuple(mask[200, 250]) == class_colours(3)[2]


def test_bars_are_as_long_as_their_scores():
    picture = draw_scores(grey(500, 500), torch.tensor([0.25, 0.75]), ["a", "b"])
    lengths = [int((picture[500:] == colour).all(2).sum(1).max()) for colour in class_colours(2)]
    assert lengths[1] == pytest.approx(3 * lengths[0], abs=3)


@pytest.mark.parametrize("height, width", [(1, 1), (700, 9), (720, 1280)])
def test_every_task_has_its_panel(height, width):
    names = NAMES * 3
    tasks = {
        "classification": SimpleNamespace(kind="classification", class_names=names),
        "ssdlite": SimpleNamespace(kind="detection", class_names=names),
        "mobile_deeplabv3": SimpleNamespace(kind="segmentation", class_names=["background", *names]),
    }
    results = {
        "classification": torch.full((12,), 1 / 12),
        "ssdlite": crowd(height, width, seed=3),
        "mobile_deeplabv3": torch.randint(0, 13, (height, width)),
    }
    image = grey(height, width)
    panels = {name: KINDS[task.kind].draw(image, results[name], task.class_names, 0.5) for name, task in tasks.items()}
    together, alone = side_by_side(panels), side_by_side({"ssdlite": panels["ssdlite"]})
    assert together.shape[1] == 3 * alone.shape[1] + 2 * 8
    assert together.shape[0] >= alone.shape[0]


def test_a_sheet_shows_pictures_of_different_sizes():
    pages = sheet([grey(10, 20), grey(30, 5), grey(7, 7)], columns=2)
    assert (pages == 128).all(2).sum() == 200 + 150 + 49
    assert sheet([grey(10, 20)], columns=4).shape[1] < 40
