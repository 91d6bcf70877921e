"""What a program gets: `Result`, and the tasks in it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mnv2_tasks.contracts import Detections
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.least_scores import least_scores
from mnv2_tasks.prediction.results import Result

IMAGE = np.full((30, 40, 3), 128, np.uint8)
NAMES = ["cat", "dog", "hen"]
KIND = {"ssdlite": "detection", "deeplabv3": "segmentation", "classification": "classification", "ssd": "detection"}
BOXES = Detections(
    torch.tensor([[1.25, 2, 30, 20], [0, 0, 5, 5], [3, 3, 4, 4]]),
    torch.tensor([0.9, 0.5, 0.3]),
    torch.tensor([1, 0, 1]),
)
FOUND = {
    "ssdlite": BOXES,
    "ssd": BOXES,
    "deeplabv3": np.repeat(np.array([[0], [1]], np.uint8), 15, axis=0).repeat(40, axis=1),
    "classification": torch.tensor([0.2, 0.7, 0.1]),
}


def result(*tasks, min_score=0.4, **settings):
    about = {task: SimpleNamespace(kind=KIND[task], class_names=NAMES) for task in tasks}
    least = least_scores(about, min_score=min_score, **settings)
    return Result("photos/bus.jpg", IMAGE, about, {task: FOUND[task] for task in tasks}, least)


def test_boxes_scores_and_labels_are_numpy_from_the_least_score_on():
    found = result("ssdlite")
    assert found.boxes.dtype == np.float32 and found.boxes.tolist() == [[1.25, 2, 30, 20], [0, 0, 5, 5]]
    assert found.scores.tolist() == [np.float32(0.9), 0.5] and found.labels.dtype == np.int64
    assert [found.names[label] for label in found.labels] == ["dog", "cat"]
    nothing = result("ssdlite", min_score=0.95)
    assert nothing.boxes.shape == (0, 4) and nothing.scores.shape == nothing.labels.shape == (0,)


def test_mask_and_probabilities_are_numpy():
    assert result("deeplabv3").mask.shape == (30, 40) and result("deeplabv3").mask.dtype == np.uint8
    found = result("classification")
    assert found.probabilities.tolist() == pytest.approx([0.2, 0.7, 0.1])
    assert found.top(2) == [("dog", pytest.approx(0.7)), ("cat", pytest.approx(0.2))]
    assert len(found.top()) == 3 and found.top(0) == []


def test_several_tasks_are_asked_by_name_and_attributes_only_where_one_has_them():
    found = result("ssdlite", "deeplabv3")
    assert (found.boxes == found["ssdlite"].boxes).all() and (found.mask == found["deeplabv3"].mask).all()
    with pytest.raises(AttributeError, match=r"names: each task has its own; say result\['ssdlite'\]\.names"):
        found.names  # noqa: B018
    with pytest.raises(AttributeError, match="ssdlite, ssd have them; say result"):
        result("ssdlite", "ssd").boxes  # noqa: B018
    with pytest.raises(KeyError, match="no such task; there are ssdlite, deeplabv3"):
        found["ssd"]


def test_what_no_task_finds_is_an_attribute_error_that_names_what_there_is():
    with pytest.raises(AttributeError, match="mask: no task of this network finds them; ssdlite has boxes, scores"):
        result("ssdlite").mask  # noqa: B018
    with pytest.raises(AttributeError, match="mask: ssdlite is a detection, which has boxes, scores, labels"):
        result("ssdlite")["ssdlite"].mask  # noqa: B018
    assert not hasattr(result("ssdlite"), "probabilities")


def test_repr_says_what_was_found():
    assert repr(result("ssdlite")) == "Result(bus.jpg 40x30: 1 dog, 1 cat)"
    assert repr(result("classification", "ssdlite")) == (
        "Result(bus.jpg 40x30: classification dog 70%; ssdlite 1 dog, 1 cat)"
    )
    assert repr(result("deeplabv3")["deeplabv3"]) == "TaskResult(deeplabv3: 50% dog, 50% cat; it has mask)"


def test_dict_and_json_are_the_entry_of_results_json():
    found = result("ssdlite", "classification")
    assert found.to_dict() == {
        "file": "photos/bus.jpg",
        "width": 40,
        "height": 30,
        "ssdlite": [
            {"class": "dog", "score": 0.9, "box": [1.25, 2, 30, 20]},
            {"class": "cat", "score": 0.5, "box": [0, 0, 5, 5]},
        ],
        "classification": [
            {"class": "dog", "score": 0.7},
            {"class": "cat", "score": 0.2},
            {"class": "hen", "score": 0.1},
        ],
    }
    assert json.loads(found.to_json()) == found.to_dict()


def test_plot_is_a_picture_and_save_writes_it_by_the_suffix(tmp_path):
    found = result(*KIND)
    picture = found.plot()
    assert isinstance(picture, Image.Image) and picture.width > 4 * 480
    assert found.save(tmp_path / "a.png") == tmp_path / "a.png"
    with Image.open(tmp_path / "a.png") as image:
        assert (np.array(image) == np.array(picture)).all()
    with Image.open(found.save(str(tmp_path / "b.JPG"))) as image:
        assert image.format == "JPEG"
    with pytest.raises(ConfigError, match=r"c\.txt: expected a name that ends in \.jpg"):
        found.save(tmp_path / "c.txt")
    with pytest.raises(ConfigError, match=r"none/d\.jpg: cannot be written"):
        found.save(tmp_path / "none" / "d.jpg")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.JPG"]
