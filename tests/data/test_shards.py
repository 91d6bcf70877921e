"""Tar shards give the samples of the data set that was packed into them."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.data.images.file_bytes import content_of
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.data.shards import shards
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.loading.samplers import WINDOW, TrainingSampler

pytest.importorskip("webdataset")
from mnv2_tasks.data.packing import pack  # noqa: E402

KINDS = ["classification", "detection", "segmentation"]


def folder(kind, place, train=12, val=5):
    """A data set of small noisy pictures, the numbers of whose images are not their places."""
    place.mkdir(parents=True)
    recorders = {}
    for split, count in {"train": train, "val": val}.items():
        recorder = recorders[split] = Recorder()
        for number in range(count):
            rng = np.random.default_rng([number, len(split)])
            file, mask = place / f"{split}{number}.jpg", place / f"{split}{number}_mask.png"
            Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(file)
            Image.fromarray(rng.integers(0, 3, (30, 40), np.uint8)).save(mask)
            recorder.image(
                str(file), size=(30, 40), image_id=100 + number, label=number % 3 if kind == "classification" else None,
                mask=str(mask) if kind == "segmentation" else None,
            )  # fmt: skip
            for box in range(number % 3 if kind == "detection" else 0):
                recorder.box((1.5 + box, 2, 20, 25), box, crowd=number == 5)
    records = {split: recorder.records() for split, recorder in recorders.items()}
    return FileSource(
        kind=kind, class_names=["a", "b", "c"], read=lambda split: (records[split], []), found="pictures",
        on_bad="refuse", category_ids=[3, 5, 9],
    )  # fmt: skip


@pytest.fixture
def packed(tmp_path):
    """kind -> a data set in files, and its shards."""

    def make(kind, **settings):
        source = folder(kind, tmp_path / kind, **settings)
        pack(source, ["train", "val"], tmp_path / "shards" / kind, shard_bytes=1 << 12)
        return source, shards(root=str(tmp_path / "shards" / kind), kind=kind)

    return make


def assert_equal(one, two):
    for name, value in one._asdict().items():
        np.testing.assert_array_equal(value, getattr(two, name), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_is_that_of_the_folder(packed, kind):
    source, same = packed(kind)
    same.prepare(["train", "val"])
    for split in ("train", "val"):
        assert source.length(split) == same.length(split) and len(same.shards(split)) > 1
        for index in range(source.length(split)):
            assert_equal(source.sample(split, 0, index), same.sample(split, 0, index))
    assert source.fingerprint() == same.fingerprint()
    assert source.largest("val") == same.largest("val")
    if kind == "detection":
        assert source.coco_ground_truth() == same.coco_ground_truth()


def test_shards_are_tars_in_webdatasets_layout(packed, tmp_path):
    packed("detection")
    with tarfile.open(tmp_path / "shards" / "detection" / "val-000000.tar") as tar:
        assert tar.getnames()[:2] == ["000000000.jpg", "000000000.json"]


def test_training_reads_a_handful_of_shards_at_a_time():
    together = np.random.default_rng(0).permutation(20 * WINDOW).reshape(2 * WINDOW, 10)
    passes = [
        [index for _, index in TrainingSampler(20 * WINDOW, steps=WINDOW, batch_size=20, seed=seed, shards=together)]
        for seed in (0, 1)
    ]
    assert passes[0] != passes[1]
    for order in passes:
        assert sorted(order) == list(range(20 * WINDOW))
        shard_of = {index: shard for shard, indices in enumerate(together.tolist()) for index in indices}
        visited = [shard_of[index] for index in order]
        assert len(set(visited[: 10 * WINDOW])) == WINDOW
        assert len(set(visited[:WINDOW])) > WINDOW / 3  # and mixes them


def test_a_resumed_pass_over_shards_goes_on_where_it_stopped():
    together = np.array_split(np.random.default_rng(0).permutation(40), 20)
    whole = list(TrainingSampler(40, steps=8, batch_size=5, seed=3, shards=together))
    rest = list(TrainingSampler(40, steps=8, batch_size=5, seed=3, shards=together, done=(0, 3)))
    assert rest == whole[15:]


def test_packing_leaves_nothing_half_written(tmp_path, monkeypatch):
    source = folder("classification", tmp_path / "pictures")
    monkeypatch.setattr("mnv2_tasks.data.packing.np.savez", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack(source, ["train"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    pack(source, ["train"], tmp_path / "out")
    assert (tmp_path / "out").exists() and not list(tmp_path.glob("*.part"))
    with pytest.raises(ConfigError, match="is there already"):
        pack(source, ["train"], tmp_path / "out")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda place: (place / "train-000000.tar").unlink(), r"train-000000\.tar is missing"),
        (
            lambda place: (place / "train-000000.tar").write_bytes(b"x"),
            r"train-000000\.tar has 1 bytes, it was written",
        ),
        (lambda place: (place / "index.json").unlink(), r"holds no index\.json.*data\.py pack"),
        (lambda place: (place / "index.json").write_text("{"), r"index\.json.* is not valid JSON"),
        (lambda place: (place / "index.json").write_text("{}"), "not written by this version"),
    ],
)
def test_incomplete_shards_are_named_before_training(packed, tmp_path, spoil, message):
    packed("classification")
    place = tmp_path / "shards" / "classification"
    spoil(place)
    with pytest.raises(ConfigError, match=message):
        shards(root=str(place), kind="classification").prepare(["train"])


def test_shards_of_another_kind_are_refused(packed, tmp_path):
    packed("classification")
    with pytest.raises(ConfigError, match="was packed for classification, this task is detection"):
        shards(root=str(tmp_path / "shards" / "classification"), kind="detection")


def test_a_shard_that_was_cut_short_meanwhile_is_named(packed, tmp_path):
    _, source = packed("classification")
    source.prepare(["train"])
    for shard in (tmp_path / "shards" / "classification").glob("train-*.tar"):
        shard.write_bytes(b"")
    with pytest.raises(DataError, match=r"train-\d+\.tar: is cut short"):
        source.sample("train", 0, 0)


def test_a_missing_package_says_how_to_get_it(tmp_path, monkeypatch):
    for module in ("packing", "images.file_bytes"):
        monkeypatch.setattr(f"mnv2_tasks.data.{module}.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[streaming\]"'):
        pack(folder("classification", tmp_path / "pictures"), ["train"], tmp_path / "out")
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[streaming\]"'):
        content_of("s3://bucket/train-000000.tar:512+9/a.jpg")


def test_names_of_files_that_look_like_members_of_none_are_files(tmp_path):
    path = Path(tmp_path, "a.tar")
    path.write_bytes(b"content")
    assert content_of(path) == b"content"


def spoilt(place, **changes):
    """The shards with other arrays in train.npz."""
    with np.load(place / "train.npz") as file:
        arrays = dict(file) | changes
    np.savez(place / "train.npz", **arrays)


def set_index(place, **changes):
    index = json.loads((place / "index.json").read_text()) | changes
    (place / "index.json").write_text(json.dumps(index))


HOSTILE = {
    "a shard outside": (lambda p: set_index(p, splits={"train": {"../evil.tar": 9}}), "index.json is damaged, splits"),
    "an absolute shard": (lambda p: set_index(p, splits={"train": {"/evil.tar": 9}}), "index.json is damaged, splits"),
    "a size of text": (lambda p: set_index(p, splits={"train": {"a.tar": "9"}}), "index.json is damaged, splits"),
    "classes of numbers": (lambda p: set_index(p, class_names=[1, 2]), "index.json is damaged, class_names"),
    "a class that acts": (lambda p: set_index(p, class_names=["\x1b[2J"] * 3), "holds a character that cannot"),
    "deep": (lambda p: (p / "index.json").write_text("[" * 100_000), "index.json: .*within each other"),
    "huge": (lambda p: (p / "index.json").write_text('{"a": 1' + "0" * 400 + "}"), "index.json: a is no finite number"),
    "no zip": (lambda p: (p / "train.npz").write_bytes(b"x" * 99), "train.npz: cannot be read"),
    "cut short": (lambda p: os.truncate(p / "train.npz", 2000), "train.npz: cannot be read"),
    "a bomb": (lambda p: np.savez_compressed(p / "train.npz", x=np.zeros(10**7)), "train.npz: cannot be read .*unpa"),
    "pickles": (lambda p: spoilt(p, ids=np.array([{}])), "train.npz: cannot be read"),
    "fewer ids": (lambda p: spoilt(p, ids=np.arange(3)), "train.npz is damaged: labels|sizes"),
    "a label too large": (lambda p: spoilt(p, labels=np.full(12, 3)), "train.npz is damaged: labels hold"),
    "a place before": (lambda p: spoilt(p, start=np.full(12, -1)), "train.npz is damaged: start hold"),
    "another shard": (lambda p: spoilt(p, shard=np.full(12, 999)), "train.npz is damaged: shard hold"),
    "no pixels": (lambda p: spoilt(p, verified_sizes=np.zeros((12, 2), np.int32)), "train.npz is damaged: verified"),
    "a folder": (
        lambda p: spoilt(p, **{"files.content": np.frombuffer(b"../a.jpg" * 12, np.uint8),
                               "files.ends": np.arange(1, 13) * 8}), "leads into a folder",
    ),
    "ends": (lambda p: spoilt(p, **{"files.ends": np.arange(12)}), "files do not fill"),
}  # fmt: skip


@pytest.mark.parametrize("spoil, message", HOSTILE.values(), ids=HOSTILE)
def test_shards_that_no_packing_writes_are_refused_by_name(packed, tmp_path, spoil, message):
    packed("classification")
    place = tmp_path / "shards" / "classification"
    spoil(place)
    with pytest.raises(ConfigError, match=message):
        shards(root=str(place), kind="classification").prepare(["train"])


def test_boxes_in_shards_are_checked_as_those_in_files(packed, tmp_path):
    packed("detection")
    place = tmp_path / "shards" / "detection"
    with np.load(place / "train.npz") as file:
        spoilt(place, boxes=np.full_like(file["boxes"], np.inf))
    with pytest.raises(DataError, match="is not a number"):
        shards(root=str(place), kind="detection").prepare(["train"])


def test_a_place_beyond_the_shard_is_cut_short_and_takes_no_memory(packed, tmp_path):
    packed("classification")
    place = tmp_path / "shards" / "classification"
    spoilt(place, size=np.full(12, 10**15))
    with pytest.raises((ConfigError, DataError), match="beyond its end|memory"):
        source = shards(root=str(place), kind="classification")
        source.prepare(["train"])
        source.sample("train", 0, 0)
