"""Figure 8: the same weights at two output strides, in one view and in several."""

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from mnv2_tasks.build import build_fit
from mnv2_tasks.contracts import Frames
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.paper.figure_8 import WAYS, _network_at, check_figure_8, draw_figure_8
from mnv2_tasks.paper.material import read_material
from mnv2_tasks.prediction.predictor import load_model, predict_images


def material(**changes):
    asked = {"weights": "multitask_shapes", "images": "shapes", "masks": None, "count": 1, "device": "cpu"}
    return read_material(OmegaConf.create({**asked, "trust": False, **changes}))


def test_at_the_stride_of_training_the_segmenter_finds_what_predict_finds():
    given = material()
    config = OmegaConf.create(given.weights.passport["config"])
    assert config.output_stride == 8
    fine, coarse = (_network_at(stride, "mobile_deeplabv3", given) for stride in (8, 16))
    image = cv2.resize(given.pictures[0].image, (97, 97))
    frames = Frames((97, 97), *(torch.tensor([size]) for size in ((97, 97), (97, 97), (0, 0))))
    with torch.inference_mode():
        batch = torch.from_numpy(image).permute(2, 0, 1)[None]
        found, other = (net.predict_task("mobile_deeplabv3", batch, frames)[0] for net in (fine, coarse))
    model, _ = load_model("multitask_shapes", "cpu")
    (expected,) = predict_images(model, [image], build_fit(config))
    assert (found.numpy() == expected["mobile_deeplabv3"]).mean() > 0.999
    assert (found != other).any() and list(fine.state_dict()) == list(coarse.state_dict())


def test_four_ways_stand_beside_picture_and_truth_with_scores_and_costs(tmp_path):
    figure = draw_figure_8(material())
    figure.write(tmp_path / "figure_8.png")
    page = cv2.imread(str(tmp_path / "figure_8.png"))
    assert page.shape[1] > 6 * 320
    ours = figure.claims[0].ours
    assert all(f"{name}: mIoU 0." in ours for name in WAYS) and "(1 picture, 97 px, weights=multitask_shapes, " in ours
    costs = [float(part.rpartition(", ")[2].split(" B")[0]) for part in ours.partition(" (")[0].split("; ")]
    assert costs[0] < costs[2] < costs[1] < costs[3]  # strides cost three times, views a dozen times


def test_pictures_without_a_truth_have_five_panels(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((40, 60, 3), 99, np.uint8))
    figure = draw_figure_8(material(images=str(tmp_path)))
    figure.write(tmp_path / "figure_8.png")
    assert 5 * 320 < cv2.imread(str(tmp_path / "figure_8.png")).shape[1] < 6 * 320
    assert "mIoU" not in figure.claims[0].ours


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((40, 60, 3), 99, np.uint8))
    return {"images": str(tmp_path / "photo.jpg"), "masks": str(tmp_path / "masks")}


@pytest.mark.parametrize(
    "mask, error, message",
    [
        (None, ConfigError, "masks=.*has no photo.png, the truth of .*photo.jpg"),
        (np.zeros((30, 60)), DataError, "photo.png: is of another size than its picture, 60 x 30 and 60 x 40 pixels"),
        (np.full((40, 60), 9), DataError, "photo.jpg: its mask has class 9, and weights=multitask_shapes know 0 to 8"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(photo, mask, error, message):
    if mask is not None:
        cv2.imwrite(f"{photo['masks']}/photo.png", mask.astype(np.uint8))
    with pytest.raises(error, match=message):
        check_figure_8(material(**photo))


def test_weights_without_a_segmenter_are_refused_by_name():
    given = material(weights="shapes_backbone")
    with pytest.raises(ConfigError, match=r"weights=shapes_backbone: figure 8 is of a segmenter.* for classification"):
        check_figure_8(given)
