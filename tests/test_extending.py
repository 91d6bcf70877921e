"""docs/extend.md is true: its blocks are written where it says, and its commands run, tiny."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from PIL import Image

from mnv2_tasks.__main__ import main
from mnv2_tasks.build import load_network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
OWN, IN_PROJECT = PAGE.split("\n## Parts that the project must know\n")
OF_ANY_DATA = [word for word in TINY if not word.startswith("data.")]


def blocks(text, *languages):
    return [
        content for language, content in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if language in languages
    ]


def write_files(text, folder):
    """The blocks that begin with the path of a file, below a folder."""
    for block in blocks(text, "python", "yaml"):
        if named := re.match(r"(?:# @package _global_\n)?# (\S+/\S+\.\w+)\n", block):
            path = folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)


def apply_diffs(text, folder):
    """The blocks of lines to add and to take away, whose lines must be there once."""
    for block in blocks(text, "diff"):
        name, *lines = block.splitlines()
        path = folder / name.removeprefix("# ")
        content = path.read_text()
        for hunk in "\n".join(lines).split("\n@@\n"):
            before, after = (
                "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line[0] in kinds) for kinds in (" -", " +")
            )
            assert content.count(before) == 1, f"{name}: {before!r}"
            content = content.replace(before, after)
        path.write_text(content)


def commands(title):
    """The arguments of `mnv2` in the section of this title."""
    section = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^###? |\Z)", PAGE, re.M | re.S)[1]
    return [shlex.split(line)[1:] for block in blocks(section, "") for line in block.splitlines()]


def pictures(folder, *, boxes):
    """Eight pictures of two classes, and the tables that the page's readers read."""
    folder.mkdir()
    for split, numbers in (("train", range(6)), ("val", range(6, 8))):
        rows = []
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            row = {"file": f"{number}.png", "class": ("finch", "wren")[number % 2]}
            rows.append(row | ({"x0": 4, "y0": 8, "x1": 30.5, "y1": 40} if boxes else {}))
        with (folder / f"{split}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


# ---------------------------------------------------------------- parts of one's own


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that holds own/ and birds/."""
    folder = tmp_path_factory.mktemp("own")
    write_files(OWN, folder)
    pictures(folder / "birds", boxes=False)
    return folder


@pytest.fixture
def own(place, monkeypatch):
    """That folder, as the working directory, with the variables that the page exports."""
    (line,) = re.findall(r"^export (.*)$", OWN, re.M)
    exported = dict(word.split("=") for word in line.split())
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(exported.pop("PYTHONPATH"))
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    return place


def train(title, tmp_path, *, tiny=TINY):
    """The run folder of a section's training."""
    (words,) = [words for words in commands(title) if words[0] == "train"]
    main([*words, *tiny, f"runs={tmp_path}"])
    (run,) = tmp_path.glob("*/*")
    return run


def test_parts_alone_have_the_features_that_the_page_prints():
    code = blocks(OWN, "python")[0]
    names = {}
    exec(code, names)
    expression, _, printed = code.splitlines()[-1].partition("  # ")
    assert str(eval(expression, names)) == printed


def test_own_backbone_trains_a_detector_and_keeps_its_promises(own, tmp_path):
    run = train("A backbone", tmp_path)
    network, passport = load_network(str(run), trust=True)
    assert type(network.backbone).__module__ == "own.plain" and passport["config"]["choices"]["backbone"] == "plain"
    assert [spec.channels for spec in network.backbone.features.values()] == [64, 128]
    backbone = type(network.backbone)(channels=[8] * 5, output_stride=16, taps=["c3", "c5"])
    assert {tap: x.shape[2:] for tap, x in backbone(torch.zeros(1, 3, 50, 77)).items()} == {"c3": (7, 10), "c5": (4, 5)}
    assert json.loads((run / "metrics.json").read_text())["AP"] >= 0


def test_own_head_task_and_recipe_train_together(own, tmp_path):
    network, _ = load_network(str(run := train("A head", tmp_path)), trust=True)
    head = network.tasks["two_layers"].head
    assert type(head).__name__ == "TwoLayerHead" and head.layers[2].out_features == 32
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["schedule"]["shape"]["_target_"] == "own.json_lines.halved" and config["lr"] == 0.002  # the recipe's


def test_own_loss_is_what_is_minimised(own, tmp_path):
    with (train("A loss", tmp_path) / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert 0.5 < float(row["train/loss"]) <= 1  # cross-entropy of nine classes begins at log 9 = 2.2
    from own.dice import DiceLoss

    masks = torch.tensor([[[0, 1], [1, 255]]], dtype=torch.uint8)
    right = torch.tensor([[[[20.0, -20], [-20, -20]], [[-20, 20], [20, 20]]]])
    assert DiceLoss()(right, masks) < 1e-6 and DiceLoss()(-right, masks) > 0.5


def test_own_metric_is_in_metrics_json_and_chooses_the_checkpoint(own, tmp_path):
    run = train("A metric", tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["balanced"] == pytest.approx(np.mean(list(metrics["top1_per_class"].values())))
    with (run / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["val/score"] == row["val/balanced"]


def test_own_data_set_is_checked_and_trained_on(own, tmp_path, capsys):
    (check,) = [words for words in commands("A data set") if words[0] == "data"]
    main(check)
    assert "finch" in capsys.readouterr().out
    run = train("A data set", tmp_path / "runs", tiny=[*OF_ANY_DATA, "batch=2"])
    described = json.loads((run / "run.json").read_text())
    assert described["class_names"] == {"classification": ["finch", "wren"]}
    assert json.loads((run / "metrics.json").read_text())["images"] == 2


def test_own_list_of_augmentations_is_what_a_run_trains_with(own, tmp_path):
    run = train("A list of augmentations", tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["augmentation"]["detection"] == yaml.safe_load((own / "own" / "mine.yaml").read_text())


def test_own_augmentation_changes_the_pictures_that_are_trained_on(own, tmp_path):
    run = train("An augmentation", tmp_path)
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["augmentation"]["detection"] == "own.faded.faded"
    from mnv2_tasks.contracts import Sample
    from mnv2_tasks.data.images.augment import Augment

    red = Sample(np.full((8, 8, 3), (250, 0, 0), np.uint8), 0)
    faded = [np.ptp(Augment("own.faded.faded", 8, [0, 0, 0])(red, (key,)).image, axis=2).max() for key in range(20)]
    assert 4 <= faded.count(0) <= 16


def test_own_logger_writes_its_file_and_the_schedule_moves_the_rate(own, tmp_path):
    run = train("A logger and a schedule", tmp_path)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert any("train/loss" in line for line in lines) and any("val/top1" in line for line in lines)
    config = yaml.safe_load((run / "config.yaml").read_text())
    from own.json_lines import halved

    assert config["schedule"]["shape"] == {"_target_": "own.json_lines.halved", "times": 1}
    assert [halved(done, times=1) for done in (0, 0.49, 0.5, 0.99)] == [1, 1, 0.5, 0.5]


# ---------------------------------------------------------------- parts that the project must know

DRIVER = """
import json, sys
import torch
from mnv2_tasks.__main__ import main
from mnv2_tasks.build import load_network
torch.set_num_threads(1)
for words in json.loads(sys.argv[1]):
    main(words)
network, _ = load_network("resnet18.pth")
with torch.no_grad():
    torch.save(network.output("classification", torch.load("images.pt")), "logits.pt")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the checkout with the parts of the page's second half."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("mnv2_tasks", "conf", "weights"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for name in ("pyproject.toml", "tests/test_architecture.py"):
        shutil.copy(ROOT / name, folder / name)
    write_files(IN_PROJECT, folder)
    apply_diffs(IN_PROJECT, folder)
    return folder


def run_in(project, *arguments):
    """What Python prints, with the copy's package in the place of ours."""
    environment = {**os.environ, "PYTHONPATH": str(project), "MNV2_CACHE": str(project / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_added_parts_stand_on_the_floors(project):
    run_in(project, "-m", "pytest", "-n", "0", "-q", "tests/test_architecture.py")


def huggingface_resnet():
    """With statistics that are not those of a new network."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    network = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(layer_type="basic", depths=[2] * 4, hidden_sizes=[64, 128, 256, 512], num_labels=1000)
    )
    network(torch.randn(4, 3, 64, 64))
    return network.eval()


@pytest.mark.draws
def test_added_parts_do_what_the_page_says(project):
    """In one process and one test, because each would take seconds to start."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pictures(project / "birds", boxes=False)
    pictures(project / "boxes", boxes=True)
    theirs = huggingface_resnet()
    torch.save(theirs.state_dict(), project / "resnet18.pth")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.save(images, project / "images.pt")
    found = [words for title in re.findall(r"^### (.*)", IN_PROJECT, re.M) for words in commands(title)]
    assert sorted(words[0] for words in found) == ["data", "export", "predict", "train"]
    tiny = {"train": TINY, "predict": ["device=cpu"], "export": ["images=birds"], "data": []}
    told = run_in(project, "-c", DRIVER, json.dumps([[*words, *tiny[words[0]]] for words in found]))

    assert "CSV of boxes, 2 classes" in told  # the layout

    with torch.no_grad():  # the importer
        mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[:, None, :, None, None]
        expected = theirs((images - mean) / std).logits
    assert (torch.load(project / "logits.pt") - expected).abs().max() < 1e-4 * expected.abs().max()

    assert "written: model.ort" in told  # the format, after it was compared with PyTorch
    session = onnxruntime.InferenceSession(str(project / "model.ort"))
    assert [output.name for output in session.get_outputs()] == [
        f"ssdlite_{name}" for name in ("boxes", "scores", "labels", "counts")
    ]

    (run,) = (project / "runs" / "tagging").iterdir()  # the kind
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["mIoU"] == pytest.approx(np.mean(list(metrics["IoU"].values())))
    assert f"tagging: mean IoU of tags {metrics['mIoU']:.4f}" in told
    assert (run / "samples" / "validation.png").is_file()
