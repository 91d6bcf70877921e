"""Files of several pictures: each page and frame is one of its own."""

import struct
import threading

import cv2
import numpy as np
import pytest
from paged import FRAMES, broken, write
from PIL import Image

from mnv2_tasks.data.images import page_files
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.images.page_files import Pages
from mnv2_tasks.errors import DataError


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.png", "a.webp"])
def test_each_frame_and_page_is_the_picture_it_was_written_from(tmp_path, name):
    path = write(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    for file in (path, path.read_bytes()):
        several = Pages(file, name)
        assert several.numbers == [1, 2, 3, 4, 5]
        for number in (*several.numbers, 4, 2, 5, 1):  # in any order, and after the last one
            assert np.abs(several.read(number).astype(int) - FRAMES[number - 1]).max() <= 4
    assert several.name_of(2) == ("a.tif, page 2" if name == "a.tif" else f"{name}, frame 2")


def test_pages_are_as_files_of_their_own_turned_grey_deep_and_of_any_size(tmp_path):
    rng = np.random.default_rng(0)
    kinds = {
        "grey": Image.fromarray(rng.integers(0, 256, (8, 9), np.uint8)),
        "deep grey": Image.fromarray(rng.integers(0, 4096, (5, 7), np.uint16)),
        "cmyk": Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).convert("CMYK"),
        "palette": Image.fromarray(rng.integers(0, 256, (6, 4, 3), np.uint8)).quantize(8),
        "two colours": Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8)).convert("1"),
    }
    first, *rest = kinds.values()
    first.save(tmp_path / "all.tif", save_all=True, append_images=rest)
    several = Pages(tmp_path / "all.tif", "all.tif")
    for number, picture in enumerate(kinds.values(), start=1):
        picture.save(tmp_path / "one.tif")
        expected = read_image(tmp_path / "one.tif", white=4095)
        assert (several.read(number, white=4095) == expected).all(), number
    turned = Image.Exif()
    turned[0x0112] = 6
    write(tmp_path / "turned.tif", exif=turned)
    assert Pages(tmp_path / "turned.tif", "").read(1).shape == (16, 12, 3)


def test_colours_of_sixteen_bits_keep_them_on_every_page(tmp_path):
    frames = [np.random.default_rng(i).integers(0, 4096, (6, 5, 3)).astype(np.uint16) for i in range(3)]
    cv2.imwritemulti(str(tmp_path / "deep.tif"), [frame[..., ::-1] for frame in frames])
    several = Pages(tmp_path / "deep.tif", "deep.tif")
    for number, frame in enumerate(frames, start=1):
        assert (several.read(number, white=4095) == (frame * (255 / 4095) + 0.5).astype(np.uint8)).all()


def test_smaller_copies_and_masks_of_a_page_are_no_pages(tmp_path):
    first, *rest = [Image.fromarray(frame) for frame in FRAMES]
    rest[0].encoderinfo = {"tiffinfo": {254: 1}}
    rest[2].encoderinfo = {"tiffinfo": {254: 4}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
    several = Pages(tmp_path / "a.tif", "a.tif")
    assert several.numbers == [1, 3, 5]
    assert (several.read(3) == FRAMES[2]).all() and (several.read(5) == FRAMES[4]).all()


def test_broken_page_is_told_by_its_number_and_the_others_are_read(tmp_path):
    several = Pages(broken(tmp_path / "a.tif", 3), "a.tif")
    for number in several.numbers:
        if number == 3:
            with pytest.raises(DataError, match="^a.tif, page 3: is damaged or cut short"):
                several.read(3)
        else:
            assert (several.read(number) == FRAMES[number - 1]).all()


def test_file_whose_chain_of_pages_breaks_has_those_before(tmp_path):
    path = write(tmp_path / "a.tif")
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        image.seek(4)
        place = image._frame_pos[3]
    (entries,) = struct.unpack_from("<H", content, place)
    struct.pack_into("<I", content, place + 2 + 12 * entries, len(content) + 1000)  # where page 5 lies
    path.write_bytes(content)
    several = Pages(path, "a.tif")
    assert several.numbers[:4] == [1, 2, 3, 4] and len(several.numbers) <= 5
    assert all((several.read(number) == FRAMES[number - 1]).all() for number in (1, 2, 3, 4))
    for number in several.numbers[4:]:
        with pytest.raises(DataError, match="a.tif, page 5: is damaged"):
            several.read(number)


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.png", "a.webp"])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_end_in_pictures_or_in_one_line(tmp_path, name, seed):
    rng = np.random.default_rng(seed)
    content = bytearray(write(tmp_path / name).read_bytes())
    for place in rng.integers(0, len(content), 3):
        content[place] = rng.integers(256)
    content = bytes(content[: rng.integers(len(content) // 2, len(content) + 1)])
    try:
        several = Pages(content, name)
    except DataError as error:
        assert "\n" not in str(error)
        return
    for number in several.numbers[:20]:
        try:
            assert several.read(number).shape[2] == 3
        except DataError as error:
            assert "\n" not in str(error) and str(error).startswith(f"{name}, ")


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.png", "a.webp"])
def test_more_pages_than_anyone_has_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(page_files, "MOST_PAGES", 4)
    with pytest.raises(DataError, match=f"{name}: has more than 4 pages; split it"):
        Pages(write(tmp_path / name), name)


def test_page_of_too_many_pixels_is_refused_alone(tmp_path, monkeypatch):
    large = np.zeros((40, 40, 3), np.uint8)
    path = write(tmp_path / "a.tif", [FRAMES[0], large, FRAMES[2]])
    monkeypatch.setattr(page_files, "MOST_PIXELS", 1000)
    several = Pages(path, "a.tif")
    with pytest.raises(DataError, match="a.tif, page 2: has 40 x 40 pixels"):
        several.read(2)
    assert (several.read(3) == FRAMES[2]).all()


def test_threads_may_read_one_file(tmp_path):
    several, wrong = Pages(write(tmp_path / "a.gif"), "a.gif"), []

    def work(step):
        for turn in range(10):
            number = 1 + (turn * step) % 5
            if np.abs(several.read(number).astype(int) - FRAMES[number - 1]).max() > 4:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
