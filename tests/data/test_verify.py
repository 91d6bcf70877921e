"""Every file is looked at once before a run, and what is bad is refused, or left out and counted."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.build import build_sources
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.reading import verify
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.errors import ConfigError, DataError


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
    monkeypatch.setattr(verify, "check_image", lambda path: decoded.append(Path(path).name) or check(path))
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


@pytest.mark.parametrize("damage", [b"", b"[", b"PK\5\6" + bytes(18), b"\xff", b"[" * 100_000])
def test_what_was_remembered_and_is_damaged_is_looked_at_anew(pictures, damage, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MNV2_CACHE", str(cache))
    data = {"train": [(f"{i}.jpg", [GOOD]) for i in range(5)]}
    source(pictures, data).prepare(["train"])
    (memory,) = (cache / "verified").glob("*.npz")
    good = memory.read_bytes()
    memory.write_bytes(damage)
    source(pictures, data).prepare(["train"])
    assert memory.read_bytes() == good


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": np.zeros((4, 2), np.int32)}, {"sizes": np.full((5, 2), -1, np.int32)}, {"peaks": np.zeros(5)},
        {"problems": np.frombuffer(b"[" * 100_000, np.uint8)}, {"brightest": np.full(5, 999)}, {"more": np.zeros(5)},
        {"problems": np.frombuffer(b'[["a", "b", "c", 5]]', np.uint8)}, {"problems": np.frombuffer(b"[1]", np.uint8)},
    ],
)  # fmt: skip
def test_what_was_remembered_and_says_what_it_cannot_is_looked_at_anew(pictures, tmp_path, changes, caplog):
    data = {"train": [(f"{i}.jpg", [GOOD]) for i in range(5)]}
    source(pictures, data).prepare(["train"])
    (memory,) = (tmp_path / "cache" / "verified").iterdir()
    with np.load(memory) as file:
        good = dict(file)
    np.savez(memory, **(good | changes))
    source(pictures, data).prepare(["train"])
    with np.load(memory) as file:
        assert all((file[name] == array).all() for name, array in good.items()) and file.keys() == good.keys()
    assert f"{memory}: cannot be read" in caplog.text


def looked_at(pictures, monkeypatch, depth, on_bad="refuse", count=5):
    """The names that were decoded, of so many pictures in turn, and the source."""
    decoded, check = [], verify.check_image
    monkeypatch.setattr(verify, "check_image", lambda path: decoded.append(Path(path).name) or check(path))
    data = source(pictures, {"train": [(f"{i}.jpg", [GOOD]) for i in range(count)]}, on_bad)
    data.verify = depth
    return decoded, data


def test_headers_are_read_of_all_and_a_few_pictures_decoded_where_a_sample_is_asked_for(pictures, monkeypatch):
    for name, value in {"SAMPLE": 2, "TIMED": 1}.items():
        monkeypatch.setattr(verify, name, value)
    decoded, data = looked_at(pictures, monkeypatch, "headers")
    data.prepare(["train"])
    assert decoded == [] and data.verified("train")[1].tolist() == [[30, 40]] * 5
    assert "0 of 5 images of train decoded before the run (data.verify=full: all)" in data.describe()
    decoded, data = looked_at(pictures, monkeypatch, "sample")
    data.prepare(["train"])
    assert sorted(decoded) == ["0.jpg", "2.jpg"]
    decoded, data = looked_at(pictures, monkeypatch, "sample")
    data.prepare(["train"])
    assert decoded == []
    decoded, data = looked_at(pictures, monkeypatch, "full")
    data.prepare(["train"])
    assert len(decoded) == 5 and "decoded before" not in data.describe()


def test_by_default_all_are_decoded_where_that_takes_seconds_and_else_a_sample_with_its_time_told(
    pictures, monkeypatch, caplog
):
    caplog.set_level("INFO")
    for name, value in {"SAMPLE": 2, "TIMED": 1}.items():
        monkeypatch.setattr(verify, name, value)
    decoded, data = looked_at(pictures, monkeypatch, "auto")
    data.prepare(["train"])
    assert len(decoded) == 5 and "before the run" not in caplog.text
    Image.new("RGB", (40, 30)).save(pictures / "4.jpg")  # what was remembered holds no longer
    monkeypatch.setattr(verify, "SHORT", 0.0)
    decoded, data = looked_at(pictures, monkeypatch, "auto")
    data.prepare(["train"])
    assert sorted(decoded) == ["0.jpg", "2.jpg"]
    assert "checking train before the run: 5 images, 2 decoded, the headers of the others, about 0 s" in caplog.text
    assert "all decoded in 0 s by data.verify=full" in caplog.text


@pytest.mark.parametrize(
    "spoil, what",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "damaged or cut short"),
        (lambda path: path.write_text("text"), "is not an image"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.unlink(), "cannot be opened"),
        (lambda path: Image.new("RGB", (50, 60)).save(path), "50 x 60 pixels, its annotation says 40 x 30"),
    ],
)
def test_headers_alone_show_what_is_missing_cut_short_or_of_another_size(pictures, monkeypatch, spoil, what):
    spoil(pictures / "1.jpg")
    with pytest.raises(DataError, match=rf"1\.jpg: .*{what}"):
        looked_at(pictures, monkeypatch, "headers")[1].prepare(["train"])


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "gif", "bmp"])
def test_a_file_that_is_cut_short_is_found_by_its_header_whatever_its_format(tmp_path, ending):
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / f"{name}.{ending}")
    short = tmp_path / f"b.{ending}"
    short.write_bytes(short.read_bytes()[:-500])
    data = source(tmp_path, {"train": [(f"{name}.{ending}", [GOOD]) for name in "ab"]}, "skip")
    data.verify = "headers"
    data.prepare(["train"])
    assert data.length("train") == 1


def test_a_picture_whose_header_was_good_is_named_by_file_and_number_when_training_comes_to_it(pictures):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(pictures / "1.png")
    content = bytearray((pictures / "1.png").read_bytes())
    content[600:700] = bytes(100)
    (pictures / "1.png").write_bytes(content)
    data = source(pictures, {"train": [("0.jpg", [GOOD]), ("1.png", [GOOD])]})
    data.verify = "headers"
    data.prepare(["train"])
    data.sample("train", 0, 0)
    with pytest.raises(DataError, match=r"1\.png: is damaged.*\nThis is image 1 of train.*data\.verify=full"):
        data.sample("train", 0, 1)
    records, problems, _ = data.problems("train")  # as `check` sees it: always in full
    assert [problem.image for problem in problems] == [1]


def test_sixteen_bits_are_decoded_in_any_case_for_their_white(tmp_path):
    for name, peak in {"a": 900, "b": 4000}.items():
        Image.fromarray(np.full((30, 40), peak, np.uint16)).save(tmp_path / f"{name}.png")
    data = source(tmp_path, {"train": [("a.png", [GOOD]), ("b.png", [GOOD])]})
    data.verify = "headers"
    data.prepare(["train"])
    assert data.white_used() == 4095


def test_ctrl_c_ends_the_look_without_waiting_for_the_pictures_that_are_left(pictures, monkeypatch):
    looked = []

    def interrupted(path):
        looked.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "check_image", interrupted)
    data = source(pictures, {"train": [("0.jpg", [GOOD])] * 5000})
    with pytest.raises(KeyboardInterrupt):
        data.prepare(["train"])
    assert len(looked) < 1000


def test_another_depth_is_refused(pictures):
    data = source(pictures, {"train": [("0.jpg", [GOOD])]})
    data.verify = "twice"
    with pytest.raises(ConfigError, match="data.verify=twice: expected auto, full, sample or headers"):
        data.prepare(["train"])


def test_how_closely_is_said_by_a_key_of_every_data_set_in_files(tmp_path):
    for split, label in product(("train", "val"), ("a", "b")):
        (tmp_path / split / label).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / split / label / "1.jpg")
    asked = ["task=classification", "data=folder", f"data.root={tmp_path}", "data.verify=headers"]
    (opened,) = build_sources(compose("train", asked)).values()
    assert isinstance(opened, FileSource) and opened.verify == "headers"
    for name in ("folder", "imagenet", "coco", "voc", "shards"):
        assert compose("train", ["task=classification", f"data={name}"]).data.verify == "auto"
