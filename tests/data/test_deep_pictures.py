"""16 bits a colour, numbers that have no white, and the largest pictures: read alike everywhere, or refused by name."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from mnv2_tasks.build import build_fit
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.images.decode import check_image, read_image
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.shards import shards
from mnv2_tasks.data_tool.pages import write_samples
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.prediction.predictor import load_model
from mnv2_tasks.prediction.sources import find_inputs
from mnv2_tasks.training.train import train


def save_deep(path, bits, seed=0, colours=False):
    """A ramp from black to the white of so many bits, in a file of 16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 2**bits - 1, 40 * 40).reshape(40, 40)
    ramp[0, :8] = seed
    values = ramp.astype(np.uint16)
    values = np.dstack([values] * 3) if colours else values
    path.write_bytes(cv2.imencode(path.suffix, values)[1].tobytes())


def image_folder(root, bits, suffix=".png", colours=False):
    for number, split in enumerate(("train", "val")):
        for label, name in enumerate("ab"):
            for i in range(4):
                save_deep(root / split / name / f"{i}{suffix}", bits, 100 * number + 10 * label + i, colours)
    return root


def opened(root):
    source = folder(root=str(root), kind="classification", on_bad="refuse", train=None, val=None)
    source.prepare(("train", "val"))
    return source


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_white_of_16_bit_pictures_is_that_of_the_bits_they_use_and_is_told(tmp_path, bits, suffix, colours):
    source = opened(image_folder(tmp_path, bits, suffix, colours))
    image = source.sample("train", 0, 0).image
    assert image.dtype == np.uint8 and image.max() == 255 and abs(int(image[20].mean()) - 128) < 8
    told = source.describe()
    assert f"white of all 16-bit images is {2**bits - 1:,} (input.white)" in told
    assert (f"8 images of train with 16 bits and values up to {2**bits - 1:,} of 65,535: 0{suffix}" in told) == (
        bits < 16
    )


