"""File names that are no UTF-8: `caf\\xe9.jpg`, as an old disk or archive holds it."""

import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.shards import shards
from mnv2_tasks.data_tool.examine import examine
from mnv2_tasks.data_tool.repaired_copy import write_repaired
from mnv2_tasks.data_tool.tables import write_bad_files
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.predict import predict
from mnv2_tasks.training.train import train

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
LATIN = os.fsdecode(b"caf\xe9")


def yolo(root):
    for number, split in enumerate(("train", "val")):
        for i in range(4):
            for kind in ("images", "labels"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            pixels = np.full((40, 50, 3), 40 * number + 9 * i, np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{LATIN}{i}.jpg")
            (root / "labels" / split / f"{LATIN}{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (root / "classes.txt").write_text("cup\n")


def test_data_with_such_names_are_checked_trained_on_and_predicted(tmp_path, tiny):
    root = tmp_path / "data"
    yolo(root)
    plain = [override for override in tiny if not override.startswith(("data.source", "runs="))]
    run = train(compose("train", ["task=ssdlite", "data=folder", f"data.root={root}", f"runs={tmp_path}", *plain]))
    assert (run / "metrics.json").is_file() and (run / "config.yaml").is_file()

    out = tmp_path / "out"
    picture = root / "images" / "val" / f"{LATIN}0.jpg"
    weights = run / "weights.safetensors"
    predict(compose("predict", [f"weights={weights}", f"source={picture}", f"out={out}", "device=cpu"]))
    (entry,) = json.loads((out / "results.json").read_text())
    assert entry["file"] == str(picture) and (out / entry["picture"]).is_file()


def test_a_run_is_not_made_of_places_that_it_cannot_record(tmp_path):
    yolo(tmp_path / LATIN)
    with pytest.raises(ConfigError, match="data.root=.*this name is no UTF-8.*ln -s"):
        compose("train", ["task=ssdlite", "data=folder", f"data.root={tmp_path / LATIN}"])
    (tmp_path / "link").symlink_to(tmp_path / LATIN)
    assert compose("train", ["task=ssdlite", "data=folder", f"data.root={tmp_path / 'link'}"]).data.root
    source = folder(root=str(tmp_path / LATIN), kind="detection", on_bad="refuse", train=None, val=None)
    source.prepare(("train", "val"))


def test_what_is_bad_in_such_a_file_is_reported_and_the_rest_is_packed_and_repaired(tmp_path):
    yolo(tmp_path / "data")
    source = folder(root=str(tmp_path / "data"), kind="detection", on_bad="refuse", train=None, val=None)
    pack(source, ("train", "val"), tmp_path / "packed")
    assert shards(root=str(tmp_path / "packed"), kind="detection").sample("val", 0, 3).image.shape == (40, 50, 3)
    (tmp_path / "data" / "images" / "train" / f"{LATIN}0.jpg").write_bytes(b"x")
    found = examine(source, ["train", "val"], 320)
    write_bad_files(found, tmp_path / "bad_files.txt")
    assert r"caf\udce90.jpg" in (tmp_path / "bad_files.txt").read_text()
    write_repaired(found, tmp_path / "repaired")
    copy = folder(root=str(tmp_path / "repaired"), kind="detection", on_bad="refuse", train=None, val=None)
    copy.prepare(("train", "val"))
    assert copy.length("train") == 3
