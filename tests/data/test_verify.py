"""Every file is looked at once before a run, and what is bad is refused, or left out and counted."""

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.data.reading import verify
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.errors import DataError


@pytest.fixture
def pictures(tmp_path):
    """Five pictures of noise, all different."""
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    return tmp_path


def source(folder, splits, on_bad="refuse"):
    """splits: {split: [(file, [boxes])]}"""

    def read(split):
        recorder = Recorder()
        for file, boxes in splits[split]:
            recorder.image(str(folder / file), size=(30, 40))
            for box in boxes:
                recorder.box(box, 0)
        return recorder.records(), []

    return FileSource(kind="detection", class_names=["cell"], read=read, found="test", on_bad=on_bad)


GOOD = (1.0, 2.0, 20.0, 25.0)


@pytest.mark.parametrize(
    "box, what",
    [
        ((5, 5, 5, 9), "has no area"), ((9, 5, 5, 9), "corners reversed"), ((float("nan"), 5, 6, 9), "is not a number"),
        ((50, 5, 60, 9), "lies outside its image"), ((30, 5, 45, 9), "reaches out of its image"),
    ],
)  # fmt: skip
def test_bad_boxes_are_refused_by_file_and_number_or_skipped_and_counted(pictures, box, what):
    splits = {"train": [("0.jpg", [GOOD, box]), ("1.jpg", [GOOD])]}
    with pytest.raises(DataError, match=rf"1 bad records in train:\n.*0\.jpg: box 2 .*{what}.*\n.*data\.on_bad=skip"):
        source(pictures, splits).prepare(["train"])
    lenient = source(pictures, splits, "skip")
    lenient.prepare(["train"])
    assert lenient.length("train") == 2 and len(lenient.sample("train", 0, 0).boxes) == 1
    assert lenient.skipped == ["skipped in train: 0 of 2 images, 1 of 3 boxes"]


def test_a_box_that_overshoots_by_up_to_two_pixels_is_cut_to_the_image_and_counted(pictures):
    boxes = [(-1, -0.5, 40.6, 31), (5, 5, 42, 10), (0, 0, 40.001, 30)]
    tight = source(pictures, {"train": [("0.jpg", boxes)]})
    assert tight.sample("train", 0, 0).boxes.tolist() == [[0, 0, 40, 30], [5, 5, 40, 10], [0, 0, 40, 30]]
    assert "2 boxes cut by up to 2 pixels at the edge of the image" in tight.describe()
    with pytest.raises(DataError, match=r"0\.jpg: box 1 reaches out of its image by more than 2 pixels: .*42\.1"):
        source(pictures, {"train": [("0.jpg", [(5, 5, 42.1, 10)])]}).prepare(["train"])


def test_problems_that_say_the_same_are_told_once_with_their_number(pictures):
    splits = {"train": [("0.jpg", [GOOD])] + [("no.jpg", [GOOD])] * 31}
    with pytest.raises(DataError, match=r"31 bad records in train:\n.*no\.jpg: cannot be opened.*\(31 times\).*\nMend"):
        source(pictures, splits).prepare(["train"])


@pytest.mark.parametrize(
    "spoil, what",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "damaged or cut short"),
        (lambda path: path.write_text("text"), "is not an image"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.unlink(), "cannot be opened"),
        (lambda path: Image.new("RGB", (50, 60)).save(path), "50 x 60 pixels, its annotation says 40 x 30"),
    ],
)
def test_bad_pictures_are_refused_or_skipped_with_their_boxes(pictures, spoil, what):
    spoil(pictures / "1.jpg")
    splits = {"train": [("0.jpg", [GOOD]), ("1.jpg", [GOOD, GOOD]), ("2.jpg", [])]}
    with pytest.raises(DataError, match=rf"1\.jpg: .*{what}"):
        source(pictures, splits).prepare(["train"])
    lenient = source(pictures, splits, "skip")
    lenient.prepare(["train"])
    assert [lenient.sample("train", 0, i).image_id for i in range(lenient.length("train"))] == [0, 2]
    assert lenient.skipped == ["skipped in train: 1 of 3 images, 2 of 3 boxes"]


def test_images_of_val_are_not_trained_on(pictures):
    (pictures / "copy.jpg").write_bytes((pictures / "0.jpg").read_bytes())
    splits = {"train": [("copy.jpg", [GOOD]), ("1.jpg", [GOOD])], "val": [("0.jpg", [GOOD]), ("2.jpg", [GOOD])]}
    with pytest.raises(DataError, match=r"copy\.jpg: this training image is also in val, as .*0\.jpg"):
        source(pictures, splits).prepare(["train", "val"])
    lenient = source(pictures, splits, "skip")
    lenient.prepare(["train", "val"])
    assert (lenient.length("train"), lenient.length("val")) == (1, 2)


def test_files_are_decoded_once_until_one_of_them_changes(pictures, monkeypatch):
    splits = {"train": [("0.jpg", [GOOD]), ("1.jpg", [])]}
    decoded = []
    check = verify.check_image
    monkeypatch.setattr(verify, "check_image", lambda path: decoded.append(path.name) or check(path))
    for _ in range(2):
        source(pictures, splits).prepare(["train"])
    assert sorted(decoded) == ["0.jpg", "1.jpg"]
    Image.new("RGB", (40, 30)).save(pictures / "1.jpg")
    source(pictures, splits).prepare(["train"])
    assert len(decoded) == 4


def test_a_damaged_memory_and_one_that_cannot_be_written_are_told_and_the_files_checked_anew(
    pictures, tmp_path, monkeypatch, caplog
):
    splits = {"train": [("0.jpg", [GOOD]), ("1.jpg", [])]}
    source(pictures, splits).prepare(["train"])
    (memory,) = (tmp_path / "cache" / "verified").iterdir()
    whole = memory.read_bytes()
    memory.write_bytes(whole[:-3])
    source(pictures, splits).prepare(["train"])
    assert f"{memory}: cannot be read" in caplog.text and memory.read_bytes() == whole
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path / "file"))
    source(pictures, splits).prepare(["train"])
    assert "checked anew the next time" in caplog.text and "MNV2_CACHE=<folder>" in caplog.text


def test_nothing_usable_is_an_error_under_either_policy(pictures):
    (pictures / "0.jpg").write_text("text")
    with pytest.raises(DataError, match="no image of the train split is usable"):
        source(pictures, {"train": [("0.jpg", [GOOD])]}, "skip").prepare(["train"])


@pytest.mark.parametrize("damage", [b"", b"[", b"[[[1, 2], []]]", b"[1, 2, 3, 4, 5]", b"\xff", b"[" * 100_000])
def test_what_was_remembered_and_is_damaged_is_looked_at_anew(pictures, damage, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MNV2_CACHE", str(cache))
    data = {"train": [(f"{i}.jpg", [GOOD]) for i in range(5)]}
    source(pictures, data).prepare(["train"])
    (memory,) = (cache / "verified").glob("*.json")
    good = memory.read_bytes()
    memory.write_bytes(damage)
    source(pictures, data).prepare(["train"])
    assert memory.read_bytes() == good
