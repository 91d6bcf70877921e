"""Shards: a file of results for each, whole, whatever ends the process, whoever shares them, whatever is broken."""

import io
import json
import os
import shutil
import signal
import tarfile
import tracemalloc
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.heads.linear import LinearHead
from mnv2_tasks.network.network import Network
from mnv2_tasks.prediction import predict_shards, tars
from mnv2_tasks.prediction.predict import predict
from mnv2_tasks.prediction.shard_results import settings_of
from mnv2_tasks.prediction.tars import find_shards, pictures_in
from mnv2_tasks.runs.stopping import Stopped, ends_when_asked
from mnv2_tasks.tasks.classification import ClassificationTask

PASSPORT = {"imgsz": 32, "input": {"mean": [0, 0, 0], "std": [1, 1, 1], "fit": "square", "resize": None}}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    backbone = MobileNetV2(width=0.35, output_stride=32, taps=["final"])
    head = LinearHead(features=backbone.features, num_classes=3, dropout=0.0)
    task = ClassificationTask(head=head, class_names=["dark", "light", "other"], label_smoothing=0.0)
    return Network(backbone=backbone, tasks={"kinds": task}, mean=[127.0] * 3, std=[64.0] * 3).eval()


@pytest.fixture
def tool(network, monkeypatch, tmp_path):
    """predict() in a folder of its own, with our network in place of a file of weights."""
    loaded = lambda weights, trust: (network, {"config": PASSPORT})  # noqa: E731
    monkeypatch.setattr("mnv2_tasks.prediction.predictor.load_network", loaded)
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: predict(compose("predict", [*overrides, "device=cpu", "batch=2"]))


def encoded(number, kind="JPEG", **settings):
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind, **settings)
    return file.getvalue()


