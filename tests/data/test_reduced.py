"""Packed at a size, pictures are smaller, and boxes and masks with them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from mnv2_tasks.data.images.decode import decode_image
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.outlines import outline_mask
from mnv2_tasks.data.reading.records import Recorder
from mnv2_tasks.data.reduced import reduced_picture, reduced_size
from mnv2_tasks.data.shards import shards
from mnv2_tasks.errors import ConfigError, DataError

pytest.importorskip("webdataset")
from mnv2_tasks.data.packing import pack  # noqa: E402


def smooth(seed, height, width):
    """A picture that JPEG and resizing hardly change."""
    values = np.random.default_rng(seed).integers(40, 216, (4, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))


def source_of(kind, recorder, names=("a", "b", "c"), **settings):
    records = recorder.records()
    return FileSource(
        kind=kind, class_names=list(names), read=lambda split: (records, []), found="pictures", on_bad="refuse",
        **settings,
    )  # fmt: skip


def packed(source, out, size, splits=("val",)):
    written = pack(source, splits, out, size=size)
    found = shards(root=str(out), kind=source.kind)
    found.prepare(splits)
    return found, written


def stored(content_or_path):
    with Image.open(content_or_path) as image:
        image.load()
        return image


def jpeg(path, picture, **settings):
    Image.fromarray(picture).save(path, "JPEG", quality=97, **settings)
    return str(path)


def test_boxes_and_areas_shrink_with_their_picture_and_small_pictures_keep_their_bytes(tmp_path):
    recorder = Recorder()
    recorder.image(jpeg(tmp_path / "large.jpg", smooth(0, 150, 401)), size=(150, 401), image_id=7)
    recorder.box((0, 15, 401, 150), 1, area=600.0)
    recorder.box((40.1, 30, 80.2, 60), 2, crowd=True)
    small = jpeg(tmp_path / "small.jpg", smooth(1, 40, 64))
    recorder.image(small, size=(40, 64), image_id=3)
    recorder.box((1, 2, 30, 20), 0)
    found, written = packed(source_of("detection", recorder), tmp_path / "out", 50)
    large = found.sample("val", 0, 0)
    assert large.image.shape == (50, 133, 3) and large.image_id == 7
    np.testing.assert_allclose(large.boxes, [[0, 5, 133, 50]], rtol=1e-6)
    truth = found.coco_ground_truth()
    assert truth["images"][0] == {"id": 7, "height": 50, "width": 133, "file_name": "large.jpg"}
    assert truth["annotations"][0]["area"] == pytest.approx(600 * (133 / 401) * (50 / 150))
    assert truth["annotations"][1]["bbox"] == pytest.approx([13.3, 10, 13.3, 10])
    with tarfile.open(tmp_path / "out" / "val-000000.tar") as tar:
        names = tar.getnames()
        boxes = json.loads(tar.extractfile("000000000.json").read())["boxes"]
        assert tar.extractfile("000000001.jpg").read() == Path(small).read_bytes()
    assert names == ["000000000.jpg", "000000000.json", "000000001.jpg", "000000001.json"]
    np.testing.assert_allclose(boxes, [[0, 5, 133, 50], [13.3, 10, 26.6, 20]])
    assert (written["val"].reduced, written["val"].deep) == (1, 0)
    assert "reduced to 50 pixels on the shorter side" in found.describe()


def test_pictures_are_those_that_a_classifier_is_validated_with_but_for_the_jpeg(tmp_path):
    picture = smooth(2, 120, 90)
    expected = np.asarray(Image.fromarray(picture).resize((48, 64), Image.Resampling.BILINEAR)).astype(int)
    Image.fromarray(picture).save(tmp_path / "a.png")
    content = reduced_picture((tmp_path / "a.png").read_bytes(), "a.png", (120, 90), 48)
    assert np.abs(decode_image(content, "a").astype(int) - expected).mean() < 1


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("as_stored", [False, True])
def test_a_turn_that_exif_asks_for_is_made_once_or_not_at_all(tmp_path, turn, as_stored):
    exif = Image.Exif()
    exif[0x0112] = turn
    file = jpeg(tmp_path / "a.jpg", smooth(3, 120, 180), exif=exif)
    upright = (180, 120) if turn > 4 else (120, 180)
    size = (120, 180) if as_stored else upright
    recorder = Recorder()
    recorder.image(file, size=size)
    recorder.box((3, 6, 90, 60), 0)
    source = source_of("detection", recorder)
    found, _ = packed(source, tmp_path / "out", 60)
    before, after = source.sample("val", 0, 0), found.sample("val", 0, 0)
    assert after.image.shape[:2] == (size[0] // 2, size[1] // 2)
    half = np.asarray(Image.fromarray(before.image).resize(after.image.shape[1::-1], Image.Resampling.BILINEAR))
    assert np.abs(half.astype(int) - after.image).mean() < 2
    np.testing.assert_allclose(after.boxes, before.boxes / 2)


@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_colours_keep_the_resolution_they_had_and_greys_stay_grey(tmp_path, sampling):
    file = jpeg(tmp_path / "a.jpg", smooth(4, 120, 120), subsampling=sampling)
    content = reduced_picture(Path(file).read_bytes(), file, (120, 120), 60)
    assert JpegImagePlugin.get_sampling(stored(io.BytesIO(content))) == sampling
    Image.fromarray(smooth(4, 120, 120)[..., 0]).save(tmp_path / "grey.png")
    assert stored(io.BytesIO(reduced_picture((tmp_path / "grey.png").read_bytes(), "g", (120, 120), 60))).mode == "L"


def test_pictures_of_16_bits_are_left_as_they_are_with_their_white_and_counted(tmp_path):
    recorder = Recorder()
    for number, peak in enumerate([900, 4000]):
        Image.fromarray(np.full((120, 120), peak, np.uint16)).save(tmp_path / f"{number}.png")
        recorder.image(str(tmp_path / f"{number}.png"), label=number)
    source = source_of("classification", recorder)
    found, written = packed(source, tmp_path / "out", 60)
    assert (written["val"].reduced, written["val"].deep) == (0, 2) and found.white_used() == 4095
    assert (found.sample("val", 0, 1).image == source.sample("val", 0, 1).image).all()


def test_masks_take_the_nearest_pixel_and_never_a_class_in_between(tmp_path):
    mask = np.kron(np.random.default_rng(0).choice([0, 1, 2, 255], (12, 15)), np.ones((10, 10))).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    recorder = Recorder()
    recorder.image(jpeg(tmp_path / "a.jpg", smooth(5, 120, 150)), size=(120, 150), mask=str(tmp_path / "m.png"))
    found, _ = packed(source_of("segmentation", recorder), tmp_path / "out", 60)
    sample = found.sample("val", 0, 0)
    assert sample.image.shape[:2] == sample.mask.shape == (60, 75)
    assert (sample.mask == mask[::2, ::2]).all()


def test_masks_of_outlines_become_files(tmp_path):
    from hotcoco import mask as rle

    inside = np.zeros((120, 150), np.uint8)
    inside[20:80, 30:90] = 1
    counts = rle.encode(np.asfortranarray(inside))["counts"]
    outline = counts.decode() if isinstance(counts, bytes) else counts
    assert outline_mask(outline, (120, 150)).sum() == inside.sum()
    recorder = Recorder()
    for number in range(2):
        recorder.image(jpeg(tmp_path / f"{number}.jpg", smooth(number, 120, 150)), size=(120, 150))
        recorder.box((30, 20, 90, 80), 2, outline=outline)
    found, _ = packed(source_of("segmentation", recorder), tmp_path / "out", 60)
    expected = np.zeros((60, 75), int)
    expected[10:40, 15:45] = 2
    assert (found.sample("val", 0, 1).mask == expected).all()


@pytest.mark.parametrize("size", [(100, 100), (333, 500), (500, 334), (257, 256), (10, 4000)])
def test_the_longer_side_is_as_torchvision_has_it_and_none_grows(size):
    from torchvision.transforms.v2 import functional as F

    shorter = 64
    expected = F.resize(Image.new("RGB", size[::-1]), shorter).size[::-1] if min(size) > shorter else size
    assert reduced_size(size, shorter) == expected


def test_a_size_that_no_network_takes_is_refused(tmp_path):
    recorder = Recorder()
    recorder.image(jpeg(tmp_path / "a.jpg", smooth(0, 40, 40)), label=0)
    with pytest.raises(ConfigError, match="size=3: expected between"):
        pack(source_of("classification", recorder), ["val"], tmp_path / "out", size=3)


def test_shards_are_looked_at_before_a_run_by_a_sample_or_in_full(tmp_path):
    recorder = Recorder()
    for number in range(3):
        recorder.image(jpeg(tmp_path / f"{number}.jpg", smooth(number, 60, 60)), label=number)
    out = tmp_path / "out"
    pack(source_of("classification", recorder), ["val"], out)
    (shard,) = out.glob("val-*.tar")
    with tarfile.open(shard) as tar:
        start = tar.getmember("000000000.jpg").offset_data
    content = bytearray(shard.read_bytes())
    content[start : start + 400] = bytes(400)  # damaged as it was copied: of the same size
    shard.write_bytes(content)
    for depth, raises in {"headers": False, "full": True, "auto": True}.items():
        found = shards(root=str(out), kind="classification")
        found.verify = depth
        if raises:
            with pytest.raises(DataError, match=r"1 bad records in val:\n.*0\.jpg: .*Copy the shards again"):
                found.prepare(["val"])
        else:
            found.prepare(["val"])
            with pytest.raises(DataError, match=r"0\.jpg: .*\nThis is image 0 of val"):
                found.sample("val", 0, 0)
