import gzip
import io
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import pytest
from rich.console import Console

from mnv2_tasks.data.download import fetch as download
from mnv2_tasks.data.download import unpack as archives
from mnv2_tasks.data.download.unpack import extract, extract_tar_of_tars
from mnv2_tasks.errors import ConfigError

CONSOLE = Console(file=io.StringIO())


def entry(name, content=b"picture", **fields):
    """A member of a tar; `fields` such as type= and linkname= make it an attack."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_bytes(*entries, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


def zip_bytes(*entries, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as zipped:
        for info, content in entries:
            zipped.writestr(info, content)
    return buffer.getvalue()


def zip_entry(name, content=b"picture", mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    return info, content


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "inside" / "target"


def unpack(tmp_path, folder, name, content, by=extract):
    archive = tmp_path / name
    archive.write_bytes(content)
    return by(archive, folder, console=CONSOLE)


def files_below(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


GOOD = {"a.jpg": b"first", "deep/er/b.jpg": b"second" * 1000, "deep/empty.txt": b""}


@pytest.mark.parametrize("name, mode", [("set.tar", "w"), ("set.tar.gz", "w:gz"), ("set.tgz", "w:gz")])
def test_a_tar_unpacks_to_its_files(tmp_path, folder, name, mode):
    folders = [entry("./", b"", type=tarfile.DIRTYPE), entry("deep", b"", type=tarfile.DIRTYPE)]
    content = tar_bytes(*folders, *(entry(f"./{path}", data) for path, data in GOOD.items()), mode=mode)

    assert unpack(tmp_path, folder, name, content) == 3
    assert files_below(folder) == GOOD


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_unpacks_to_its_files(tmp_path, folder, compression):
    content = zip_bytes(("deep/", b""), *GOOD.items(), compression=compression)

    assert unpack(tmp_path, folder, "set.zip", content) == 3
    assert files_below(folder) == GOOD


def test_unpacking_again_writes_nothing(tmp_path, folder):
    unpack(tmp_path, folder, "set.zip", zip_bytes(*GOOD.items()))
    (folder / "a.jpg").write_bytes(b"owned")  # of equal size

    assert unpack(tmp_path, folder, "set.zip", zip_bytes(*GOOD.items())) == 0
    assert files_below(folder) == {**GOOD, "a.jpg": b"owned"}


def test_unpacking_fills_gaps_and_removes_what_a_killed_one_left(tmp_path, folder):
    unpack(tmp_path, folder, "set.zip", zip_bytes(*GOOD.items()))
    (folder / "deep" / "er" / "b.jpg").unlink()
    (folder / archives.STAGING / "deep").mkdir(parents=True)
    (folder / archives.STAGING / "deep" / "half").write_bytes(b"half")

    assert unpack(tmp_path, folder, "set.zip", zip_bytes(*GOOD.items())) == 1
    assert files_below(folder) == GOOD


@pytest.mark.parametrize("place", ["a.jpg", "deep"])
def test_a_file_in_the_way_is_named_and_kept(tmp_path, folder, place):
    folder.mkdir(parents=True)
    (folder / place).write_bytes(b"the user's own")

    with pytest.raises(ConfigError, match=rf"other files are where its own belong.*{place}.*Nothing was overwritten"):
        unpack(tmp_path, folder, "set.zip", zip_bytes(*GOOD.items()))
    assert files_below(folder) == {place: b"the user's own"}


TAR_ATTACKS = {
    "absolute": (entry("/tmp/evil.jpg"), "is an absolute path"),
    "parent": (entry("../evil.jpg"), "leads out"),
    "parent in the middle": (entry("train/../../evil.jpg"), "leads out"),
    "symbolic link": (entry("train", b"", type=tarfile.SYMTYPE, linkname="/etc"), "is a symbolic link"),
    "link inside": (entry("b.jpg", b"", type=tarfile.SYMTYPE, linkname="good.jpg"), "is a symbolic link"),
    "hard link": (entry("b.jpg", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "is a hard link"),
    "pipe": (entry("pipe", b"", type=tarfile.FIFOTYPE), "is a named pipe"),
    "device": (entry("sda", b"", type=tarfile.BLKTYPE), "is a device"),
    "backslash": (entry("..\\evil.jpg"), "has a backslash"),
    "drive": (entry("C:/evil.jpg"), "names a drive"),
    "control character": (entry("evil\n.jpg"), "has a control character"),
    "twice": (entry("./good.jpg", b"other"), "is in it twice"),
    "file and folder": (entry("GOOD.jpg/x.jpg"), "is a file by one name and a folder by another"),
    "our own folder": (entry(".unpacking/x.jpg"), "has a name that no file can have"),
    "no name": (entry("."), "has a name that no file can have"),
}


@pytest.mark.parametrize("attack", TAR_ATTACKS)
def test_a_tar_with_one_bad_member_is_refused_whole(tmp_path, folder, attack):
    member, reason = TAR_ATTACKS[attack]
    content = tar_bytes(entry("good.jpg"), member)

    with pytest.raises(ConfigError, match=f"set.tar: refused, nothing of it was unpacked: its member .* {reason}"):
        unpack(tmp_path, folder, "set.tar", content)
    assert list(files_below(tmp_path)) == ["set.tar"]
    assert not folder.exists()


ZIP_ATTACKS = {
    "absolute": (zip_entry("/tmp/evil.jpg"), "is an absolute path"),
    "parent": (zip_entry("../evil.jpg"), "leads out"),
    "backslash": (zip_entry("..\\evil.jpg"), "has a backslash"),
    "drive": (zip_entry("c:evil.jpg"), "names a drive"),
    "NUL": (zip_entry("evil.jpg\0.txt"), "has a control character"),
    "symbolic link": (zip_entry("train", b"/etc", stat.S_IFLNK | 0o777), "is a symbolic link"),
    "pipe": (zip_entry("pipe", b"", stat.S_IFIFO), "is a device or a named pipe"),
    "twice": (zip_entry("./good.jpg"), "is in it twice"),
    "file and folder": (zip_entry("Good.JPG/x.jpg"), "is a file by one name and a folder by another"),
}


@pytest.mark.parametrize("attack", ZIP_ATTACKS)
def test_a_zip_with_one_bad_member_is_refused_whole(tmp_path, folder, attack):
    member, reason = ZIP_ATTACKS[attack]
    content = zip_bytes(("good.jpg", b"picture"), member)

    with pytest.raises(ConfigError, match=f"set.zip: refused, nothing of it was unpacked: its member .* {reason}"):
        unpack(tmp_path, folder, "set.zip", content)
    assert list(files_below(tmp_path)) == ["set.zip"]
    assert not folder.exists()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_member_that_holds_more_than_it_declares_is_refused(tmp_path, folder, compression):
    bomb = bytes(100_000)
    content = zip_bytes(("good.jpg", b"picture"), ("bomb.jpg", bomb), compression=compression)
    lie = content.replace(struct.pack("<L", len(bomb)) + b"\x08", struct.pack("<L", 10) + b"\x08")
    assert [info.file_size for info in zipfile.ZipFile(io.BytesIO(lie)).infolist()] == [7, 10]

    with pytest.raises(ConfigError, match="'bomb.jpg' holds more than the 10 bytes it declares"):
        unpack(tmp_path, folder, "set.zip", lie)
    assert files_below(folder) == {}

    checksum, of_beginning = (struct.pack("<L", zlib.crc32(data)) for data in (bomb, bomb[:10]))
    with pytest.raises(ConfigError, match="Bad CRC-32|holds more than"):
        unpack(tmp_path, folder, "set.zip", lie.replace(checksum, of_beginning))
    assert files_below(folder) == {}


def test_a_zip_bomb_is_stopped_early(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(archives, "CHUNK", 1000)
    bomb = bytes(10_000_000)
    content = zip_bytes(("bomb.jpg", bomb)).replace(struct.pack("<L", len(bomb)), struct.pack("<L", 10))

    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="is damaged|holds more than"):
            unpack(tmp_path, folder, "set.zip", content)
        assert tracemalloc.get_traced_memory()[1] < len(bomb) / 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_tar_header_of_gigabytes_is_not_read(tmp_path, folder, kind):
    header = tarfile.TarInfo("name")
    header.type, header.size = kind, 3 << 30
    packed = tmp_path / "bomb.tar.gz"
    with gzip.open(packed, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.PAX_FORMAT if kind == tarfile.XHDTYPE else tarfile.GNU_FORMAT))
        file.write(bytes(1 << 25))  # the rest need not be there to be asked for
    tracemalloc.start()
    with pytest.raises(ConfigError, match="a header of 3,221,225,472 bytes"):
        extract(packed, folder, console=CONSOLE)
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
    tracemalloc.stop()
    assert not folder.exists()


@pytest.mark.parametrize("by", [extract, extract_tar_of_tars])
def test_an_archive_larger_than_the_free_disk_is_refused(tmp_path, folder, monkeypatch, by):
    monkeypatch.setattr(download, "free_space", lambda folder: 100)

    with pytest.raises(ConfigError, match="unpacking set.tar needs 101 bytes, the disk has 100 bytes free"):
        unpack(tmp_path, folder, "set.tar", tar_bytes(entry("a.tar", bytes(60)), entry("b.tar", bytes(41))), by)
    assert not folder.exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "b.jpg")

    monkeypatch.setattr(archives, "_merge", full)
    with pytest.raises(ConfigError, match="set.zip: cannot be unpacked .No space left on device: b.jpg"):
        unpack(tmp_path, folder, "set.zip", zip_bytes(*GOOD.items()))
    assert files_below(folder) == {}


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tgz"])
def test_an_archive_cut_short_is_called_damaged(tmp_path, folder, name):
    pictures = [entry("a.jpg", bytes(range(256)) * 100), entry("b.jpg", bytes(range(255, -1, -1)) * 100)]
    content = {
        "set.zip": zip_bytes(*((info.name, data) for info, data in pictures)),
        "set.tar": tar_bytes(*pictures),
        "set.tgz": tar_bytes(*pictures, mode="w:gz"),
    }[name]

    with pytest.raises(ConfigError, match=f"{name}: is damaged or cut short .*fetch it again"):
        unpack(tmp_path, folder, name, content[: len(content) // 2])
    assert not folder.exists()


@pytest.mark.parametrize("name", ["set.tar", "set.tgz"])
def test_a_damaged_header_is_no_end_of_the_archive(tmp_path, folder, name):
    content = bytearray(tar_bytes(entry("a.jpg"), entry("b.jpg")))
    content[1024] ^= 1  # the name of the second member; its header's checksum no longer fits
    content = bytes(content) if name == "set.tar" else gzip.compress(content)

    with pytest.raises(ConfigError, match="damaged or cut short .no member starts at byte 1,024"):
        unpack(tmp_path, folder, name, content)
    assert not folder.exists()


def test_a_zip_with_a_flipped_bit_is_damaged(tmp_path, folder):
    content = zip_bytes(("a.jpg", b"picture"), compression=zipfile.ZIP_STORED).replace(b"picture", b"pictuse")

    with pytest.raises(ConfigError, match="damaged or cut short .Bad CRC-32"):
        unpack(tmp_path, folder, "set.zip", content)
    assert files_below(folder) == {}


@pytest.mark.parametrize("name, reason", [("set.rar", "unknown kind of archive"), ("set.zip", "not a zip file")])
def test_what_is_no_archive_says_so(tmp_path, folder, name, reason):
    with pytest.raises(ConfigError, match=reason):
        unpack(tmp_path, folder, name, b"<html>log in first</html>")


def test_a_tar_of_tars_becomes_class_folders(tmp_path, folder):
    inner = {wnid: tar_bytes(entry(f"{wnid}_1.JPEG", wnid.encode())) for wnid in ("n01", "n02")}
    outer = tar_bytes(*(entry(f"{wnid}.tar", content) for wnid, content in inner.items()))

    assert unpack(tmp_path, folder, "train.tar", outer, extract_tar_of_tars) == 2
    assert files_below(folder) == {"n01/n01_1.JPEG": b"n01", "n02/n02_1.JPEG": b"n02"}
    assert unpack(tmp_path, folder, "train.tar", outer, extract_tar_of_tars) == 0


@pytest.mark.parametrize(
    "name, inner, reason",
    [
        ("n01.tar", tar_bytes(entry("../../evil.JPEG")), r"train.tar: n01.tar: refused.*leads out"),
        ("...tar", tar_bytes(entry("evil.JPEG")), r"'\.\.\.tar' is not a .tar"),
        ("n01.JPEG", b"picture", "is not a .tar"),
        ("n01.tar", b"no tar" * 200, "train.tar: is damaged"),
    ],
)
def test_a_bad_member_of_a_tar_of_tars_is_refused(tmp_path, folder, name, inner, reason):
    with pytest.raises(ConfigError, match=reason):
        unpack(tmp_path, folder, "train.tar", tar_bytes(entry(name, inner)), extract_tar_of_tars)
    assert list(files_below(tmp_path)) == ["train.tar"]
