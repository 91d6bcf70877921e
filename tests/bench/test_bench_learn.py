"""tools/bench.py what=learn: torchvision's training of our network, beside ours."""

import json

import cv2
import numpy as np
import pytest
import torch

from mnv2_tasks.bench.bench import bench
from mnv2_tasks.bench.contestants import noise, our_batch, our_config, our_network
from mnv2_tasks.bench.learn_reference import reference_of
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.scenes import CLASS_NAMES, draw_scene
from mnv2_tasks.errors import ConfigError

SIDE, CLASSES = 96, 3


@pytest.fixture
def classes(tmp_path):
    """Pictures in a folder for each class, as the bench looks for them."""
    root = tmp_path / "tiny_imagenet_20"
    for split, count in (("train", 12), ("val", 6)):
        for index in range(count):
            sample = draw_scene(0, split, index, SIDE)
            file = root / split / CLASS_NAMES[index % 2] / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(file), np.ascontiguousarray(sample.image[..., ::-1]))
    return root


def boxes_folder(root):
    samples = noise(4, SIDE, CLASSES)
    for name in ("images/train", "labels/train", "images/val", "labels/val"):
        (root / name).mkdir(parents=True)
    for split in ("train", "val"):
        for sample in samples:
            cv2.imwrite(str(root / "images" / split / f"{sample.image_id}.png"), sample.image[..., ::-1])
            corners = sample.boxes / SIDE
            rows = np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
            lines = [f"{label} {' '.join(map(str, row))}" for label, row in zip(sample.box_labels, rows)]
            (root / "labels" / split / f"{sample.image_id}.txt").write_text("\n".join(lines))
    (root / "classes.txt").write_text("a\nb\nc\n")
    return folder(kind="detection", root=str(root), on_bad="refuse", train=None, val=None)


def test_torchvisions_detector_has_our_loss_and_finds_our_boxes_where_they_see_the_same(tmp_path):
    # one object an image: where two want the same anchor, each keeps one of ours, and the last has theirs
    source, samples = boxes_folder(tmp_path), noise(4, SIDE, CLASSES, objects=1)
    network = our_network(our_config("ssdlite", SIDE, width=0.35), {"ssdlite": CLASSES}).train()
    theirs = reference_of(network, "ssdlite", source, SIDE)
    batch = our_batch("ssdlite", samples)
    pictures = [torch.from_numpy(sample.image).permute(2, 0, 1) / 255 for sample in samples]
    targets = [{"boxes": torch.tensor(s.boxes), "labels": torch.tensor(s.box_labels)} for s in samples]
    ours = network.loss(network.outputs({"ssdlite": batch}), {"ssdlite": batch})["ssdlite"]
    torch.testing.assert_close(theirs.loss((pictures, targets)), sum(ours.values()), rtol=1e-4, atol=1e-4)

    network.eval()
    with torch.inference_mode():
        found = theirs.predict("ssdlite", batch.images, batch.frames)
        kept = network.predict_task("ssdlite", batch.images, batch.frames)
    for theirs_of_image, ours_of_image in zip(found, kept):
        best = torch.argmax(theirs_of_image.scores)
        torch.testing.assert_close(theirs_of_image.boxes[best], ours_of_image.boxes[0], rtol=1e-3, atol=0.05)
        assert theirs_of_image.labels[best] == ours_of_image.labels[0]


@pytest.mark.slow
def test_a_quick_run_trains_both_and_keeps_what_is_finished(tmp_path, classes):
    words = ["what=learn", "quick=true", "only=classification", f"root={tmp_path}", f"runs={tmp_path / 'runs'}"]
    (table,) = bench(compose("bench", [*words, f"out={tmp_path / 'out'}"]))
    assert [row[0] for row in table.rows] == ["seed 0", "mean"]
    kept = tmp_path / "runs" / "classification-seed0" / "theirs.json"
    found = json.loads(kept.read_text()) | {"score": 0.25}
    kept.write_text(json.dumps(found))
    (again,) = bench(compose("bench", [*words, f"out={tmp_path / 'again'}"]))
    assert again.rows[0][2] == "0.2500"

    kept.write_text(json.dumps(found | {"words": ["epochs=9"]}))
    with pytest.raises(ConfigError, match=r"theirs.json: is of other settings, epochs=9. Choose another runs="):
        bench(compose("bench", [*words, f"out={tmp_path / 'third'}"]))


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "root=: say which folder holds VOCdevkit, NEU-DET, tiny_imagenet_20"),
        (("root=.", "only=ssd"), "only=ssd: unknown. Did you mean ssdlite"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_trained(tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        bench(compose("bench", ["what=learn", *words, f"out={tmp_path / 'out'}", f"runs={tmp_path / 'runs'}"]))
    assert not (tmp_path / "runs").exists()
