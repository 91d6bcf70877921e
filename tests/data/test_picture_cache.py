"""data.cache: the pictures of uncached training, decoded once, within what is free, and never half of them."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from torch.utils.data import DataLoader

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images.augment import PRESETS, Augment
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.reading import picture_cache
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.data.shards import shards
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.loading import caching
from mnv2_tasks.loading.caching import Wanted, choose_caches, fill_caches
from mnv2_tasks.loading.loaders import TrainingSet
from mnv2_tasks.training.train import train

SIDE, LEAST = 24, 48  # of the input, and what its augmentation needs of a shorter side
SIZES = [(30, 40), (48, 70), (100, 60), (90, 200), (31, 47)]  # height, width; the third and fourth are reduced
BOX = (6.0, 9.0, 18.0, 27.0)


def written(folder, sizes=SIZES, kind="detection"):
    """A data set of smooth pictures, PNG and JPEG by turns, each with a box."""
    recorder = Recorder()
    for number, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        path = folder / f"{number}.{'jpg' if number % 2 else 'png'}"
        if not path.is_file():
            pixels = np.stack([rows, columns, (rows + columns) // 2], axis=2).astype(np.uint8)
            Image.fromarray(pixels).save(path, **({"quality": 95} if number % 2 else {}))
        mask = folder / f"mask_{number}.png"
        if not mask.is_file():
            Image.fromarray(np.full((height, width), number % 2, np.uint8)).save(mask)
        recorder.image(str(path), size=(height, width), label=number % 2, mask=str(mask))
        recorder.box(BOX, number % 2)
    return opened(recorder.records(), kind)


def opened(records, kind):
    source = FileSource(
        kind=kind, class_names=["a", "b"], read=lambda split: (records, []), found="photos", on_bad="refuse"
    )
    source.prepare(["train"])
    return source


def cached(source, place, least=LEAST):
    [chosen] = choose_caches({"task": Wanted(source, least, place)})
    fill_caches([chosen])
    return chosen.cache


@pytest.mark.parametrize("place", ["ram", "disk"])
@pytest.mark.parametrize("kind", ["classification", "detection", "segmentation"])
def test_samples_equal_the_uncached_ones_to_the_bit_where_nothing_is_reduced(place, kind, tmp_path):
    source, sizes = written(tmp_path, kind=kind), SIZES
    plain = [source.sample("train", 0, i, least=LEAST) for i in range(len(sizes))]
    cache = cached(source, place)
    for index, (height, width) in enumerate(sizes):
        sample = source.sample("train", 0, index, least=LEAST)
        if kind == "segmentation" or min(height, width) <= LEAST:
            for ours, theirs in zip(sample, plain[index]):
                np.testing.assert_array_equal(ours, theirs)
        assert np.shares_memory(sample.image, cache.picture(index))
        assert kind != "segmentation" or np.shares_memory(sample.mask, cache.mask(index))


@pytest.mark.parametrize("later_on_top", [False, True])
def test_masks_that_are_drawn_of_outlines_are_kept_and_follow_how_they_are_drawn(later_on_top, tmp_path):
    recorder, (height, width) = Recorder(), SIZES[0]
    path = written(tmp_path, SIZES[:1]).verified("train")[0].files[0]
    recorder.image(path, size=(height, width))
    for label, columns in enumerate([slice(5, 30), slice(20, 35)]):  # one over the other
        inside = np.zeros((height, width), np.uint8)
        inside[5:20, columns] = 1
        outline = rle.encode(np.asfortranarray(inside))["counts"].decode()
        recorder.box((columns.start, 5, columns.stop, 20), label, outline=outline)
    source = FileSource(
        kind="segmentation", class_names=["a", "b"], read=lambda split: (recorder.records(), []), found="photos",
        on_bad="refuse", later_on_top=later_on_top,
    )  # fmt: skip
    source.prepare(["train"])
    plain = source.sample("train", 0, 0)
    cached(source, "disk")
    np.testing.assert_array_equal(source.sample("train", 0, 0).mask, plain.mask)
    assert source.sample("train", 0, 0).mask[10, 25] == (1 if later_on_top else 255)
    source.later_on_top = not later_on_top
    assert source.picture_cache(None).unfit() == picture_cache.CHANGED


def test_a_mask_that_changes_makes_the_file_anew(tmp_path):
    source = written(tmp_path, kind="segmentation")
    cached(source, "disk")
    assert source.picture_cache(LEAST).unfit() is None
    Image.fromarray(np.ones(SIZES[0], np.uint8)).save(tmp_path / "mask_0.png")
    os.utime(tmp_path / "mask_0.png", ns=(1, 1))
    assert source.picture_cache(LEAST).unfit() == picture_cache.CHANGED
    cached(source, "disk")
    assert (source.sample("train", 0, 0).mask == 1).all()


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path):
    source = written(tmp_path, kind="segmentation")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "mask_2.png")
    with pytest.raises(DataError, match="2.png: its mask has 4 x 3 pixels, it has 60 x 100"):
        cached(source, "ram")


def test_a_reduced_picture_is_close_to_the_whole_one_and_its_boxes_and_size_follow(tmp_path):
    source = written(tmp_path)
    cached(source, "ram")
    for index, (height, width) in [(2, (80, 48)), (3, (48, 107))]:
        sample = source.sample("train", 0, index, least=LEAST)
        assert sample.image.shape == (height, width, 3)
        whole = Image.fromarray(read_image(source.verified("train")[0].files[index]))
        other = np.asarray(whole.resize((width, height), Image.Resampling.BOX)).astype(int)
        assert np.abs(sample.image - other).max() <= 4
        scale = np.array([width / SIZES[index][1], height / SIZES[index][0]] * 2)
        np.testing.assert_allclose(sample.boxes, [BOX * scale], rtol=1e-6)


def test_whoever_asks_for_every_pixel_of_a_training_picture_gets_it(tmp_path):
    source = written(tmp_path)
    cached(source, "ram")
    assert source.sample("train", 0, 3).image.shape == (*SIZES[3], 3)


def test_validation_pictures_are_never_taken_from_the_cache(tmp_path):
    source = written(tmp_path)
    cached(source, "ram", least=None)
    source.cache.picture = None  # whoever calls it fails
    assert source.sample("val", 0, 3).image.shape == (*SIZES[3], 3)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("place", ["ram", "disk"])
@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_no_preset_writes_into_the_pictures_of_all_processes(place, kind, preset, tmp_path):
    source = written(tmp_path, kind=kind)
    dataset = TrainingSet(source, Augment(preset, SIDE, [9, 9, 9]), 0)
    plain = [dataset[epoch, 0].sample for epoch in range(8)]
    cache = cached(source, place, least=None)
    assert not cache.picture(0).flags.writeable
    for epoch, sample in enumerate(plain):
        for ours, theirs in zip(dataset[epoch, 0].sample, sample):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ram", "disk"])
@pytest.mark.parametrize("start", multiprocessing.get_all_start_methods()[:2])
def test_two_persistent_workers_however_started_read_one_copy(place, start, tmp_path):
    source = written(tmp_path, [(30, 40)] * 4, "classification")
    dataset = TrainingSet(source, Augment("none", SIDE, [9, 9, 9]), 0)
    cache = cached(source, place, least=None)
    with cache.path().open("r+b") if place == "disk" else torch.no_grad() as file:  # seen by all, for it is one
        if place == "disk":
            file.seek(cache.first)
            file.write(bytes(cache.num_bytes))
        else:
            cache._held.zero_()
    loader = DataLoader(
        dataset, sampler=[(0, i) for i in range(4)], batch_size=None, num_workers=2, persistent_workers=True,
        multiprocessing_context=start,
    )  # fmt: skip
    assert [int(item.sample.image.max()) for _ in range(2) for item in loader] == [0] * 8


def test_a_file_on_disk_serves_the_next_run_and_is_made_anew_when_a_picture_changes(tmp_path, caplog):
    caplog.set_level("INFO")
    path = cached(written(tmp_path), "disk").path()
    made = path.stat().st_mtime_ns
    assert cached(written(tmp_path), "disk").path() == path and path.stat().st_mtime_ns == made
    changed = tmp_path / "0.png"
    Image.new("RGB", SIZES[0][::-1], (1, 2, 3)).save(changed)
    source = written(tmp_path)
    caplog.clear()
    cached(source, "disk")
    assert "some pictures have changed since; what has is made anew" in caplog.text
    assert (source.sample("train", 0, 0, least=LEAST).image == (1, 2, 3)).all()
    os.utime(changed, ns=(1, 1))
    assert source.picture_cache(LEAST).unfit() == picture_cache.CHANGED
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == [path.name]


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_only_pictures_that_are_new_or_have_changed_are_decoded_into_the_file(kind, tmp_path, monkeypatch):
    decoded, decode = [], picture_cache.PictureCache._decode
    monkeypatch.setattr(
        picture_cache.PictureCache, "_decode", lambda self, index: decoded.append(index) or decode(self, index)
    )
    cached(written(tmp_path, kind=kind), "disk")
    assert sorted(decoded) == [0, 1, 2, 3, 4]
    decoded.clear()
    Image.new("RGB", (37, 46), (1, 2, 3)).save(tmp_path / "2.png")  # of another size
    (tmp_path / "mask_2.png").unlink()
    sizes = [*SIZES[:2], (46, 37), *SIZES[3:], (40, 41)]  # and one more
    source, fresh = written(tmp_path, sizes, kind), written(tmp_path, sizes, kind)
    cached(source, "disk")
    cached(fresh, "ram")
    assert sorted(decoded) == [0, 1, 2, 2, 3, 4, 5, 5]  # the second time all, into memory
    for index in range(6):
        for ours, theirs in zip(*(of.sample("train", 0, index, least=LEAST) for of in (source, fresh))):
            np.testing.assert_array_equal(ours, theirs)
    decoded.clear()
    cached(written(tmp_path, sizes[:-2], kind), "disk")
    assert decoded == []


@pytest.mark.parametrize(
    "damage, why",
    [
        (lambda content: content.replace(picture_cache.FORMAT, b"mnv2_tasks pictures 0"), "written by another version"),
        (lambda content: content[:-1], "is damaged"),
        (lambda content: b"something else", "is damaged"),
    ],
)
def test_a_file_of_another_version_or_a_damaged_one_is_made_anew_and_said(damage, why, tmp_path, caplog):
    path = cached(written(tmp_path), "disk").path()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    caplog.set_level("INFO")
    cached(written(tmp_path), "disk")
    assert path.read_bytes() == whole and why in caplog.text and "made anew" in caplog.text


def fill_slowly(source):
    decode = picture_cache.PictureCache._decode

    def slow(self, index):
        time.sleep(0.1 if index < 2 else 60)
        return decode(self, index)

    picture_cache.PictureCache._decode = slow
    cached(source, "disk")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_run_killed_while_it_writes_leaves_nothing_that_the_next_would_take(tmp_path):
    source = written(tmp_path)
    path = source.picture_cache(LEAST).path()
    process = multiprocessing.get_context("fork").Process(target=fill_slowly, args=(source,))
    process.start()
    deadline = time.monotonic() + 60
    while not list(path.parent.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(path.parent.glob("*.part")) and not path.exists()
    cached(source, "disk")
    assert source.sample("train", 0, 1, least=LEAST).image.shape == (48, 70, 3)
    assert not list(path.parent.glob("*.part"))


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_an_unreadable_picture_is_told_by_its_name_and_leaves_no_file(place, tmp_path):
    source = written(tmp_path)
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.jpg: is not an image"):
        cached(source, place)
    assert not source.picture_cache(LEAST).path().exists()


def test_a_picture_of_another_size_than_was_verified_is_refused(tmp_path):
    source = written(tmp_path)
    Image.new("RGB", (20, 10)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png: has 20 x 10 pixels, it had 40 x 30 when it was verified"):
        cached(source, "ram")


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_more_than_the_budget_is_an_error_before_anything_is_read(place, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.cache_gb=1e-06: .* take 45\.0 kB; raise it, or .*data\.cache=none"):
        choose_caches({"task": Wanted(written(tmp_path), LEAST, place)}, most=1e3)


def test_all_data_sets_of_a_run_share_one_budget(tmp_path):
    wanted = {}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        wanted[name] = Wanted(written(tmp_path / name), LEAST, "ram")
    of_one = wanted["one"].source.picture_cache(LEAST).num_bytes
    assert len(choose_caches(wanted, most=2 * of_one)) == 2
    with pytest.raises(ConfigError, match="cache_gb"):
        choose_caches(wanted, most=2 * of_one - 1)


def test_tasks_that_read_the_same_pictures_share_them(tmp_path):
    wanted = {kind: Wanted(written(tmp_path, kind=kind), LEAST, "ram") for kind in ("classification", "detection")}
    [chosen] = choose_caches(wanted)
    fill_caches([chosen])
    assert all(source.cache is chosen.cache for source, *_ in wanted.values())


def test_more_than_is_free_is_an_error_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "free_memory", lambda: (1000, "memory"))
    monkeypatch.setattr(caching, "free_space", lambda folder: 1000)
    source = written(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.cache=ram: .* and 1\.0 kB of memory are free; data\.cache=disk"):
        choose_caches({"task": Wanted(source, LEAST, "ram")})
    with pytest.raises(ConfigError, match=r"data\.cache=disk: .* has 1\.0 kB free; MNV2_CACHE=<folder>"):
        choose_caches({"task": Wanted(source, LEAST, "disk")})
    with pytest.raises(ConfigError, match=r"data\.cache=tape: expected none, ram, disk, auto"):
        choose_caches({"task": Wanted(source, LEAST, "tape")})


def test_what_will_be_taken_is_said_before(tmp_path, caplog):
    caplog.set_level("INFO")
    cached(written(tmp_path), "ram")
    assert caplog.messages[0] == "decoding 5 pictures into memory, 45.0 kB"


def test_a_file_that_is_there_needs_no_further_room(tmp_path, monkeypatch):
    cached(written(tmp_path), "disk")
    monkeypatch.setattr(caching, "free_space", lambda folder: 0)
    assert choose_caches({"task": Wanted(written(tmp_path), LEAST, "disk")})


@pytest.mark.parametrize("share, kept", [(2, True), (1.9, False)])
def test_auto_keeps_what_takes_half_of_the_free_memory_at_most(share, kept, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    source = written(tmp_path)
    free = int(share * source.picture_cache(LEAST).num_bytes)
    monkeypatch.setattr(caching, "free_memory", lambda: (free, "memory"))
    chosen = choose_caches({"task": Wanted(source, LEAST, "auto")})
    assert [of.place for of in chosen] == ["ram"] * kept
    assert kept or "decoded in every epoch, as they take" in caplog.text


def test_of_several_processes_each_would_hold_its_own_memory_and_a_file_is_for_all(tmp_path):
    source = written(tmp_path)
    with pytest.raises(ConfigError, match=r"each of 2 processes .* data\.cache=disk is one file for all"):
        choose_caches({"task": Wanted(source, LEAST, "ram")}, processes=2)
    assert choose_caches({"task": Wanted(source, LEAST, "auto")}, processes=2) == []
    assert choose_caches({"task": Wanted(source, LEAST, "disk")}, processes=2)


def test_pictures_in_shards_are_kept_too_and_follow_their_shard(tmp_path):
    pytest.importorskip("webdataset")
    (tmp_path / "photos").mkdir()
    pack(written(tmp_path / "photos", kind="classification"), ["train"], tmp_path / "shards")
    source = shards(root=str(tmp_path / "shards"), kind="classification")
    source.prepare(["train"])
    plain = source.sample("train", 0, 0, least=LEAST).image
    cache = cached(source, "disk")
    np.testing.assert_array_equal(source.sample("train", 0, 0, least=LEAST).image, plain)
    assert cache.unfit() is None
    os.utime(next((tmp_path / "shards").glob("*.tar")), ns=(1, 1))
    assert cache.unfit() == picture_cache.CHANGED


@pytest.mark.slow
def test_a_run_with_a_cache_delivers_the_weights_of_one_without(tiny, tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng([number, ord(name)]).integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    digests = []
    for place in ("none", "ram", "disk"):
        words = [word for word in tiny if not word.startswith("data.")]
        words += ["data=folder", f"data.root={tmp_path / 'data'}", f"data.cache={place}", "logger=none"]
        run = train(compose("train", ["task=classification", *words]))
        digests.append(json.loads((run / "run.json").read_text())["result"]["weights_sha256"])
        assert (place == "none") != ("decoded pictures in" in (run / "train.log").read_text())
    assert len(set(digests)) == 1
