import pytest
from PIL import Image

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.prediction.inputs import find_images


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
    with pytest.raises(ConfigError, match=r"the folder has no images, nor any files \(accepted: \.jpg \.jpeg \.jfif"):
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