def pack(path, members):
    """A tar of {name: content}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path):
    """Five shards of three pictures, with labels beside them, in the folder shards/."""
    for shard in range(5):
        numbers = range(3 * shard, 3 * shard + 3)
        members = {
            f"{n:09d}.{ending}": encoded(n) if ending == "jpg" else b"1" for n in numbers for ending in ("jpg", "cls")
        }
        pack(tmp_path / "shards" / f"val-{shard:03d}.tar", members)
    return tmp_path / "shards"


def results(folder="out"):
    return {path.name: path.read_bytes() for path in Path(folder).glob("results-*.jsonl")}


def lines(shard, folder="out"):
    return [json.loads(line) for line in (Path(folder) / f"results-{shard}.jsonl").read_bytes().splitlines()]


def test_lines_are_those_of_the_same_pictures_as_files(tool, shards):
    with tarfile.open(shards / "val-001.tar") as tar:
        tar.extractall("photos", filter="data")
    tool("source=photos", "out=files", "save=json")
    tool("source=shards", "out=out")
    assert sorted(results()) == [f"results-val-{shard:03d}.jsonl" for shard in range(5)]
    of_files = [
        entry | {"file": entry["file"].replace("photos", "shards/val-001.tar")}
        for entry in json.loads(Path("files/results.json").read_bytes())
    ]
    assert lines("val-001") == of_files and len(of_files) == 3


def test_killed_in_the_middle_and_gone_on_with_gives_what_ran_through(tool, shards, monkeypatch, capsys):
    tool("source=shards", "out=whole")
    look, seen = predict_shards.pictures_in, []

    def killed(shard):
        for number, picture in enumerate(look(shard)):
            if shard.stem == "val-002" and number == 2:
                shutil.copytree("out", "left")  # as it would be after SIGKILL
                os.kill(os.getpid(), signal.SIGTERM)
            yield picture

    def counted(shard):
        seen.append(shard.stem)
        return look(shard)

    monkeypatch.setattr(predict_shards, "pictures_in", killed)
    with pytest.raises(Stopped), ends_when_asked():
        tool("source=shards", "out=out")
    assert "the same command with out=out goes on" in capsys.readouterr().out
    assert len(list(Path("left").glob("*.part"))) == 1 and not list(Path("out").glob("*.part"))
    monkeypatch.setattr(predict_shards, "pictures_in", counted)
    for folder in ("out", "left"):
        assert sorted(results(folder)) == ["results-val-000.jsonl", "results-val-001.jsonl"]
        tool("source=shards", f"out={folder}")
        assert results(folder) == results("whole") and not list(Path(folder).glob("*.part"))
    assert seen == ["val-002", "val-003", "val-004"] * 2
    assert "5 of 5 shards, 2 of them done before" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_cover_every_shard_once_and_none_twice(count, tool, shards, monkeypatch):
    look, seen = predict_shards.pictures_in, []
    monkeypatch.setattr(predict_shards, "pictures_in", lambda shard: (seen.append(shard.stem), look(shard))[1])
    for number in range(count):
        tool("source=shards", "out=out", f"share={number}/{count}")
    assert sorted(seen) == [f"val-{shard:03d}" for shard in range(5)]
    tool("source=shards", "out=whole")
    assert results() == results("whole")


@pytest.mark.parametrize(
    "environment",
    [
        {"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
    ],
    ids=["torchrun", "slurm"],
)
def test_processes_that_were_started_together_share_the_shards(environment, tool, shards, monkeypatch):
    monkeypatch.setattr(predict_shards, "wait_for_all", lambda: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="say out=<folder>, into which all of them write"):
        tool("source=shards")
    tool("source=shards", "out=out")
    assert sorted(results()) == ["results-val-001.jsonl", "results-val-003.jsonl"]
    tool("source=shards", "out=out", "share=0/1")  # what is said counts more
    assert len(results()) == 5


def test_what_is_broken_is_named_and_all_else_is_done(tool, shards, capsys):
    tool("source=shards", "out=whole")
    capsys.readouterr()
    whole = (shards / "val-001.tar").read_bytes()
    with tarfile.open(shards / "val-001.tar") as tar:
        (shards / "val-001.tar").write_bytes(whole[: tar.getmembers()[2].offset_data + 50])
    good = (shards / "val-003.tar").read_bytes()
    with tarfile.open(shards / "val-003.tar") as tar:
        at = tar.getmembers()[0].offset_data
    (shards / "val-003.tar").write_bytes(good[:at] + bytes(50) + good[at + 50 :])

    with pytest.raises(DataError) as error:
        tool("source=shards", "out=out")
    broken = ["shards/val-001.tar/000000004.jpg", "shards/val-001.tar", "shards/val-003.tar/000000009.jpg"]
    assert str(error.value).startswith(f"3 without results: {', '.join(broken)}. ")
    assert "val-001.tar: is damaged or cut short (unexpected end of data) after 2 pictures" in capsys.readouterr().out
    assert [line["file"] for line in lines("val-001") + lines("val-003") if "error" in line] == broken
    expected = lines("val-001", "whole")[:1] + lines("val-003", "whole")[1:]
    assert [line for line in lines("val-001") + lines("val-003") if "error" not in line] == expected
    for shard in (0, 2, 4):
        assert lines(f"val-{shard:03d}") == lines(f"val-{shard:03d}", "whole")

    with pytest.raises(DataError, match="3 without results"):  # as long as they are
        tool("source=shards", "out=out")
    assert "5 of 5 shards, 3 of them done before" in capsys.readouterr().out
    (shards / "val-001.tar").write_bytes(whole)
    (shards / "val-003.tar").write_bytes(good)
    tool("source=shards", "out=out")
    assert results() == results("whole")


def test_a_shard_that_was_replaced_is_done_again(tool, shards, capsys):
    tool("source=shards", "out=out")
    pack(shards / "val-001.tar", {"new.jpg": encoded(50)})
    time = (shards / "val-002.tar").stat().st_mtime_ns
    os.utime(shards / "val-002.tar", ns=(time, time + 10**9))  # of the same size, and newer
    capsys.readouterr()
    tool("source=shards", "out=out")
    assert "5 of 5 shards, 3 of them done before" in capsys.readouterr().out
    assert [line["file"] for line in lines("val-001")] == ["shards/val-001.tar/new.jpg"]
    tool("source=shards", "out=out")
    assert "5 of 5 shards, 5 of them done before" in capsys.readouterr().out


@pytest.mark.parametrize(
    "end", ["between members", "in a header", "a zeroed header", "two joined", "no tar", "empty", "gone"]
)
def test_a_cut_or_damaged_shard_refuses_at_its_end(end, shards):
    path = shards / "val-000.tar"
    with tarfile.open(path) as tar:
        second = tar.getmembers()[2].offset
    content = path.read_bytes()
    damaged = {
        "between members": content[:second],
        "in a header": content[:second] + b"x" * 512 + content[second + 512 :],
        "a zeroed header": content[:second] + bytes(512) + content[second + 512 :],
        "two joined": content * 2,
        "no tar": b"x" * 2000,
        "empty": b"",
        "gone": None,
    }[end]
    path.unlink() if damaged is None else path.write_bytes(damaged)
    *pictures, last = pictures_in(path)
    few = dict.fromkeys(("between members", "in a header", "a zeroed header"), 1) | {"two joined": 3}
    assert len(pictures) == few.get(end, 0)
    assert all(picture.read(255).shape == (20, 30, 3) for picture in pictures)
    with pytest.raises(DataError, match=f"val-000.tar: is damaged or cut short .* after {len(pictures)} picture"):
        last.read(255)


@pytest.mark.parametrize("fault", ["many long names", "a cut sparse header"])
def test_headers_that_tarfile_falls_over_are_a_damaged_shard(fault, tmp_path):
    header = tarfile.TarInfo("a.jpg")
    header.type = tarfile.GNUTYPE_LONGNAME if fault == "many long names" else tarfile.GNUTYPE_SPARSE
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    if fault == "a cut sparse header":
        block[482] = 1  # more of it follows
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    path = pack(tmp_path / "a.tar", {"1.jpg": encoded(1)})
    with tarfile.open(path) as tar:
        tar.getmembers()
        content = path.read_bytes()[: tar.offset]
    path.write_bytes(content + bytes(block) * (1500 if fault == "many long names" else 1))
    picture, last = pictures_in(path)
    assert picture.read(255).shape == (20, 30, 3)
    with pytest.raises(DataError, match="a.tar: is damaged or cut short .* after 1 picture"):
        last.read(255)


@pytest.mark.parametrize("size", [-512, -1])
@pytest.mark.parametrize("kind", ["header", "pax"])
def test_a_member_of_negative_size_is_a_damaged_shard(kind, size, tmp_path):
    path = pack(tmp_path / "a.tar", {"1.jpg": encoded(1)})
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("2.jpg")
        member.pax_headers = {"size": str(size)} if kind == "pax" else {}
        tar.addfile(member)
        start = tar.offset - 512
    if kind == "header":
        content = bytearray(path.read_bytes())
        block = content[start : start + 512]
        block[124:136] = (256**12 + size).to_bytes(13, "big")[1:]  # base 256, as tarfile reads a negative number
        block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
        content[start : start + 512] = block
        path.write_bytes(content)
    picture, last = islice(pictures_in(path), 4)
    assert picture.read(255).shape == (20, 30, 3)
    with pytest.raises(DataError, match=rf"a.tar: is damaged .*a member of {size} bytes\) after 1 picture"):
        last.read(255)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g", b"X"])
def test_a_name_that_says_it_is_large_takes_no_memory(kind, tmp_path):
    path = pack(tmp_path / "a.tar", {"1.jpg": encoded(1)})
    with tarfile.open(path, "a") as tar:
        start = tar.offset
    header = tarfile.TarInfo("name")
    header.type, header.size = kind, 600 << 20
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(start + (700 << 20))  # of holes
    tracemalloc.start()
    _, last = pictures_in(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20
    with pytest.raises(DataError, match=r"a.tar: is damaged .*a name of 629,145,600 bytes\) after 1 picture"):
        last.read(255)


def test_names_of_members_are_never_places_on_a_disk(tool, tmp_path):
    names = ["../../up.jpg", "/etc/passwd.jpg", "a\nb\x1b[2J.jpg", "x.tar:0+100/y.jpg", "\udcff.jpg"]
    pack(tmp_path / "work" / "evil.tar", {name: encoded(n) for n, name in enumerate(names)})
    before = set(tmp_path.rglob("*"))
    tool("source=work/evil.tar", "out=work/out")
    assert [line["file"] for line in lines("evil", "work/out")] == [f"work/evil.tar/{name}" for name in names]
    left = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before}
    files = ("predict.json", "results-evil.jsonl", "shard-evil.json")
    assert left == {"work/out", *(f"work/out/{name}" for name in files)}


def test_links_and_what_only_says_that_it_is_large_are_refused_by_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in [("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE), ("c.jpg", tarfile.FIFOTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        large = tarfile.TarInfo("d.jpg")
        large.size = 1 << 40
        tar.addfile(large, None)
    found = list(pictures_in(tmp_path / "a.tar"))
    assert [Path(picture.name).name for picture in found] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "a.tar"]
    for picture in found[:-1]:
        with pytest.raises(DataError, match=f"{picture.name}: is no plain file in its shard, or too large"):
            picture.read(255)


def test_pages_are_pictures_and_masks_labels_and_hidden_files_are_not(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), 60 * i, np.uint8)) for i in range(3)]
    tiff = io.BytesIO()
    frames[0].save(tiff, "TIFF", save_all=True, append_images=frames[1:])
    members = {
        "1.jpg": encoded(1),
        "1.mask.png": encoded(1, "PNG"),
        "1.json": b"{}",
        "in/2.2024.PNG": encoded(2, "PNG"),
    }
    path = pack(tmp_path / "a.tar", members | {"in/._2.jpg": b"", "3.tif": tiff.getvalue()})
    names = [picture.name.removeprefix(f"{path}/") for picture in pictures_in(path)]
    assert names == ["1.jpg", "in/2.2024.PNG", "3.tif, page 1", "3.tif, page 2", "3.tif, page 3"]
    (refusal,) = pictures_in(pack(tmp_path / "b.tar", {"1.json": b"{}"}))
    with pytest.raises(DataError, match="b.tar: has no pictures"):
        refusal.read(255)


def test_a_shard_is_not_kept_in_memory(tmp_path):
    path = pack(tmp_path / "a.tar", {f"{n}.jpg": encoded(0) for n in range(50)})
    opened = []

    class Tar(tarfile.TarFile):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            opened.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tars.tarfile, "TarFile", Tar)
        patch.setattr(tars.tarfile, "open", Tar.open)
        for _ in pictures_in(path):
            assert len(opened[0].members) <= 1


def test_shards_are_named_by_folder_list_glob_and_numbers(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    five = [Path(f"shards/val-{number:03d}.tar") for number in range(5)]
    assert find_shards("shards") == find_shards("shards/*.tar") == find_shards("shards/val-{000..004}.tar") == five
    assert find_shards("[shards/val-001.tar,shards/val-{003..004}.tar]") == [five[1], *five[3:]]
    assert find_shards("shards/val-{00..00}{3..4}.tar") == five[3:]
    assert (
        find_shards("shapes") is find_shards("-") is find_shards("photo.jpg") is find_shards("https://a/b.tar") is None
    )
    (shards / "more").mkdir()
    assert find_shards("shards") is None  # a folder of photos, where some tar lies
    with pytest.raises(ConfigError, match="2 of 3 shards are not there: shards/val-005.tar, shards/val-006.tar"):
        find_shards("shards/val-{004..006}.tar")
    for name in ("x-{0..99999999}.tar", "x-{0..9999}{0..9999}.tar"):
        with pytest.raises(ConfigError, match="stands for 100,000,000 shards, at most 1,000,000 at once. Name fewer"):
            find_shards(name)
    with pytest.raises(ConfigError, match="no shard is called so"):
        find_shards("x-{5..3}{0..99999999}.tar")
    with pytest.raises(ConfigError, match="no shard is called so"):
        find_shards("shards/train-*.tar")
    with pytest.raises(ConfigError, match="names shards and others, photo.jpg"):
        find_shards("[shards/val-001.tar,photo.jpg]")
    shutil.copytree(shards, "others")
    with pytest.raises(ConfigError, match="several shards are called val-001"):
        find_shards("[shards/val-001.tar,others/val-001.tar]")


def test_a_missing_shard_of_a_packed_folder_is_told(tool, tmp_path):
    pytest.importorskip("webdataset")
    from mnv2_tasks.__main__ import main

    for number, name in enumerate(["train/cat", "train/cat", "train/dog", "train/dog", "val/cat", "val/dog"]):
        path = tmp_path / "photos" / name / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number))
    main(["data", "pack", "task=classification", "data=folder", "data.root=photos", "out=packed"])
    tool("source=packed", "out=out")
    assert sorted(results()) == ["results-train-000000.jsonl", "results-val-000000.jsonl"]
    assert len(lines("train-000000")) == 4 and len(lines("val-000000")) == 2
    index = tmp_path / "packed" / "index.json"
    whole = index.read_text()
    (tmp_path / "packed" / "val-000000.tar").unlink()
    for damaged in (whole[:-20], whole.replace('"splits"', '"split"')):
        index.write_text(damaged)
        with pytest.raises(ConfigError, match="packed/index.json.*name the shards: 'packed/.*tar'"):
            tool("source=packed", "out=out")
    index.write_text("{}")  # another program's
    assert find_shards("packed") == [Path("packed/train-000000.tar")]
    index.write_text(whole)
    with pytest.raises(ConfigError, match="1 of 2 shards are not there: packed/val-000000.tar"):
        tool("source=packed", "out=out")


def test_results_of_other_weights_settings_or_shards_are_refused(tool, shards, tmp_path, monkeypatch):
    tool("source=shards/val-000.tar", "out=out")
    tool("source=shards/val-001.tar", "out=out")  # a folder may grow
    before = results()
    with pytest.raises(ConfigError, match=r"^out: holds results of min_score=0.4. Choose another out=, or say what"):
        tool("source=shards", "out=out", "min_score=0.5")
    monkeypatch.setattr("mnv2_tasks.prediction.shard_results.sha256", lambda file: "of others")
    with pytest.raises(ConfigError, match=r"^out: holds results of other weights=multitask_shapes. Choose another"):
        tool("source=shards", "out=out")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    shutil.copytree("shards", "others")
    with pytest.raises(
        ConfigError, match=r"holds results of shards/val-000.tar/000000002.jpg, not of others/val-000.tar"
    ):
        predict(compose("predict", ["source=others", "out=out", "device=cpu"]))
    assert results() == before


@pytest.mark.parametrize("content", ["{}", '{"weights": "a"}', "[1]", '{"weights": '])
def test_a_record_that_is_cut_or_of_others_is_refused_with_a_remedy(content, tool, shards):
    tool("source=shards/val-000.tar", "out=out")
    before = results()
    Path("out/predict.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^out/predict.json.*hoose another out=$") as error:
        tool("source=shards", "out=out")
    assert "\n" not in str(error.value) and results() == before


def test_settings_are_remembered_as_plain_data_and_files_by_what_they_hold(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    config = compose("predict", ["classes=[ring,disc]", f"thresholds={tmp_path}/a.json"])
    settings = settings_of(config)
    assert json.loads(json.dumps(settings)) == settings and settings["classes"] == ["ring", "disc"]
    (tmp_path / "a.json").write_text('{"ssdlite": {"ring": 0.5}}')
    after = settings_of(config)
    assert {key for key in settings if settings[key] != after[key]} == {"thresholds_sha256"}


def test_what_cannot_be_is_refused_before_anything_is_written(tool, shards, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    for words, message in {
        ("out=mine",): "out=mine: is not empty",
        ("out=o", "save=pictures"): "save=pictures: of shards there is json alone",
        ("save=none",): "save=none: of shards there is json alone",
        ("out=o", "share=4/4"): "share=4/4: expected 0/4, 1/4, 2/4 or 3/4",
        ("out=o", "share=half"): "share=half: expected",
    }.items():
        with pytest.raises(ConfigError, match=message):
            tool("source=shards", *words)
    with pytest.raises(ConfigError, match="batch=0: expected at least 1"):
        predict(compose("predict", ["source=shards", "out=o", "device=cpu", "batch=0"]))
    with pytest.raises(ConfigError, match="share=0/2: shards can be shared among processes, source=shapes is none"):
        tool("source=shapes", "share=0/2")
    video = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 32))
    video.write(np.zeros((32, 32, 3), np.uint8))
    video.release()
    with pytest.raises(ConfigError, match="share=0/2: shards can be shared among processes, source=clip.avi is none"):
        tool("source=clip.avi", "share=0/2")
    (tmp_path / "clip.avi").unlink()
    with pytest.raises(ConfigError, match="source=: is said 2 times.*stands in quotes"):
        tool("source=shards/val-000.tar", "source=shards/val-001.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"shards", "mine"}
