"""`split=test-dev`: COCO's test set, of which its server alone has the annotations."""

import json
import logging

import numpy as np
import pytest
from omegaconf import open_dict
from PIL import Image

import mnv2_tasks
from mnv2_tasks.build import build_sources
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.class_lists import coco_categories
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.export.export import export
from mnv2_tasks.training.train import train

NUMBERS = (1, 16, 57)  # of the pictures that test-dev names
TINY = ["weights=none", "width=0.1", "imgsz=64", "batch=2", "epochs=1", "workers=0", "logger=none"]
TINY += ["trainer.precision=32-true", "tasks.ssdlite.score_threshold=0.0"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path / "cache"))


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)).save(path)


def listed(number):
    return {"id": number, "file_name": f"{number:012}.jpg", "width": 60, "height": 40}


@pytest.fixture
def root(tmp_path):
    """Two annotated splits of one picture each, and a test set of three that lies among others."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": i, "name": name} for i, name in coco_categories().items()]
    for number, split in ((7, "train"), (9, "val")):
        picture(root / f"{split}2017" / f"{number:012}.jpg", number)
        box = {"id": 1, "image_id": number, "category_id": 90, "bbox": [2, 3, 9, 9], "area": 81, "iscrowd": 0}
        content = {"images": [listed(number)], "annotations": [box], "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    for number in (*NUMBERS, 999):
        picture(root / "test2017" / f"{number:012}.jpg", number)
    content = {"info": {}, "images": [listed(number) for number in NUMBERS], "licenses": [], "categories": categories}
    (root / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def run(root, tmp_path):
    train(compose("train", ["task=ssdlite", "data=coco", f"data.root={root}", f"runs={tmp_path / 'runs'}", *TINY]))
    return tmp_path / "runs" / "ssdlite" / "coco-mobilenet_v2-1"


def check_results(folder):
    """One file, in the format of COCO's results: ids of the set's own pictures and categories, xywh pixels."""
    (file,) = [path for path in folder.iterdir() if not path.name.startswith(".")]  # and so no metrics.json
    assert file.name == "detections_test-dev2017_ssdlite-mobilenet_v2_results.json"
    rows = json.loads(file.read_text())
    assert {row["image_id"] for row in rows} == set(NUMBERS)
    assert {row["category_id"] for row in rows} <= set(coco_categories())
    for row in rows:
        assert set(row) == {"image_id", "category_id", "bbox", "score"} and 0 < row["score"] <= 1
        x, y, width, height = row["bbox"]
        assert 0 <= x <= x + width <= 60.001 and 0 <= y <= y + height <= 40.001
    return rows


def test_boxes_of_a_run_are_written_for_the_server_and_nothing_is_scored(run, root, caplog):
    with caplog.at_level(logging.INFO):
        told = evaluate(compose("eval", [f"run={run}", "split=test-dev"]))
    rows = check_results(run / "eval_test_dev")
    assert told == {"boxes": len(rows), "precision": "32-true"}
    (line,) = [line for line in caplog.messages if line.startswith("no scores")]
    assert "COCO's server alone has the annotations of test-dev2017. Zip this file alone and upload it: " in line
    model = mnv2_tasks.load(run)
    for number in NUMBERS:  # as prediction finds them
        found = model(root / "test2017" / f"{number:012}.jpg", min_score=0)
        ours = [row for row in rows if row["image_id"] == number]
        np.testing.assert_allclose([row["score"] for row in ours], found.scores, atol=1e-5)
        corners = [[x, y, x + width, y + height] for x, y, width, height in (row["bbox"] for row in ours)]
        np.testing.assert_allclose(corners, found.boxes, atol=1e-2)
        names = list(coco_categories().values())
        assert [coco_categories()[row["category_id"]] for row in ours] == [names[label] for label in found.labels]


@pytest.mark.slow
def test_an_exported_file_writes_the_same_boxes(run, root, tmp_path):
    export(compose("export", [f"weights={run}", "format=torch", f"out={tmp_path / 'model.pt2'}"]))
    own = ["task=ssdlite", "data=coco", f"data.root={root}", "split=test-dev", "workers=0", "batch=2"]
    tables = []
    for name, weights in (("run", run / "weights.safetensors"), ("exported", tmp_path / "model.pt2")):
        evaluate(compose("eval", [*own, f"weights={weights}", f"out={tmp_path / name}", "trust=true"]))
        tables.append(check_results(tmp_path / name))
    ours, theirs = tables
    assert [row["image_id"] for row in ours] == [row["image_id"] for row in theirs]
    np.testing.assert_allclose([row["score"] for row in ours], [row["score"] for row in theirs], atol=1e-5)


def prepared(root, split, task="ssdlite"):
    config = compose("eval", [f"task={task}", "data=coco", f"data.root={root}", f"data.val={split}"])
    (source,) = build_sources(config).values()
    source.prepare(("val",))
    return source


def test_pictures_are_those_that_the_file_names(root):
    source = prepared(root, "test-dev")
    assert source.length("val") == 3 and source.sample("val", 0, 2).image_id == 57
    assert "COCO 2017, 80 classes, test-dev validates, 3 images (without annotations)" in source.describe()


@pytest.mark.parametrize("split", ["test_dev", "testdev", "test"])
def test_another_word_for_it_is_answered_with_the_right_one(root, split):
    with pytest.raises(
        ConfigError, match=rf"split={split}: there is no annotations/.*mean .*test-dev.*train, val, test-"
    ):
        prepared(root, split)


def test_a_missing_picture_is_named_with_the_remedy(root):
    (root / "test2017" / "000000000016.jpg").unlink()
    with pytest.raises(DataError, match=r"(?s)1 of its 3 pictures are not in .*: 000000000016.jpg.*test2017.zip"):
        prepared(root, "test-dev")


@pytest.mark.parametrize("gone", ["annotations/image_info_test-dev2017.json", "test2017"])
def test_a_missing_file_or_folder_is_named_with_what_to_unpack(root, gone):
    (root / gone).rename(root / "elsewhere")
    with pytest.raises(ConfigError, match=rf"(?s){gone} does not exist.*image_info_test2017.zip.*test2017.zip"):
        prepared(root, "test-dev")


def test_no_training_is_scored_on_it(root):
    config = compose("train", ["task=ssdlite", "data=coco", f"data.root={root}", "data.val=test-dev", *TINY])
    with pytest.raises(
        ConfigError, match=r"data.val=test-dev: has no annotations to score a training with.*eval.py run="
    ):
        train(config)


def test_it_is_for_boxes_of_one_task_alone(root):
    with pytest.raises(ConfigError, match="split=test-dev: has no annotations, and COCO's server takes boxes"):
        prepared(root, "test-dev", "mobile_deeplabv3")
    config = compose("eval", ["task=multitask", "weights=multitask_shapes", "data.ssdlite=coco"])
    with open_dict(config):
        config.data.ssdlite.root = config.data.ssdlite.source.root = str(root)
        config.data.ssdlite.val = config.data.ssdlite.source.val = "test-dev"
    with pytest.raises(ConfigError, match="data.ssdlite: test-dev2017 has no annotations, so it is for one task alone"):
        evaluate(config)
