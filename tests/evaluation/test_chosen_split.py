"""`split=test`: another split than the one that validates, of any data in files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.build import build_sources
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.class_lists import coco_categories
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.chosen_split import evaluate_on
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.training.train import train

SPLITS = ("train", "val", "test")


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(path)


def folder(root):
    for seed, split in enumerate(SPLITS):
        for name in ("cat", "dog"):
            for i in range(seed + 2):
                picture(root / split / name / f"{split}{i}.png", seed * 100 + i + 10 * (name == "dog"))


def imagenet(root):
    for seed, split in enumerate(SPLITS):
        picture(root / split / "n01440764" / f"{split}.JPEG", seed)


def coco(root):
    (root / "annotations").mkdir()
    categories = [{"id": i, "name": name} for i, name in coco_categories().items()]
    for seed, split in enumerate(SPLITS):
        picture(root / f"{split}2017" / f"{split}.jpg", seed)
        rows = {
            "images": [{"id": 1, "file_name": f"{split}.jpg", "width": 40, "height": 40}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 9, 9], "area": 81, "iscrowd": 0}],
            "categories": categories,
        }
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(rows))


def voc(root):
    year = root / "VOCdevkit" / "VOC2012"
    (year / "SegmentationClass").mkdir(parents=True)
    (year / "ImageSets" / "Segmentation").mkdir(parents=True)
    for seed, split in enumerate(SPLITS):
        picture(year / "JPEGImages" / f"{split}.jpg", seed)
        Image.fromarray(np.ones((40, 40), np.uint8)).save(year / "SegmentationClass" / f"{split}.png")
        (year / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{split}\n")


@pytest.mark.parametrize(
    "make, task", [(folder, "classification"), (imagenet, "classification"), (coco, "ssdlite"), (voc, "deeplabv3")]
)
@pytest.mark.parametrize("said", ["split=test", "data.val=test"])
def test_split_of_any_data_is_evaluated_on(tmp_path, make, task, said):
    make(tmp_path)
    config = compose("eval", [f"task={task}", f"data={make.__name__}", f"data.root={tmp_path}", said])
    if config.split:
        evaluate_on(config, config.split)
    (source,) = build_sources(config).values()
    source.prepare(("val",))
    assert {Path(file).stem[:4] for file in source.problems("val")[0].files} == {"test"}
    assert "test" in source.describe()


def test_scores_of_another_split_lie_beside_those_of_val(tmp_path):
    folder(tmp_path / "data")
    own = ["weights=none", "width=0.1", "imgsz=32", "batch=2", "epochs=1", "workers=0", "logger=none"]
    own += ["trainer.precision=32-true", f"data.root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}"]
    train(compose("train", ["task=classification", "data=folder", *own]))
    (run,) = (tmp_path / "runs" / "classification").iterdir()
    for said, place, images in (([], "eval", 6), (["split=test"], "eval_test", 8), (["data.val=train"], "eval", 4)):
        metrics = evaluate(compose("eval", [f"run={run}", *said]))
        assert metrics["images"] == images
        assert json.loads((run / place / "metrics.json").read_text())["images"] == images
    with pytest.raises(ConfigError, match=r"data.val=tset: there is no such split. Did you mean test\?"):
        evaluate(compose("eval", [f"run={run}", "split=tset"]))


def test_drawn_data_have_no_other_split():
    config = compose("eval", ["task=classification", "split=test"])
    with pytest.raises(ConfigError, match="split=test: data=shapes has but one split to evaluate on"):
        evaluate_on(config, "test")
