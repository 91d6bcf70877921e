import hashlib
import io
from pathlib import Path

import pytest
from loopback import serving
from rich.console import Console
from test_archives import entry, files_below, tar_bytes, zip_bytes

from mnv2_tasks.data.download import fetch as downloading
from mnv2_tasks.data.download import published
from mnv2_tasks.data.download.fetch import fetch
from mnv2_tasks.data.download.published import PublishedFile, download, how_to_get, unpack_imagenet
from mnv2_tasks.errors import ConfigError

BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()
SIZE = len(BODY)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSES", (0, 0, 0))
    with serving({"set.zip": BODY}, monkeypatch) as server:
        yield server


@pytest.fixture
def console():
    return Console(file=io.StringIO())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "set.zip"


def get(server, path, console, name="set.zip", size=SIZE, checksum=f"md5:{MD5}"):
    return fetch(server.url(name), path, size=size, checksum=checksum, console=console)


def part(path):
    return path.with_name(path.name + ".part")


def said(console):
    return console.file.getvalue()


def test_a_file_arrives_under_its_own_name(server, path, console):
    assert get(server, path, console) == path
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    assert "set.zip: 102.4 kB fetched, checksum verified" in said(console)


def test_a_terminal_shows_progress(server, path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)

    get(server, path, console)
    assert "102.4/102.4 kB" in said(console)


def test_a_dropped_connection_goes_on_where_it_broke(server, path, console):
    server.cuts = [1000, 50_000]

    get(server, path, console)
    assert path.read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", "bytes=51000-"]
    assert "set.zip: the connection dropped at 1.0 kB; next try in 0 s" in said(console)


def test_drops_are_forgiven_as_long_as_each_attempt_gets_further(server, path, console):
    server.cuts = [5000] * 15

    get(server, path, console)
    assert path.read_bytes() == BODY


def test_another_run_goes_on_where_the_last_one_gave_up(server, path, console):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(ConfigError, match=r"dropped, 3 attempts in a row; 1.0 kB are kept.*curl -L -C - -o .*set.zip"):
        get(server, path, console)
    assert not path.exists() and part(path).read_bytes() == BODY[:1000]

    get(server, path, console)
    assert path.read_bytes() == BODY
    assert server.asked[-1] == "bytes=1000-"


def test_a_server_that_cannot_resume_is_asked_for_all_of_it(server, path, console):
    server.resumes, server.cuts = False, [1000]

    get(server, path, console)
    assert path.read_bytes() == BODY
    assert "set.zip: the server cannot resume; starting over" in said(console)


def test_a_server_that_never_gets_to_the_end_is_given_up(server, path, console):
    server.resumes, server.cuts = False, [1000] * 100

    with pytest.raises(ConfigError, match="3 attempts in a row"):
        get(server, path, console)


def test_a_complete_part_is_only_verified(server, path, console):
    path.parent.mkdir()
    part(path).write_bytes(BODY)

    get(server, path, console)
    assert path.read_bytes() == BODY and server.asked == []


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_part_that_is_too_long_is_replaced(server, path, console, size):
    path.parent.mkdir()
    part(path).write_bytes(BODY + b"more")

    get(server, path, console, size=size)
    assert path.read_bytes() == BODY
    assert "starting over" in said(console)


def test_a_file_that_is_there_is_not_fetched_again(server, path, console):
    get(server, path, console)
    get(server, path, console)

    assert len(server.asked) == 1
    assert "set.zip: already there" in said(console)


@pytest.mark.parametrize(
    "content, reason",
    [(BODY[:7], r"has 7 bytes, published are 102,400"), (BODY[::-1], rf"damaged, it has md5 \w+, published is {MD5}")],
)
def test_another_file_of_that_name_is_left_to_the_user(server, path, console, content, reason):
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"{reason}. Delete it and run this again"):
        get(server, path, console)
    assert path.read_bytes() == content and server.asked == []


def test_a_wrong_checksum_names_both_and_removes_the_file(server, path, console):
    server.files["set.zip"] = BODY[::-1]
    actual = hashlib.md5(BODY[::-1]).hexdigest()

    with pytest.raises(ConfigError, match=f"set.zip.*arrived has md5 {actual}, published is {MD5}; it was removed"):
        get(server, path, console)
    assert list(path.parent.iterdir()) == []


def test_a_file_of_another_size_is_refused_before_it_is_fetched(server, path, console):
    server.files["set.zip"] = b"<html>please log in</html>"

    with pytest.raises(ConfigError, match="the server offers 26 bytes, published are 102,400: another file"):
        get(server, path, console)
    assert not path.parent.exists()


def test_a_server_that_sends_without_end_is_stopped(server, path, console):
    server.declares, server.files["set.zip"] = False, BODY * 2

    with pytest.raises(ConfigError, match="sends more than the 102,400 bytes"):
        get(server, path, console)
    assert not path.exists()


