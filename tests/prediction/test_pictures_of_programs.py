"""What Python holds pictures in, read as the file of the same picture is."""

import socket
import threading
import warnings

import numpy as np
import pytest
import torch
from loopback import serving
from PIL import Image

from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.images.unwarned import unwarned
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction import sources
from mnv2_tasks.prediction.sources import inputs_of

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GREY = np.repeat(PIXELS[..., :1], 3, axis=2)


def read(source):
    return [picture.read() for picture in inputs_of(source)]


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    return path


def test_path_bytes_pil_array_and_tensor_of_one_picture_are_the_same(png):
    content = png.read_bytes()
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    alike = [png, str(png), content, bytearray(content), memoryview(content), PIXELS, tensor, tensor.contiguous()]
    with Image.open(png) as opened:
        for source in (*alike, opened, opened.copy(), Image.fromarray(PIXELS).convert("RGBA")):
            (pixels,) = read(source)
            assert pixels.dtype == np.uint8 and (pixels == PIXELS).all()
        assert all((pixels == PIXELS).all() for pixels in read([*alike, opened]))


@pytest.mark.parametrize(
    "source, expected",
    [
        (PIXELS[..., 0], GREY),
        (PIXELS[..., :1], GREY),
        (np.dstack([PIXELS, PIXELS[..., 0]]), PIXELS),
        (PIXELS[::-1, ::2], PIXELS[::-1, ::2]),
        (torch.from_numpy(PIXELS[..., 0].copy()), GREY),
        (torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)[:1], GREY),
        (Image.fromarray(PIXELS[..., 0]), GREY),
        (Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256), GREY),
    ],
)
def test_grey_transparent_and_reversed_pictures_become_rgb(source, expected):
    (pixels,) = read(source)
    assert (pixels == expected).all() and pixels.flags.c_contiguous


def test_pil_picture_is_turned_as_its_file_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "a.png", "a.tif"):
        Image.fromarray(np.repeat(np.repeat(PIXELS, 8, 0), 8, 1)).save(tmp_path / name, exif=exif)
        expected = read_image(tmp_path / name)
        with Image.open(tmp_path / name) as opened:
            (lazily,), _ = read(opened), opened.load()
            (loaded,) = read(opened)
        assert expected.shape == (64, 48, 3)
        for pixels in (lazily, loaded):
            assert np.abs(pixels.astype(int) - expected).mean() < 3, name


def test_iterator_is_read_picture_by_picture_though_it_fills_one_buffer_again():
    buffer = np.zeros((4, 4, 3), np.uint8)

    def frames():
        for value in (1, 2, 3):
            buffer[:] = value
            yield buffer

    images = [picture.read() for picture in inputs_of(frames())]
    assert [int(image.max()) for image in images] == [1, 2, 3]


@pytest.mark.parametrize(
    "array, said",
    [
        (PIXELS / np.float32(255), r"\(6, 8, 3\) of float32; expected uint8.*\(255 \* picture\)\.round\(\)\.astype"),
        (PIXELS.astype(np.float64), r"float64; expected uint8, 0 to 255; picture\.round\(\)\.astype\(np\.uint8\)"),
        (PIXELS / 100.0 - 1, "before they were normalised"),
        (np.full((4, 4, 3), np.nan), "NaN or infinite"),
        (PIXELS.astype(np.int64), r"int64; expected uint8, 0 to 255; picture\.astype\(np\.uint8\) makes it so"),
        (PIXELS.astype(np.uint16) * 257, r"uint16; expected uint8.*picture // 257"),
        (PIXELS > 100, "bool; expected uint8.*255"),
        (PIXELS.astype(object), "object; expected uint8"),
        (PIXELS.transpose(2, 0, 1), r"\(3, 6, 8\) of uint8; expected uint8 RGB \(H, W, 3\).*\.transpose\(1, 2, 0\)"),
        (PIXELS[..., :2], r"expected uint8 RGB \(H, W, 3\), or grey"),
        (PIXELS[None], r"looks like a batch; give a list of its pictures, list\(batch\)"),
        (PIXELS[0, 0], r"array \(3,\) of uint8; expected"),
        (PIXELS[:0], "which has no pixels"),
        (np.zeros((0, 0)), "which has no pixels"),
        (torch.from_numpy(PIXELS.copy()), r"expected uint8 RGB \(3, H, W\).*\.permute\(2, 0, 1\)"),
        (torch.rand(3, 4, 4), r"a tensor \(3, 4, 4\) of float32.*\.to\(torch\.uint8\)"),
        (torch.rand(3, 4, 4, dtype=torch.bfloat16, requires_grad=True), "of bfloat16; expected uint8"),
        (b"", r"is empty \(0 bytes\)"),
        (b"no picture", "is not an image"),
    ],
)
def test_what_is_no_picture_is_told_with_what_is_expected(array, said):
    with pytest.raises(DataError, match=said) as raised:
        read(array)
    assert str(raised.value).startswith("picture: ") and "\n" not in str(raised.value)
    with pytest.raises(DataError, match="^picture 1: "):
        read([PIXELS, array])


