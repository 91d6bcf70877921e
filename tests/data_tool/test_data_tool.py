"""tools/data.py as a user runs it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOL = Path(__file__).parents[2] / "tools" / "data.py"


def tool(*args, cwd):
    return subprocess.run([sys.executable, str(TOOL), *args], capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "my pets"
    for i, place in enumerate(["train/cat", "train/dog", "val/cat", "val/dog"]):
        (root / place).mkdir(parents=True)
        noise = np.random.default_rng(i).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(noise).save(root / place / "0.png")
    return root


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "say what to do"),
        (["check"], "say which data: data="),
        (["check", "data=coco", "data.root=nowhere"], "does not exist"),
        (["check", "data=coco", "cuont=3"], "Did you mean count"),
        (["check", "data=shapes"], "there are no files to check"),
        (["show", "data=shapes", "splits=[test]"], "expected [train, val]"),
        (["pack", "data=shapes"], "pack needs out=<folder>"),
        (["pack", "data=shapes", "out=shards"], "there are no files to pack"),
        (["download", "data=folder", "data.root=x"], "cannot be downloaded"),
        (["download", "data=imagenet", "data.root=x"], "holds none of ImageNet's archives"),
    ],
)
def test_mistake_ends_with_a_clear_error_and_no_traceback(args, message, tmp_path):
    done = tool(*args, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr + done.stdout


def test_help_shows_examples_and_only_the_choices_that_matter(tmp_path):
    done = tool("check", "--help", cwd=tmp_path)
    assert done.returncode == 0 and not any(tmp_path.iterdir())
    for word in ("python tools/data.py check data=folder", "repair=true", "data=coco | folder"):
        assert word in done.stdout
    assert "backbone=" not in done.stdout


def test_check_of_healthy_data_succeeds_and_finds_their_kind(pets, tmp_path):
    done = tool("check", "data=folder", f"data.root={pets}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "classification: no problems"
    out = tmp_path / "runs" / "data" / "1"
    names = sorted(file.name for file in out.iterdir())
    assert names == ["bad_files.txt", "classes.csv", "classes.png", "samples.jpg", "samples_val.jpg"]


def test_check_of_broken_data_fails_and_writes_a_copy_that_does_not(pets, tmp_path):
    (pets / "train" / "dog" / "1.png").write_bytes(b"")
    done = tool("check", "data=folder", f"data.root={pets}", "out=first", "repair=true", cwd=tmp_path)
    assert done.returncode == 1 and "classification: 1 problem" in done.stdout and "Traceback" not in done.stderr
    assert "is empty (0 bytes)" in (tmp_path / "first" / "bad_files.txt").read_text()
    copy = tmp_path / "first" / "repaired"
    done = tool("check", "data=folder", f"data.root={copy}", "task=classification", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_show_writes_a_page_of_every_kind(tmp_path):
    done = tool("show", "data=shapes", "splits=[val]", "count=4", "imgsz=96", "out=pages", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for kind in ("detection", "segmentation", "classification"):
        with Image.open(tmp_path / "pages" / kind / "samples.jpg") as page:
            assert page.width > 1000
        assert f"{kind}, val: 4 pictures in" in done.stdout


@pytest.mark.slow
def test_pack_writes_shards_that_check_finds_healthy(pets, tmp_path):
    pytest.importorskip("webdataset")
    done = tool("pack", "data=folder", f"data.root={pets}", "out=shards", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train: 2 samples in 1 shard" in done.stdout and "data=shards data.root=shards" in done.stdout
    done = tool("check", "data=shards", "data.root=shards", "task=classification", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "classification: no problems", done.stderr
    done = tool("pack", "data=folder", f"data.root={pets}", "out=small", "size=32", cwd=tmp_path)
    assert "train: 2 samples in 1 shard" in done.stdout and "2 pictures reduced" in done.stdout, done.stderr
