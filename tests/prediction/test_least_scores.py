"""Which boxes are kept: by the least score of all, by class, and by thresholds of a file or a mapping."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from test_results import result

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.least_scores import least_scores

TASKS = {
    "ssdlite": SimpleNamespace(kind="detection", class_names=["cat", "dog", "hen"]),
    "ssd": SimpleNamespace(kind="detection", class_names=["dog", "traffic light", "cat"]),
    "deeplabv3": SimpleNamespace(kind="segmentation", class_names=["background", "cat"]),
}
MASKS = {"deeplabv3": TASKS["deeplabv3"]}


def least(**settings):
    return {task: scores.tolist() for task, scores in least_scores(TASKS, **{"min_score": 0.5} | settings).items()}


def test_all_classes_need_the_same_score_unless_something_else_is_said():
    assert least() == {"ssdlite": [0.5] * 3, "ssd": [0.5] * 3, "deeplabv3": [0.5] * 2}


def test_boxes_of_other_classes_need_more_than_any_score():
    assert least(classes=["cat"])["ssd"] == [np.inf, np.inf, 0.5]
    assert least(classes="cat") == least(classes=("cat",)) == least(classes=iter(["cat"]))
    assert least(classes=["hen"])["ssd"] == [np.inf] * 3 and least(classes=["hen"])["deeplabv3"] == [0.5, 0.5]


def test_thresholds_take_the_place_of_min_score_in_their_task_alone(tmp_path):
    thresholds = {"ssd": {"traffic light": 0.25, "dog": 1}}
    assert (
        least(thresholds=thresholds)["ssd"] == [1, 0.25, 0.5] and least(thresholds=thresholds)["ssdlite"] == [0.5] * 3
    )
    assert least(thresholds=thresholds, classes=["dog", "cat"])["ssd"] == [1, np.inf, 0.5]
    (tmp_path / "a b.json").write_text(json.dumps(thresholds))
    (tmp_path / "a.yaml").write_text("ssd:\n  traffic light: 0.25\n  dog: 1\n")
    for file in ("a b.json", "a.yaml"):
        assert least(thresholds=tmp_path / file) == least(thresholds=thresholds)
    assert least(thresholds={"ssd": {"dog": np.float32(0.25)}})["ssd"] == [0.25, 0.5, 0.5]


def test_command_line_gives_a_list_a_word_and_a_path_with_spaces(tmp_path):
    config = compose("predict", ["classes=[cat,traffic light]", f"thresholds={tmp_path}/a b=1.json"])
    assert config.thresholds == f"{tmp_path}/a b=1.json"
    assert least(classes=config.classes)["ssd"] == [np.inf, 0.5, 0.5]
    assert least(classes=compose("predict", ["classes=cat"]).classes) == least(classes=["cat"])


def test_kept_boxes_are_those_that_are_told_and_drawn():
    thresholds = {"ssdlite": {"dog": 0.2, "cat": 0.6}}
    found = result("ssdlite", "ssd", thresholds=thresholds)
    boxes = found["ssdlite"]
    assert boxes.scores.tolist() == pytest.approx([0.9, 0.3]) and boxes.labels.tolist() == [1, 1]
    assert [entry["score"] for entry in found.to_dict()["ssdlite"]] == [0.9, 0.3]
    assert len(found["ssd"].boxes) == 2  # min_score is 0.4
    assert (boxes.drawn_on(found.image) != found.image[0, 0]).any()
    only = result("ssdlite", "classification", classes=["cat"], min_score=0.2)
    assert only.labels.tolist() == [0] and only.probabilities.shape == (3,)
    assert result("ssdlite", classes=["hen"])["ssdlite"].in_words() == "no object"
    result("ssdlite", classes=["hen"]).plot()


def test_a_score_that_equals_the_threshold_is_kept():
    for score in (0.1, 0.3, 0.7, 0.9):  # which float32 rounds up or down
        (threshold,) = least_scores({"ssd": TASKS["ssd"]}, min_score=score).values()
        assert np.float32(score) >= threshold[0] and np.float32(score) >= min(1.0, float(threshold.min()))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"min_score": 1.5}, r"min_score=1\.5: expected a number in \[0, 1\]"),
        ({"min_score": float("nan")}, "min_score=nan: expected"),
        ({"classes": ["cta"]}, "classes=cta: no class that these weights find. Did you mean cat.*There are: cat, dog"),
        ({"classes": [0]}, "classes=0: no class that these weights find"),
        ({"classes": 3.5}, "classes=3.5: no class"),
        ({"classes": []}, r"classes=\[\]: names none; say classes=\[cat\]"),
        ({"thresholds": {"sdd": {}}}, "thresholds: sdd: no task of these weights that finds boxes. Did you mean ssd"),
        ({"thresholds": {"deeplabv3": {"cat": 0.5}}}, "deeplabv3: no task of these weights that finds boxes"),
        ({"thresholds": {"ssd": {"dgo": 0.5}}}, "ssd: dgo: no class that these weights find. Did you mean dog"),
        ({"thresholds": {"ssd": {"dog": 1.2}}}, r"ssd: dog: 1\.2, expected a number in \[0, 1\]"),
        ({"thresholds": {"ssd": {"dog": float("nan")}}}, "ssd: dog: nan, expected"),
        ({"thresholds": {"ssd": {"dog": True}}}, "ssd: dog: True, expected"),
        ({"thresholds": {"ssd": {"dog": "0.5"}}}, "ssd: dog: 0.5, expected a number"),
        ({"thresholds": {"ssd": {"dog": None}}}, "ssd: dog: None, expected"),
        ({"thresholds": {"dog": 0.5}}, "dog: no task of these weights"),
        ({"thresholds": {"ssd": 0.5}}, r"ssd: expected \{class: score\}, not 0\.5"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(settings, said):
    with pytest.raises(ConfigError, match=said) as raised:
        least(**settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.json", '{"ssd": {"dog": NaN}}', "a.json: ssd.dog is no finite number"),
        ("a.json", '{"ssd": {"dog": 0.5', r"a.json, line 1, column \d+: is not valid JSON"),
        ("a.json", "[0.5]", r"a.json: expected \{task: \{class: score\}\}, not \[0\.5\]"),
        ("a.yaml", "ssd: {dog: !!python/name:os.system x}", "asks for a type"),
        ("a.yaml", "ssd: {dog: .inf}", "ssd.dog is no finite number"),
        ("a.json", '{"ssd": {"cow": 0.5}}', "a.json: ssd: cow: no class that these weights find. There are: dog"),
        ("a.json", '{"ssd": {"\\u001b[2J": 0.5}}', r"ssd: \\x1b\[2J: no class"),
    ],
)
def test_files_hold_data_alone_and_a_fault_names_the_file(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=said) as raised:
        least(thresholds=tmp_path / name)
    assert str(tmp_path / name) in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="none.json: cannot be opened"):
        least(thresholds=tmp_path / "none.json")


def test_each_fault_has_a_line_and_many_are_counted():
    with pytest.raises(ConfigError) as raised:
        least(thresholds={"ssd": {"dog": 2, "cow": 0.5}, "yolo": {}})
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == ["ssd", "ssd", "yolo"]
    with pytest.raises(ConfigError, match=r"\n\.\.\. 90 more$"):
        least(thresholds={"ssd": {str(number): 0.5 for number in range(100)}})


def test_weights_that_find_no_boxes_refuse_what_chooses_among_boxes():
    assert least_scores(MASKS, min_score=0.5)["deeplabv3"].tolist() == [0.5, 0.5]
    for settings, said in (
        ({"classes": ["cat"]}, "classes=: chooses among boxes"),
        ({"thresholds": {}}, "thresholds: has"),
    ):
        with pytest.raises(ConfigError, match=f"{said}.*no task of these weights finds boxes"):
            least_scores(MASKS, min_score=0.5, **settings)
