"""A picture is the upright one wherever it is read, and its boxes and masks lie on the same pixels."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.images.decode import check_image, read_image, read_mask, upright_size
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.shards import shards
from mnv2_tasks.prediction.sources import find_inputs

FORMATS = {"jpg": {"quality": 100, "subsampling": 0}, "png": {}, "webp": {"lossless": True}, "tif": {}}
SIDEWAYS, SQUARE = (32, 48), (40, 40)  # height, width as stored
BACK = {6: 8, 8: 6}


def scene(size):
    """Black, but for a red left upper corner and a green right one, which tell every orientation from the others."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[: size[0] // 2, : size[1] // 2] = (250, 0, 0)
    pixels[: size[0] // 2, size[1] // 2 :] = (0, 250, 0)
    return pixels


def turned(pixels, orientation):
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.array(ImageOps.exif_transpose(image))


def save(path, pixels, orientation, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **{**FORMATS[path.suffix[1:]], **options})


def close(image, expected):
    return image.shape == expected.shape and np.abs(image.astype(int) - expected).max() < 40


@pytest.mark.parametrize("size", [SIDEWAYS, SQUARE])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_and_orientation_is_read_upright(tmp_path, kind, orientation, size):
    path = tmp_path / f"a.{kind}"
    save(path, scene(size), orientation)
    upright = turned(scene(size), orientation)
    assert upright_size(path) == check_image(path).upright == upright.shape[:2]
    assert check_image(path).stored == size
    assert close(read_image(path), upright)
    assert close(read_image(path, upright.shape[:2]), upright)
    assert close(find_inputs(str(path))[0].read(), upright)
    if upright.shape[:2] != size:
        assert close(read_image(path, size), scene(size))  # annotations that can only belong to the stored pixels


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_training_validation_and_prediction_see_one_picture(tmp_path, kind):
    for split in ("train", "val"):
        for orientation in range(1, 9):
            pixels = scene(SIDEWAYS)
            pixels[-1] = 2 * orientation + (split == "val")  # all different
            save(tmp_path / split / "ab"[orientation > 4] / f"{orientation}.{kind}", pixels, orientation)
    source = folder(root=str(tmp_path), kind="classification", on_bad="refuse", train=None, val=None)
    source.prepare(("train", "val"))
    for split in ("train", "val"):
        for index in range(8):
            expected = turned(scene(SIDEWAYS), index + 1)
            assert close(source.sample(split, 0, index).image, expected)
            assert close(find_inputs(source.verified(split)[0].files[index])[0].read(), expected)
    assert "not turned" not in source.describe()


def test_a_png_whose_exif_stands_behind_its_pixels_and_one_with_a_damaged_tag(tmp_path):
    save(tmp_path / "a.png", scene(SIDEWAYS), 6)
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    (tmp_path / "a.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    assert upright_size(tmp_path / "a.png") == check_image(tmp_path / "a.png").upright == (48, 32)
    assert close(read_image(tmp_path / "a.png"), turned(scene(SIDEWAYS), 6))
    Image.fromarray(scene(SIDEWAYS)).save(tmp_path / "b.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert check_image(tmp_path / "b.jpg").orientation == 1 and read_image(tmp_path / "b.jpg").shape[:2] == SIDEWAYS


def coco(root, orientation, size, stated, split):
    """One picture whose red corner is a box, in the pixels of a picture of the size that is stated."""
    pixels = scene(size)
    pixels[-1] = {"train": 1, "val": 2}[split]
    save(root / "images" / split / "a.jpg", pixels, orientation)
    frame = pixels if stated == "stored" else turned(pixels, orientation)
    rows, columns = np.nonzero(frame[..., 0] > 200)
    box = [int(v) for v in (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)]
    (root / "annotations").mkdir(exist_ok=True)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": frame.shape[0], "width": frame.shape[1]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box}],
        "categories": [{"id": 1, "name": "corner"}],
    }
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


def box_is_red(sample):
    x0, y0, x1, y1 = sample.boxes[0].astype(int)
    inside = sample.image[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
    return (inside[..., 0] > 200).all() and (sample.image[..., 0] > 200).sum() <= (x1 - x0) * (y1 - y0)


@pytest.mark.parametrize("size, stated", [(SIDEWAYS, "upright"), (SIDEWAYS, "stored"), (SQUARE, "upright")])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_boxes_lie_on_their_pixels_in_files_and_in_shards(tmp_path, orientation, size, stated):
    if stated == "stored" and orientation < 5:
        return  # the sizes are the same: nothing says that the annotations are not those of the upright picture
    for split in ("train", "val"):
        coco(tmp_path / "data", orientation, size, stated, split)
    source = folder(root=str(tmp_path / "data"), kind="detection", on_bad="refuse", train=None, val=None)
    source.prepare(("train", "val"))
    pack(source, ("train", "val"), tmp_path / "packed")
    for data in (source, shards(root=str(tmp_path / "packed"), kind="detection")):
        for split in ("train", "val"):
            assert box_is_red(data.sample(split, 0, 0))
    said = "1 image of train not turned upright, as annotated in stored pixels: a.jpg"
    assert (said in source.describe()) == (stated == "stored")


@pytest.mark.parametrize("frame", ["upright", "stored", "own tag"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_masks_lie_on_their_pixels(tmp_path, orientation, frame):
    if frame == "stored" and orientation < 5:
        return
    for number, split in enumerate(("train", "val")):
        pixels = scene(SIDEWAYS)
        pixels[-1] = number
        save(tmp_path / "images" / split / "a.jpg", pixels, orientation)
        mask = (pixels[..., 0] > 200).astype(np.uint8)
        mask = turned(mask, orientation) if frame == "upright" else mask
        save(tmp_path / "masks" / split / "a.png", mask, orientation if frame == "own tag" else 1)
    (tmp_path / "classes.txt").write_text("background\ncorner\n")
    source = folder(root=str(tmp_path), kind="segmentation", on_bad="refuse", train=None, val=None)
    source.prepare(("train", "val"))
    for split in ("train", "val"):
        sample = source.sample(split, 0, 0)
        assert sample.mask.shape == sample.image.shape[:2]
        assert ((sample.image[..., 0] > 125) == (sample.mask == 1)).mean() > 0.98
    assert ("not turned upright" in source.describe()) == (frame == "stored")


def test_a_mask_with_a_tag_of_its_own_is_turned_whatever_its_kind_of_pixels(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 2
    for mode in ("L", "P", "1"):
        image, exif = Image.fromarray(mask * (255 if mode == "1" else 1)).convert(mode), Image.Exif()
        exif[0x0112] = 6
        for kind in ("png", "tif"):
            image.save(tmp_path / f"a.{kind}", exif=exif)
            assert (read_mask(tmp_path / f"a.{kind}") == turned(mask, 6)).all()
