"""Videos: each frame is predicted in order, drawn into a video of its rate, and told in a line of results.jsonl."""

import json
import os
import re
import signal

import cv2
import numpy as np
import pytest
import torch

from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Detections
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.heads.linear import LinearHead
from mnv2_tasks.network.network import Network
from mnv2_tasks.prediction import predict_video, video_files
from mnv2_tasks.prediction.predict import predict
from mnv2_tasks.prediction.predictor import predict_images
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.prediction.video import Video, find_video
from mnv2_tasks.runs.stopping import Stopped, ends_when_asked
from mnv2_tasks.tasks.classification import ClassificationTask

FIT = Fit(mode="square", size=32, resize=None, fill=[0, 0, 0])
PASSPORT = {"imgsz": 32, "input": {"mean": [0, 0, 0], "std": [1, 1, 1], "fit": "square", "resize": None}}
NAMES = ["dark", "light", "other"]
RATE = 12.5


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    backbone = MobileNetV2(width=0.35, output_stride=32, taps=["final"])
    head = LinearHead(features=backbone.features, num_classes=3, dropout=0.0)
    task = ClassificationTask(head=head, class_names=NAMES, label_smoothing=0.0)
    return Network(backbone=backbone, tasks={"kinds": task}, mean=[127.0] * 3, std=[64.0] * 3).eval()


@pytest.fixture
def tool(network, monkeypatch):
    loaded = lambda weights, trust: (network, {"config": PASSPORT})  # noqa: E731
    monkeypatch.setattr("mnv2_tasks.prediction.predictor.load_network", loaded)
    return lambda *overrides: predict(compose("predict", [*overrides, "device=cpu", "batch=2"]))