@pytest.mark.parametrize("source", [3, None, {"a": PIXELS}, [3], [[PIXELS]]])
def test_another_type_is_refused_with_what_is_taken(source):
    with pytest.raises(ConfigError, match=r"(int|NoneType|dict|list)\b.*expected the path or the URL of a picture"):
        read(source)


def test_damaged_file_that_pillow_has_opened_is_told(photo):
    photo.write_bytes(photo.read_bytes()[:-200])
    with Image.open(photo) as opened, pytest.raises(DataError, match=r"photo\.jpg: is damaged or cut short"):
        read(opened)


def test_url_is_fetched_and_leaves_nothing(png, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    with serving({"a.png": png.read_bytes(), "b.png": b"<html>"}, monkeypatch) as server:
        (pixels,) = read(server.url("a.png"))
        assert (pixels == PIXELS).all()
        with pytest.raises(DataError, match=r"http://.*b\.png: is not an image"):
            read([server.url("b.png")])
    assert not list((tmp_path / "temporary").iterdir())


def test_url_of_several_pictures_is_told_to_be_saved(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with serving({"a.gif": (tmp_path / "a.gif").read_bytes()}, monkeypatch) as server:
        with pytest.raises(DataError, match=r"a\.gif: has 2 pictures; save it, and name its file"):
            read(server.url("a.gif"))


@pytest.mark.parametrize("declares", [True, False])
def test_url_of_something_too_large_is_left_alone(declares, monkeypatch):
    monkeypatch.setattr(sources, "MOST_FETCHED", 1000)
    with serving({"a.png": bytes(5000)}, monkeypatch) as server:
        server.declares = declares
        with pytest.raises(
            DataError, match=r"a\.png: is larger than 1\.0 kB, the most that is fetched here\. Look"
        ) as e:
            read(server.url("a.png"))
    assert "\n" not in str(e.value)


def test_url_that_does_not_answer_or_has_nothing_is_one_line(monkeypatch):
    monkeypatch.setattr("mnv2_tasks.data.download.fetch.PAUSES", (0, 0))
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(DataError, match=r"a\.png: no connection .*or save the picture and name its file"):
            read(f"http://127.0.0.1:{closed.getsockname()[1]}/a.png")
    with serving({}, monkeypatch) as server, pytest.raises(DataError, match="the server answers 404 Not Found"):
        read(server.url("a.png"))


def test_warnings_are_as_before_once_all_threads_have_read():
    before = list(warnings.filters)
    inside, leave = threading.Barrier(3), [threading.Event(), threading.Event()]

    def work(number):
        with unwarned():
            inside.wait()
            warnings.warn("unheard", stacklevel=1)
            leave[number].wait()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    for event, thread in zip(leave, threads):  # the one that came first leaves first
        event.set()
        thread.join()
    assert warnings.filters == before