def test_a_set_of_several_depths_has_one_white(tmp_path):
    image_folder(tmp_path, 12)
    save_deep(tmp_path / "train" / "a" / "9.png", 14)
    source = opened(tmp_path)
    assert "white of all 16-bit images is 16,383" in source.describe()
    assert abs(int(source.sample("train", 0, 0).image.max()) - 255 // 4) <= 1
    Image.new("L", (9, 9), 200).save(tmp_path / "train" / "a" / "8.png")
    assert opened(tmp_path).sample("train", 0, 4).image.max() == 200  # 8 bits stay as they are


def test_shards_keep_the_white_of_what_was_packed(tmp_path):
    source = opened(image_folder(tmp_path / "data", 12))
    pack(source, ("train", "val"), tmp_path / "packed")
    packed = shards(root=str(tmp_path / "packed"), kind="classification")
    packed.prepare(("train", "val"))
    assert (packed.sample("val", 0, 3).image == source.sample("val", 0, 3).image).all()
    assert "white of all 16-bit images is 4,095" in packed.describe()


def test_weights_take_the_white_along_to_evaluation_and_prediction(tmp_path, tiny):
    root = image_folder(tmp_path / "data", 12)
    common = [o for o in tiny if not o.startswith("data.source")]
    run = train(compose("train", ["task=classification", "data=folder", f"data.root={root}", *common]))
    assert "white of all 16-bit images is 4,095" in (run / "train.log").read_text()
    _, passport = load_model(str(run / "weights.safetensors"), "cpu")
    assert passport["config"]["input"]["white"] == 4095
    (picture,) = find_inputs(str(root / "val" / "a" / "0.png"))
    assert picture.read(build_fit(DictConfig(passport["config"])).white).max() == 255
    for said in ([f"run={run}"], [f"weights={run / 'weights.safetensors'}", f"data.root={root}"]):
        config = compose("eval", [*said, f"out={tmp_path / 'eval'}", "trainer.accelerator=cpu", "workers=0"])
        assert config.input.white == 4095
        evaluate(config)


def test_a_white_that_is_said_counts_and_a_wrong_one_is_refused(tmp_path, tiny):
    root = image_folder(tmp_path / "data", 12)
    said = ["task=classification", "data=folder", f"data.root={root}", "input.white=8191"]
    common = [o for o in tiny if not o.startswith("data.source")]
    run = train(compose("train", [*said, *common]))
    assert "white of all 16-bit images is 8,191" in (run / "train.log").read_text()
    with pytest.raises(ConfigError, match="input.white=0: expected a value of 16 bits"):
        train(compose("train", [*said, "input.white=0", *common]))


UNREADABLE = {
    "float32": (np.float32, "has fractions as values .mode F."),
    "float64": (np.float64, "is a TIFF whose pixels are of a kind that cannot be read"),
    "int32": (np.int32, "has signed numbers or 32 bits as values"),
    "int16": (np.int16, "has signed numbers or 32 bits as values"),
    "uint32": (np.uint32, "has signed numbers or 32 bits as values"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_has_no_white_is_refused_by_check_and_by_training_for_one_reason(tmp_path, kind):
    dtype, reason = UNREADABLE[kind]
    path = tmp_path / "a.tif"
    path.write_bytes(cv2.imencode(".tif", np.arange(64, dtype=dtype).reshape(8, 8))[1].tobytes())
    for read in (check_image, read_image):
        with pytest.raises(DataError, match=f"a.tif: {reason}.*8 or 16 bits a colour"):
            read(path)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_deflate", "packbits", "lzma", "zstd", "jpeg", None])
def test_what_check_accepts_is_read_whatever_its_packing(tmp_path, packing, deep):
    values = np.arange(64 * 64).reshape(64, 64)
    image = Image.fromarray(values.astype(np.uint16)) if deep else Image.fromarray((values // 16).astype(np.uint8))
    if deep and packing == "jpeg":
        return
    image.save(tmp_path / "a.tif", compression=packing)
    header = check_image(tmp_path / "a.tif")
    assert header.deep == deep and header.peak == (4095 if deep else 0)
    read = read_image(tmp_path / "a.tif", white=4095)
    assert read.shape == (64, 64, 3) and np.abs(read[..., 0] - values / 16.06).max() < 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B"])
@pytest.mark.parametrize("kind", ["png", "tif", "jpg", "bmp", "gif", "webp"])
def test_every_mode_that_check_accepts_is_read(tmp_path, kind, mode):
    path = tmp_path / f"a.{kind}"
    try:
        Image.new(mode, (16, 8)).save(path)
    except (OSError, KeyError, ValueError):
        return  # Pillow does not write it
    try:
        check_image(path)
    except DataError as error:
        with pytest.raises(DataError, match=str(error).rpartition(": ")[2][:20]):
            read_image(path)
    else:
        assert read_image(path).shape == (8, 16, 3)


def test_pictures_that_nobody_here_reads_are_called_what_they_are(tmp_path):
    for content, name in (
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC or AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
    ):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DataError, match=f"a.jpg: is {name}, or damaged. Save it as JPEG"):
            check_image(tmp_path / "a.jpg")


def test_a_picture_of_too_many_pixels_says_why_and_how_to_read_it_all_the_same(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (15_000, 13_000)).save(path)
    with pytest.raises(DataError, match=r"has 195,000,000 pixels, more than 178,956,970.*MNV2_MOST_PIXELS=195000000"):
        check_image(path)
    program = (
        "from mnv2_tasks.data.images.decode import check_image, read_image; import sys; "
        "print(check_image(sys.argv[1]).upright, read_image(sys.argv[1]).shape)"
    )

    def with_limit(limit):
        return subprocess.run(
            [sys.executable, "-c", program, str(path)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            env={"MNV2_MOST_PIXELS": limit, "PATH": ""},
            check=False,
        )

    assert with_limit("195000000").stdout == "(13000, 15000) (13000, 15000, 3)\n"
    assert "has 195,000,000 pixels, more than 194,999,998" in with_limit("194999998").stderr
    assert "MNV2_MOST_PIXELS=many: expected a number of pixels" in with_limit("many").stderr


def test_pages_of_show_and_check_have_the_white_of_the_data(tmp_path):
    image_folder(tmp_path / "data", 12)
    source = folder(root=str(tmp_path / "data"), kind="classification", on_bad="refuse", train=None, val=None)
    write_samples(source, "train", 4, tmp_path / "page.jpg")  # nothing was verified before
    assert source.white_used() == 4095
    with Image.open(tmp_path / "page.jpg") as page:
        assert np.percentile(np.asarray(page.convert("L")), 90) > 200


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_black_pictures_and_dark_splits_of_8_bits_are_told(tmp_path, suffix):
    noise = np.random.default_rng(0)

    def described(values):
        for split in ("train", "val"):
            for label in ("a", "b"):
                for i, most in enumerate(values):
                    path = tmp_path / split / label / f"{i}{suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(noise.integers(0, most + 1, (32, 32, 3), np.uint8)).save(path)
        source = folder(root=str(tmp_path), kind="classification", on_bad="refuse", train=None, val=None)
        source.prepare(("train", "val"))
        return source.describe()

    assert described([255, 40]) == "ImageFolder, 2 classes, 4 / 4 images"
    told = described([255, 1])
    assert "; 2 images of train black or nearly so: 1." in told and "val black" in told
    dark = r"; 4 images of train all dark, with values up to \d+ of 255: 0\..* 4 images of val all dark"
    assert re.search(dark, described([15, 40]))