def test_a_body_cut_short_without_a_declared_length_is_noticed(server, path, console):
    server.declares, server.cuts = False, [1000]

    get(server, path, console)
    assert path.read_bytes() == BODY and len(server.asked) == 2


def test_size_and_checksum_need_not_be_known(server, path, console):
    server.cuts = [1000]

    get(server, path, console, size=None, checksum=None)
    assert path.read_bytes() == BODY


def test_a_missing_file_names_address_place_and_a_way_out(server, path, console):
    with pytest.raises(
        ConfigError, match=rf"/pub/gone.zip -> {path}: the server answers 404 Not Found.*curl -L -C - -o"
    ):
        get(server, path, console, name="gone.zip")
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server, path, console):
    server.failures = [503, 429]

    get(server, path, console)
    assert path.read_bytes() == BODY


def test_no_network_is_said_after_some_attempts(server, path, console):
    server.server_close()

    with pytest.raises(ConfigError, match=r"no connection .*refused.*, 3 attempts in a row.*curl"):
        get(server, path, console)


def test_a_full_disk_is_noticed_beforehand(server, path, console, monkeypatch):
    monkeypatch.setattr(downloading, "free_space", lambda folder: 100)

    with pytest.raises(
        ConfigError, match=r"the rest of set.zip needs 102.4 kB, the disk has 100 bytes free. Make room"
    ):
        get(server, path, console)
    assert not path.parent.exists()


def test_a_place_that_cannot_be_written_is_named(server, tmp_path, console):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ConfigError, match=r"set.zip.part cannot be written"):
        get(server, tmp_path / "file" / "set.zip", console)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/set.zip"])
def test_only_web_addresses_are_fetched(url, path, console):
    with pytest.raises(ConfigError, match="only http and https"):
        fetch(url, path, size=None, checksum=None, console=console)


# whole data sets


def publish(server, name, content, holds, **fields):
    server.files[name] = content
    return PublishedFile(server.url(name), len(content), f"md5:{hashlib.md5(content).hexdigest()}", holds, **fields)


@pytest.fixture
def coco(server, monkeypatch):
    pictures = {"val2017/1.jpg": b"one", "val2017/2.jpg": b"two"}
    annotations = {"annotations/instances_val2017.json": b"{}"}
    files = (
        publish(server, "annotations.zip", zip_bytes(*annotations.items()), {"annotations": 1}),
        publish(server, "val2017.zip", zip_bytes(*pictures.items()), {"val2017": 2})._replace(checksum=None),
    )
    monkeypatch.setitem(published.PUBLISHED, "coco", files)
    return {**pictures, **annotations}


def test_coco_is_fetched_and_unpacked(server, coco, tmp_path, console):
    download("coco", tmp_path, keep=False, console=console)

    assert files_below(tmp_path) == coco
    assert "val2017.zip: 2 files unpacked" in said(console)
    assert f"data=coco is complete in {tmp_path}" in said(console)


@pytest.mark.parametrize("keep", [True, False])
def test_a_complete_set_is_not_fetched_again(server, coco, tmp_path, console, keep):
    download("coco", tmp_path, keep=keep, console=console)
    assert (tmp_path / "val2017.zip").exists() is keep
    download("coco", tmp_path, keep=keep, console=console)

    assert len(server.asked) == 2
    assert ("no longer needed" in said(console)) is keep


def test_a_set_goes_on_after_its_second_file_failed(server, coco, tmp_path, console):
    val = server.files.pop("val2017.zip")
    with pytest.raises(ConfigError, match="404"):
        download("coco", tmp_path, keep=False, console=console)
    server.files["val2017.zip"] = val

    download("coco", tmp_path, keep=False, console=console)
    assert files_below(tmp_path) == coco
    assert len(server.asked) == 3


def test_a_set_that_does_not_fit_is_refused_before_it_is_fetched(server, coco, tmp_path, console, monkeypatch):
    monkeypatch.setattr(downloading, "free_space", lambda folder: 10)

    with pytest.raises(ConfigError, match="data=coco, archives and unpacked, needs .* free"):
        download("coco", tmp_path, keep=True, console=console)
    assert server.asked == []


def test_voc_comes_with_sbd_and_its_masks(server, tmp_path, console, monkeypatch):
    voc = {f"VOCdevkit/VOC2012/{place}": place.encode() for place in ("JPEGImages/1.jpg", "SegmentationClass/1.png")}
    sbd = {f"benchmark_RELEASE/dataset/{place}": place.encode() for place in ("cls/2.mat", "img/2.jpg", "train.txt")}
    files = (
        publish(server, "voc.tar", tar_bytes(*(entry(*file) for file in voc.items())), {"VOCdevkit/VOC2012": 2}),
        publish(
            server,
            "sbd.tgz",
            tar_bytes(*(entry(*file) for file in sbd.items()), mode="w:gz"),
            {"benchmark_RELEASE/dataset/cls": 1},
        ),
    )
    monkeypatch.setitem(published.PUBLISHED, "voc", files)

    download("voc", tmp_path, keep=False, console=console)
    assert files_below(tmp_path) == {**voc, **sbd}


