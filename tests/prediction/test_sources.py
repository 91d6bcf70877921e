import io
import os

import pytest
from PIL import Image

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images import page_files
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.inputs import find_images, names_in
from mnv2_tasks.prediction.sources import find_inputs


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
def test_a_video_among_pictures_is_refused_with_the_way_to_predict_it(tmp_path, as_folder):
    (tmp_path / "clip.MP4").touch()
    with pytest.raises(ConfigError, match=r"clip\.MP4: is a video, .* one at a time.*model\.predict\(frames"):
        find_images(str(tmp_path if as_folder else tmp_path / "clip.MP4"))


def test_pages_and_frames_are_pictures_of_their_own_and_a_broken_file_is_one(tmp_path):
    colours = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green", "blue")]
    for name in ("a.gif", "b.tif"):
        colours[0].save(tmp_path / name, save_all=True, append_images=colours[1:])
    write_files(tmp_path, "c.png", "d.jpg")
    (tmp_path / "e.tif").write_bytes(b"II*\0 no TIFF")
    (tmp_path / "f.png").touch()
    inputs = find_inputs(str(tmp_path))
    names = [item.name.removeprefix(f"{tmp_path}/") for item in inputs]
    assert names[:6] == [f"a.gif, frame {n}" for n in (1, 2, 3)] + [f"b.tif, page {n}" for n in (1, 2, 3)]
    assert names[6:] == ["c.png", "d.jpg", "e.tif", "f.png"]
    assert inputs[5].read(255)[0, 0].tolist() == [0, 0, 255]
    with pytest.raises(DataError, match="e.tif: is a TIFF whose .* or damaged"):
        inputs[8].read(255)
    with pytest.raises(DataError, match=r"f.png: is empty \(0 bytes\)"):
        inputs[9].read(255)


def test_files_with_more_pages_than_anyone_has_are_told_when_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(page_files, "MOST_PAGES", 1)
    two = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green")]
    two[0].save(tmp_path / "a.gif", save_all=True, append_images=two[1:])
    (only,) = find_inputs(str(tmp_path))
    with pytest.raises(DataError, match="a.gif: has more than 1 pages"):
        only.read(255)


def test_ordinary_jpegs_are_not_opened_to_count_their_pages(tmp_path, monkeypatch):
    write_files(tmp_path, "a.jpg", "b.bmp")
    monkeypatch.setattr(Image, "open", None)
    assert len(find_inputs(str(tmp_path))) == 2


def test_a_list_in_brackets_names_files_folders_patterns_and_urls(tmp_path):
    write_files(tmp_path, "a.png", "b, c.png", "d's.png", "sub/e.png", "sub/f.png")
    words = f"[{tmp_path}/a.png, '{tmp_path}/b, c.png',{tmp_path}/d's.png,{tmp_path}/sub,http://x/y.png]"
    names = [item.name.rpartition("/")[2] for item in find_inputs(words)]
    assert names == ["a.png", "b, c.png", "d's.png", "e.png", "f.png", "y.png"]
    with pytest.raises(ConfigError, match=r"source=no\.jpg: no such file"):
        find_inputs(f"[{tmp_path}/a.png,no.jpg]")
    with pytest.raises(ConfigError, match=r"source=\[ \]: is an empty list; say source=\[a\.jpg,b\.jpg\]"):
        find_inputs("[ ]")


def test_a_list_reaches_the_tool_as_it_was_typed(tmp_path):
    words = f"[{tmp_path}/a b.png,'{tmp_path}/c,d=1.png']"
    assert names_in(compose("predict", [f"source={words}"]).source) == [f"{tmp_path}/a b.png", f"{tmp_path}/c,d=1.png"]


def test_files_whose_names_look_like_a_list_or_a_dash_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").mkdir()
    write_files(tmp_path, "[a,b].png", "-/c.png")
    (tmp_path / "[d,e]").mkdir()
    assert names_in("[d,e]") == ["[d,e]"] and [path.name for path in find_images("[a,b].png")] == ["[a,b].png"]
    assert [item.name for item in find_inputs("-")] == [os.path.join("-", "c.png")]


def piped(monkeypatch, content, terminal=False):
    stdin = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    stdin.isatty = lambda: terminal
    monkeypatch.setattr("sys.stdin", stdin)


def test_a_dash_reads_names_one_a_line_from_what_is_piped_in(tmp_path, monkeypatch):
    strange = os.fsdecode(b"caf\xe9.png")  # a name that is no UTF-8
    write_files(tmp_path, "a b.png", "x,y.png", strange, "sub/e.png")
    lines = ["a b.png", "x,y.png\r", strange, "", "sub"]
    monkeypatch.chdir(tmp_path)
    piped(monkeypatch, os.fsencode("\n".join([*lines, "https://x/y.png"])))
    names = [item.name for item in find_inputs("-")]
    assert names == ["a b.png", "x,y.png", strange, os.path.join("sub", "e.png"), "https://x/y.png"]


def test_a_dash_with_nothing_piped_in_says_how(monkeypatch):
    piped(monkeypatch, b"", terminal=True)
    with pytest.raises(ConfigError, match=r"source=-: reads paths and URLs, one a line.*find photos .* \| python") as e:
        find_inputs("-")
    assert "\n" not in str(e.value)
    piped(monkeypatch, b"\n")
    with pytest.raises(ConfigError, match="source=-: nothing came in"):
        find_inputs("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigError, match="source=-: reads paths"):
        find_inputs("-")
