import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.sources import find_images, read_image


@pytest.fixture
def photo(tmp_path):
    """A 40 x 30 JPEG, black but for a red left upper corner, with some noise so that it has bytes to lose."""
    pixels = np.random.default_rng(0).integers(0, 60, (30, 40, 3), np.uint8)
    pixels[:15, :20] = (250, 10, 10)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    return path


def write_files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, format="PNG")


def test_a_file_is_itself(photo):
    assert find_images(str(photo)) == [photo]


def test_a_folder_gives_all_images_below_it_in_order(tmp_path):
    write_files(tmp_path, "b.JPG", "a.png", "sub/c.jpeg", ".hidden/d.png", "._a.png")
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_images(str(tmp_path))] == ["a.png", "b.JPG", "c.jpeg"]


def test_skipped_files_are_counted_in_the_log(tmp_path, caplog):
    write_files(tmp_path, "a.png")
    (tmp_path / "b.heic").touch()
    (tmp_path / "c.HEIC").touch()
    (tmp_path / "clip.mp4").touch()
    find_images(str(tmp_path))
    assert "skipped files that are no images: 2 .heic, 1 .mp4" in caplog.text


def test_a_pattern_is_expanded(tmp_path):
    write_files(tmp_path, "x/a.png", "x/b.jpg", "y/deep/c.png")
    assert [path.name for path in find_images(f"{tmp_path}/*/*.png")] == ["a.png"]
    assert [path.name for path in find_images(f"{tmp_path}/**/*.png")] == ["a.png", "c.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_found(tmp_path):
    write_files(tmp_path, "img[1].png")
    assert len(find_images(f"{tmp_path}/img[1].png")) == 1


def test_a_missing_path_is_named():
    with pytest.raises(ConfigError, match=r"source=no/such\.jpg: no such file or folder"):
        find_images("no/such.jpg")


def test_an_empty_folder_is_named_with_the_accepted_kinds(tmp_path):
    with pytest.raises(ConfigError, match=r"the folder has no images, nor any files \(accepted: \.jpg \.jpeg \.png"):
        find_images(str(tmp_path))


def test_a_pattern_without_images_says_what_it_met(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match="the pattern has no images, only 1 .txt"):
        find_images(f"{tmp_path}/*")


def test_a_file_of_another_kind_is_refused_with_the_accepted_kinds(tmp_path):
    (tmp_path / "a.pdf").touch()
    with pytest.raises(ConfigError, match=r"\.pdf is not an image \(accepted: \.jpg"):
        find_images(str(tmp_path / "a.pdf"))


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_video_is_refused_with_the_way_to_extract_frames(tmp_path, as_folder):
    (tmp_path / "clip.MP4").touch()
    with pytest.raises(ConfigError, match=r"video is not supported yet.*ffmpeg -i clip\.MP4"):
        find_images(str(tmp_path if as_folder else tmp_path / "clip.MP4"))


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
        read_image(path)


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match=r"a\.jpg: is empty"):
        read_image(tmp_path / "a.jpg")


def test_a_text_that_is_called_jpg_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"a\.jpg: is not an image, whatever its name says"):
        read_image(tmp_path / "a.jpg")


def test_a_file_that_vanished_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.jpg: cannot be opened \(No such file"):
        read_image(tmp_path / "a.jpg")