def make_video(path, count=9, code="MJPG", size=(64, 48)):
    """Frame i is grey of value 12 i, up to 21 of them."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), RATE, size)
    for index in range(count):
        writer.write(np.full((size[1], size[0], 3), 12 * index, np.uint8))
    writer.release()
    return path


def read_video(path):
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    assert capture.isOpened()
    rate = capture.get(cv2.CAP_PROP_FPS)
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames, rate


def lines_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name, code", [("clip.avi", "MJPG"), ("clip.webm", "VP80"), ("clip", "MJPG")])
def test_each_frame_is_drawn_in_order_and_told_as_a_picture_is(network, tool, tmp_path, name, code):
    path = make_video(tmp_path / "made.avi" if name == "clip" else tmp_path / name, code=code)
    if name == "clip":  # known by its content
        path = path.rename(tmp_path / name)
    tool(f"source={path}", f"out={tmp_path}/out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["clip.webm", "results.jsonl"]

    frames, _ = read_video(path)
    lines = lines_of(tmp_path / "out")
    least = {"kinds": np.full(3, 0.4)}
    for number, (frame, line) in enumerate(zip(frames, lines, strict=True), start=1):
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        (found,) = predict_images(network, [image], FIT)
        alone = Result(str(path), image, network.tasks, found, least).to_dict()
        assert line.pop("frame") == number and line.pop("time") == pytest.approx((number - 1) / RATE, abs=1e-3)
        scores = [line.pop("kinds"), alone.pop("kinds")]
        assert line == alone
        first, second = ({entry["class"]: entry["score"] for entry in of} for of in scores)
        assert first == pytest.approx(second, abs=2e-4)

    drawn, rate = read_video(tmp_path / "out" / "clip.webm")
    assert len(drawn) == len(frames) == 9 and rate == pytest.approx(RATE, abs=0.01)
    shades = [picture[100:200, 100:200].mean() for picture in drawn]  # the frame, enlarged
    assert shades == pytest.approx([frame.mean() for frame in frames], abs=6)


def test_boxes_are_drawn_on_frames_of_their_own_size():
    class Task:
        kind, class_names = "detection", ["cat"]

    for height, width in [(48, 64), (720, 1400), (361, 481)]:
        boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * torch.tensor([width, height, width, height])
        found = Detections(boxes, torch.tensor([0.9]), torch.tensor([0]))
        image = np.full((height, width, 3), 90, np.uint8)
        picture = video_files.video_picture(Result("a", image, {"t": Task}, {"t": found}, {"t": np.full(1, 0.4)}))
        assert picture.shape == (height // 2 * 2, width // 2 * 2, 3)
        assert np.abs(picture[height // 2, width // 2].astype(int) - 90).max() < 9 < picture.std()


def test_what_is_saved_can_be_chosen(tool, tmp_path, capsys, monkeypatch):
    path = make_video(tmp_path / "clip.avi", count=3)
    tool(f"source={path}", f"out={tmp_path}/lines", "save=json")
    tool(f"source={path}", f"out={tmp_path}/drawn", "save=pictures")
    assert os.listdir(tmp_path / "lines") == ["results.jsonl"] and os.listdir(tmp_path / "drawn") == ["clip.webm"]
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    tool(f"source={path}", "save=none")
    said = capsys.readouterr().out
    assert "clip.avi, frame 3 64x48: " in said and "nothing is saved" in said and not (tmp_path / "runs").exists()
    for word in ("masks", "crops"):
        with pytest.raises(ConfigError, match=f"save={word}: of a video there are pictures, json, or none"):
            tool(f"source={path}", f"save=[{word}]", f"out={tmp_path}/none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_lines_and_a_video_that_plays(tool, tmp_path, monkeypatch, capsys, number):
    path, draw, count = make_video(tmp_path / "clip.avi"), Result.drawn, iter(range(100))

    def drawn(self):
        if next(count) == 3:
            os.kill(os.getpid(), number)
        return draw(self)

    monkeypatch.setattr(Result, "drawn", drawn)
    with pytest.raises(Stopped) as stopped, ends_when_asked():
        tool(f"source={path}", f"out={tmp_path}/out")
    assert stopped.value.code == 128 + number
    done = len(lines_of(tmp_path / "out"))
    assert 3 <= done < 9 and len(read_video(tmp_path / "out" / "clip.webm")[0]) == done
    assert f"{done} frames of 9: " in capsys.readouterr().out


class Counted:
    """A video of many frames, made as they are asked for."""

    def __init__(self, shapes):
        self.shapes, self.read_so_far = iter(shapes), 0

    def get(self, field):
        return 0.0

    def read(self):
        shape = next(self.shapes, None)
        if shape is None:
            return False, None
        self.read_so_far += 1
        return True, np.zeros((*shape, 3), np.uint8)

    def release(self):
        pass


def test_a_long_video_takes_the_memory_of_a_few_frames(tool, tmp_path, monkeypatch):
    capture, written, ahead = Counted([(8, 8)] * 60), [], []
    monkeypatch.setattr(predict_video, "check_writer", lambda: None)

    class Writer:
        def write(self, page):
            written.append(page.shape)
            ahead.append(capture.read_so_far - len(written))

        def release(self):
            pass

    monkeypatch.setattr(video_files, "open_writer", lambda *_: Writer())
    monkeypatch.setattr(video_files.VideoFiles, "_check", lambda self: None)
    monkeypatch.setattr("mnv2_tasks.prediction.predict.find_video", lambda _: Video(capture, "long", "long"))
    tool("source=long", f"out={tmp_path}/out")
    assert len(written) == 60 and len(set(written)) == 1
    assert max(ahead) <= 3 * 2 + video_files.WAITING + 1  # batches of 2: computed, told, read; one to look at the size


def test_a_frame_of_another_size_ends_the_video_and_those_before_it_are_kept(tool, tmp_path, monkeypatch):
    capture = Counted([(8, 8)] * 5 + [(6, 8)] * 3)
    monkeypatch.setattr("mnv2_tasks.prediction.predict.find_video", lambda _: Video(capture, "v", "v.mp4"))
    with pytest.raises(DataError, match=r"v.mp4, frame 6: has 8x6 pixels, those before it 8x8.* 5 frames before"):
        tool("source=v.mp4", f"out={tmp_path}/out")
    assert len(lines_of(tmp_path / "out")) == len(read_video(tmp_path / "out" / "v.webm")[0]) == 5


def test_a_video_that_is_cut_is_told_and_what_is_there_is_done(tool, tmp_path, capsys):
    content = make_video(tmp_path / "clip.avi", count=20).read_bytes()
    chunks = [match.start() for match in re.finditer(b"00dc", content[: content.rindex(b"idx1")])]
    (tmp_path / "cut.avi").write_bytes(content[: chunks[-10]])
    tool(f"source={tmp_path}/cut.avi", f"out={tmp_path}/out", "save=json")
    done = len(lines_of(tmp_path / "out"))
    assert 3 < done < 17
    assert f"cut.avi: ends after {done} frames of the 20 that its header promises" in capsys.readouterr().out


def test_what_is_no_video_is_told_before_anything_is_loaded_or_made(tmp_path, monkeypatch):
    monkeypatch.setattr(predict_video, "asked_predictor", None)
    contents = {
        "is empty": b"",
        "holds something else": b"#EXTM3U\n/etc/passwd",  # a list that FFmpeg would follow
        "reads no frame": b"\0\0\0\x18ftypisom" + bytes(200),
    }
    for said, content in contents.items():
        (tmp_path / "clip.mp4").write_bytes(content)
        with pytest.raises(DataError, match=f"clip.mp4: .*{said}"):
            predict(compose("predict", [f"source={tmp_path}/clip.mp4", f"out={tmp_path}/out"]))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_at_which_opencv_would_crash_is_told(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.avi")
    try:
        make_video(tmp_path / "clip.avi", count=1).rename(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(ConfigError, match="OpenCV takes names in UTF-8 alone. Rename it"):
        find_video(path)


def test_a_camera_that_is_not_there_is_told():
    for index in ("97", "99999999999"):
        with pytest.raises(ConfigError, match=re.escape(f"source={index}: no camera {index} can be opened")):
            find_video(index)


def test_opencv_without_the_codec_is_told_before_anything_is_loaded_or_made(tmp_path, monkeypatch):
    path = make_video(tmp_path / "clip.avi", count=1)
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", lambda *_: 0x1234567)
    monkeypatch.setattr(predict_video, "asked_predictor", None)
    with pytest.raises(ConfigError, match="cannot write VP8 video here.*opencv-python-headless.*save=json"):
        predict(compose("predict", [f"source={path}", f"out={tmp_path}/out"]))
    assert not (tmp_path / "out").exists()


def test_a_video_that_the_disk_did_not_take_is_told(tmp_path):
    video = Video(Counted([(8, 8)]), "v", "v.mp4")
    files = video_files.VideoFiles(tmp_path, ["pictures"], video)
    files.written = 9
    make_video(files.path, count=4, code="VP80")
    with pytest.raises(ConfigError, match="4 of 9 frames could be written. Make room"):
        files._check()
