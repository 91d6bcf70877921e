import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.data.images.decode import check_image, read_image, read_mask
from mnv2_tasks.errors import DataError


def test_a_photo_is_read_as_rgb(photo):
    image = read_image(photo)
    assert image.shape == (30, 40, 3) and image.dtype == np.uint8
    assert image[5, 5, 0] > 200 > 60 > image[5, 5, 2]


def test_a_photo_taken_sideways_is_turned_upright(photo, tmp_path):
    with Image.open(photo) as image:
        exif = image.getexif()
        exif[0x0112] = 6  # the top of the scene is on the right of the file
        image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "turned.jpg")
    assert image.shape == (40, 30, 3)
    assert image[5, 25, 0] > 200 > image[35, 5, 0]  # the red corner is now right above


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16", "CMYK"])
def test_every_kind_of_pixels_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (5, 4)).save(path)
    assert read_image(path).shape == (4, 5, 3)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_file_cut_short_is_an_error(photo, tmp_path, kind, kept):
    path = tmp_path / f"cut.{kind}"
    with Image.open(photo) as image:
        image.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=f"cut.{kind}: is (damaged or cut short|not an image)"):
        check_image(path)


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match=r"a\.jpg: is empty"):
        read_image(tmp_path / "a.jpg")


def test_a_text_that_is_called_jpg_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"a\.jpg: is not an image, whatever its name says"):
        check_image(tmp_path / "a.jpg")


def test_a_file_that_vanished_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.jpg: cannot be opened \(No such file"):
        read_image(tmp_path / "a.jpg")


def test_sixteen_bits_keep_their_brightness(tmp_path):
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert abs(int(read_image(tmp_path / "deep.png").mean()) - 40_000 // 256) <= 1


def test_a_picture_is_left_as_stored_where_its_annotations_are_in_stored_pixels(photo, tmp_path):
    with Image.open(photo) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert read_image(tmp_path / "turned.jpg", annotated=(30, 40)).shape == (30, 40, 3)
    assert read_image(tmp_path / "turned.jpg", annotated=(40, 30)).shape == (40, 30, 3)
    header = check_image(tmp_path / "turned.jpg")
    assert (header.stored, header.upright) == ((30, 40), (40, 30))


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_keep_their_indices(tmp_path, mode):
    indices = np.array([[0, 1, 2], [20, 255, 7]], np.uint8)
    image = Image.fromarray(indices)
    if mode == "P":
        image.putpalette([(i * 7) % 256 for i in range(768)])
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), indices)


def test_a_mask_of_colours_is_refused_with_a_remedy(tmp_path):
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png: has colours \(mode RGB\).*class index per pixel"):
        read_mask(tmp_path / "mask.png")


@pytest.fixture
def large(tmp_path):
    """A smooth photo of 400 x 600 pixels (height, width)."""
    rows, columns = np.mgrid[:400, :600]
    path = tmp_path / "large.jpg"
    Image.fromarray(np.stack([rows // 2, columns // 3, rows // 4], axis=2).astype(np.uint8)).save(path, quality=95)
    return path


@pytest.mark.parametrize("least, factor", [(None, 1), (201, 1), (200, 2), (101, 2), (100, 4), (50, 8), (1, 8)])
def test_a_large_photo_is_decoded_no_smaller_than_is_needed(large, least, factor):
    image = read_image(large, (400, 600), least=least)
    assert image.shape == (400 // factor, 600 // factor, 3)
    whole = read_image(large).reshape(400 // factor, factor, 600 // factor, factor, 3).mean((1, 3))
    assert np.abs(image - whole).max() < 4


def test_a_reduced_photo_is_turned_as_a_whole_one(large):
    with Image.open(large) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(large, exif=exif)
    assert read_image(large, (600, 400), least=100).shape == (150, 100, 3)  # annotated upright
    assert read_image(large, (400, 600), least=100).shape == (100, 150, 3)  # and as stored


def test_only_jpegs_are_reduced(large):
    with Image.open(large) as image:
        image.save(large.with_suffix(".png"))
    assert read_image(large.with_suffix(".png"), (400, 600), least=10).shape == (400, 600, 3)