@pytest.fixture
def imagenet(server, tmp_path, monkeypatch):
    devkit = {"ILSVRC2012_devkit_t12/data/meta.mat": b"5.0", "ILSVRC2012_devkit_t12/data/truth.txt": b"490"}
    val = {"ILSVRC2012_val_00000001.JPEG": b"val"}
    classes = {wnid: tar_bytes(entry(f"{wnid}_7.JPEG", wnid.encode())) for wnid in ("n01440764", "n01443537")}
    archives = {
        "devkit.tar.gz": tar_bytes(*(entry(*file) for file in devkit.items()), mode="w:gz"),
        "val.tar": tar_bytes(*(entry(*file) for file in val.items())),
        "train.tar": tar_bytes(*(entry(f"{wnid}.tar", content) for wnid, content in classes.items())),
    }
    places = [
        ("devkit.tar.gz", {"ILSVRC2012_devkit_t12/data": 2}, {}),
        ("val.tar", {"val": 1}, {"into": "val"}),
        ("train.tar", {"train": 2}, {"into": "train", "tar_of_tars": True}),
    ]
    files = tuple(publish(server, name, archives[name], holds, **into) for name, holds, into in places)
    monkeypatch.setattr(published, "IMAGENET", files)
    for name, content in archives.items():
        (tmp_path / name).write_bytes(content)
    pictures = {f"train/{wnid}/{wnid}_7.JPEG": wnid.encode() for wnid in classes}
    return {**devkit, **{f"val/{name}": content for name, content in val.items()}, **pictures, **archives}


def test_the_archives_of_imagenet_become_its_folders_and_stay(imagenet, server, tmp_path, console):
    download("imagenet", tmp_path, keep=False, console=console)

    assert files_below(tmp_path) == imagenet
    assert server.asked == []
    unpack_imagenet(tmp_path, console=console)
    assert said(console).count("unpacked already") == 3


def test_imagenet_for_evaluation_needs_no_training_images(imagenet, tmp_path, console):
    (tmp_path / "train.tar").unlink()

    unpack_imagenet(tmp_path, console=console)
    assert (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").exists()
    assert f"train.tar: not in {tmp_path}, left out" in said(console)


def test_validation_images_that_the_user_sorted_stay_sorted(imagenet, tmp_path, console, monkeypatch):
    (tmp_path / "val" / "n01440764").mkdir(parents=True)
    monkeypatch.setattr(published, "IMAGENET", tuple(f._replace(holds={"val": 9}) for f in published.IMAGENET[1:2]))

    unpack_imagenet(tmp_path, console=console)
    assert [entry.name for entry in (tmp_path / "val").iterdir()] == ["n01440764"]


def test_a_damaged_archive_of_imagenet_is_not_unpacked(imagenet, tmp_path, console):
    damaged = bytearray((tmp_path / "val.tar").read_bytes())
    damaged[600] ^= 1
    (tmp_path / "val.tar").write_bytes(damaged)

    with pytest.raises(
        ConfigError, match=r"val.tar: is damaged, it has md5 .*Fetch it again from https://image-net.org"
    ):
        unpack_imagenet(tmp_path, console=console)
    assert not (tmp_path / "val").exists()


def test_imagenet_without_archives_says_how_to_get_them(tmp_path, console):
    with pytest.raises(
        ConfigError, match=r"(?s)none of ImageNet's archives.*log in.*ILSVRC2012_img_train.tar.*147.9 GB"
    ):
        download("imagenet", tmp_path, keep=False, console=console)


@pytest.mark.parametrize("name", ["coco", "voc", "imagenet"])
def test_each_set_tells_the_command_that_gets_it(name):
    assert f"python tools/data.py download data={name} data.root=/data" in how_to_get(name, "/data")
    assert "data.root='/my data'" in how_to_get(name, "/my data")
    assert "data.root=<folder>" in how_to_get(name, "<folder>")


@pytest.mark.parametrize("name, reason", [("folder", "your own files"), ("shapes", "coco, voc, imagenet")])
def test_a_set_that_is_not_published_says_which_are(name, reason, tmp_path, console):
    with pytest.raises(ConfigError, match=f"data={name} cannot be downloaded.*{reason}"):
        download(name, tmp_path, keep=False, console=console)


@pytest.mark.parametrize("file", [*published.COCO, *published.VOC, *published.IMAGENET], ids=lambda file: file.name)
def test_each_published_file_can_be_unpacked_and_recognised(file):
    assert file.url.startswith("http") and file.name.endswith((".zip", ".tar", ".tgz", ".tar.gz"))
    assert file.checksum is None or len(file.checksum.removeprefix("md5:")) == 32
    assert all(Path(folder).parts and count > 0 for folder, count in file.holds.items())
