import json
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from loopback import serving
from paged import broken
from PIL import Image

from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Detections, FoundBoxes
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.scenes import CLASS_NAMES, draw_scene
from mnv2_tasks.drawing.picture_files import write_mask, write_picture
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.heads.deeplabv3 import DeepLabV3Head
from mnv2_tasks.heads.linear import LinearHead
from mnv2_tasks.heads.ssd import SSDHead
from mnv2_tasks.kinds import detection, segmentation
from mnv2_tasks.losses.multibox import MultiBoxLoss
from mnv2_tasks.network.devices import choose_device
from mnv2_tasks.network.network import Network
from mnv2_tasks.prediction import predictor as predict_module
from mnv2_tasks.prediction.least_scores import least_scores
from mnv2_tasks.prediction.predict import predict
from mnv2_tasks.prediction.predictor import Predictor, fit_picture, predict_fitted, predict_images
from mnv2_tasks.prediction.sources import Input, find_inputs
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.tasks.classification import ClassificationTask
from mnv2_tasks.tasks.detection import DetectionTask
from mnv2_tasks.tasks.segmentation import SegmentationTask

SIZE = 64  # of the network's input
FIT = Fit(mode="square", size=SIZE, resize=None, fill=[0, 0, 0])
PASSPORT = {"imgsz": SIZE, "input": {"mean": [0, 0, 0], "std": [1, 1, 1], "fit": "square", "resize": None}}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A tiny network on a busy machine spends its time waiting for the second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    """Three tasks on one backbone, untrained; detections score about 1 / (K + 1)."""
    torch.manual_seed(0)
    backbone = MobileNetV2(width=0.35, output_stride=16, taps=["c4_expand", "c5", "final"])
    specs, num = backbone.features, len(CLASS_NAMES)
    classifier = LinearHead(features=specs, num_classes=num, dropout=0.0)
    detector = SSDHead(features=specs, num_classes=num, extra_channels=[64] * 4, width=1.0, lite=True)
    segmenter = DeepLabV3Head(features=specs, num_classes=num + 1, atrous_rates=[], channels=32, dropout=0.0)
    detection = DetectionTask(
        head=detector,
        class_names=CLASS_NAMES,
        ground_truth=None,
        loss=MultiBoxLoss(iou_threshold=0.5, negatives_per_positive=3, min_negatives=3, box_weight=1.0),
        scores="softmax",
        score_threshold=0.01,
        iou_threshold=0.6,
        candidates=400,
        max_detections=20,
        backend="hotcoco",
    )
    tasks = {
        "classification": ClassificationTask(head=classifier, class_names=CLASS_NAMES, label_smoothing=0.0),
        "ssdlite": detection,
        "mobile_deeplabv3": SegmentationTask(head=segmenter, class_names=["background", *CLASS_NAMES]),
    }
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    return Network(backbone=backbone, tasks=tasks, mean=mean, std=std).eval()


@pytest.fixture
def tool(network, monkeypatch):
    """predict(), with our network in place of a file of weights."""
    loaded = lambda weights, trust: (network, {"config": PASSPORT})  # noqa: E731
    monkeypatch.setattr("mnv2_tasks.prediction.predictor.load_network", loaded)
    return lambda *overrides: predict(compose("predict", [*overrides, "device=cpu"]))


def write_scene(path, index=0, width=90, height=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = cv2.resize(draw_scene(0, "val", index, 96).image, (width, height))
    Image.fromarray(image).save(path)
    return image


def test_all_tasks_share_one_pass_through_the_backbone(network):
    passes = []
    hook = network.backbone.register_forward_hook(lambda *args: passes.append(1))
    images = [draw_scene(0, "val", i, 80).image for i in range(3)]
    results = predict_images(network, images, FIT)
    hook.remove()
    assert len(passes) == 1
    assert [list(of_image) for of_image in results] == [["classification", "ssdlite", "mobile_deeplabv3"]] * 3


def test_results_are_in_the_pixels_of_each_image(network):
    image = draw_scene(0, "val", 0, 96).image
    wide = cv2.resize(image, (500, 40))
    _, of_wide = predict_images(network, [image, wide], FIT)
    assert of_wide["mobile_deeplabv3"].shape == (40, 500)
    assert of_wide["ssdlite"].boxes[:, [0, 2]].max() > 200
    assert of_wide["ssdlite"].boxes[:, [1, 3]].max() <= 40


def test_large_images_give_the_results_of_small_ones_in_their_own_pixels(network, monkeypatch):
    image = draw_scene(0, "val", 1, 200).image
    [exact] = predict_images(network, [image], FIT)
    monkeypatch.setattr(predict_module, "FRAME", 100)
    [reduced] = predict_images(network, [image], FIT)
    torch.testing.assert_close(reduced["ssdlite"].boxes, exact["ssdlite"].boxes, atol=1e-3, rtol=0)
    assert (reduced["mobile_deeplabv3"] == exact["mobile_deeplabv3"]).mean() > 0.95


def test_a_batch_gives_the_results_of_its_images(network):
    images = [draw_scene(0, "val", i, 70 + i).image for i in range(3)]
    together = predict_images(network, images, FIT)
    for image, of_image in zip(images, together):
        [alone] = predict_images(network, [image], FIT)
        torch.testing.assert_close(of_image["classification"], alone["classification"], atol=1e-5, rtol=1e-4)
        assert (of_image["mobile_deeplabv3"] == alone["mobile_deeplabv3"]).mean() > 0.99


def test_the_tool_writes_pictures_masks_and_results(tool, tmp_path, capsys):
    image = write_scene(tmp_path / "in" / "bus.png")
    write_scene(tmp_path / "in" / "cat.jpg", 1)
    tool(f"source={tmp_path}/in", f"out={tmp_path}/out", "min_score=0.05")

    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [Path(entry["file"]).name for entry in entries] == ["bus.png", "cat.jpg"]
    entry = entries[0]
    assert (entry["width"], entry["height"]) == (90, 60)
    assert len(entry["classification"]) == 5
    assert entry["classification"][0]["class"] in CLASS_NAMES
    assert 0 <= entry["classification"][4]["score"] <= entry["classification"][0]["score"] <= 1
    assert entry["ssdlite"]
    for found in entry["ssdlite"]:
        x0, y0, x1, y1 = found["box"]
        assert 0 <= x0 <= x1 <= 90 and 0 <= y0 <= y1 <= 60 and found["score"] >= 0.05
    mask = np.array(Image.open(tmp_path / "out" / entry["mobile_deeplabv3"]["mask"]))
    assert mask.shape == (60, 90)
    shares = {["background", *CLASS_NAMES][i]: (mask == i).mean() for i in np.unique(mask)}
    assert entry["mobile_deeplabv3"]["classes"] == pytest.approx(shares, abs=1e-5)

    picture = cv2.imread(str(tmp_path / "out" / entry["picture"]))
    assert picture.std() > 20  # not blank
    large = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (540, 360), interpolation=cv2.INTER_CUBIC)
    first = picture.shape[0] - 360  # titles above, strips below: look for the image anywhere
    panels = [picture[:, left : left + 540] for left in (0, 548, 1096)]
    differs = [min(np.abs(p[y : y + 360].astype(int) - large).mean() for y in range(first)) for p in panels]
    assert differs[0] < 5 < min(differs[1:])  # boxes and masks are drawn, the classifier's bars are below

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/2 bus.png 90x60: classification ")
    assert lines[2].startswith("Speed: ") and lines[2].endswith(f"saved to {tmp_path}/out")


def test_what_is_saved_can_be_chosen(tool, tmp_path, monkeypatch, capsys):
    image = write_scene(tmp_path / "bus.png")
    asked = [f"source={tmp_path}/bus.png", "min_score=0.05"]
    tool(*asked, f"out={tmp_path}/json", "save=json")
    assert [path.name for path in (tmp_path / "json").iterdir()] == ["results.json"]
    tool(*asked, f"out={tmp_path}/masks", "save=[masks]")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["bus_mobile_deeplabv3_mask.png"]

    tool(*asked, f"out={tmp_path}/crops", "save=[crops,json]")
    (entry,) = json.loads((tmp_path / "crops" / "results.json").read_text())
    assert entry["ssdlite"] and "picture" not in entry and "mask" not in entry["mobile_deeplabv3"]
    for found in entry["ssdlite"]:
        x0, y0, x1, y1 = found["box"]
        crop = cv2.imread(str(tmp_path / "crops" / found["crop"]))
        assert Path(found["crop"]).parts[:2] == ("crops", found["class"])
        assert crop.shape[0] == pytest.approx(y1 - y0, abs=2) and crop.shape[1] == pytest.approx(x1 - x0, abs=2)
        part = image[int(y0) : int(y0) + crop.shape[0], int(x0) : int(x0) + crop.shape[1], ::-1]
        assert np.abs(part.mean((0, 1)) - crop.mean((0, 1))).max() < 3

    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    tool(*asked, "save=none")
    assert "nothing is saved" in capsys.readouterr().out and not (tmp_path / "runs").exists()


def test_a_crop_of_a_strange_class_lies_within_the_folder(tmp_path):
    found = FoundBoxes(np.array([[-3, 1.5, 2.2, 4], [9.9, 9.9, 10, 10]], np.float32), np.ones(2), np.zeros(2, int))
    content = detection.as_json(found, ["../../etc/passwd"], 0)
    detection.write_files(found, content, np.zeros((10, 10, 3), np.uint8), tmp_path, "a")
    shapes = {entry["crop"]: cv2.imread(str(tmp_path / entry["crop"])).shape for entry in content}
    assert shapes == {"crops/_.._etc_passwd/a_1.jpg": (3, 3, 3), "crops/_.._etc_passwd/a_2.jpg": (1, 1, 3)}


@pytest.mark.parametrize(
    "asked, said",
    [
        ("save=picture", "save=picture: unknown; say none, or some of these. Did you mean pictures?"),
        ("save=[json,none]", "save=none: unknown"),
        ("save=none", "save=none writes nothing"),
    ],
)
def test_what_cannot_be_saved_is_told_before_anything_is_made(tool, tmp_path, asked, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        tool(asked, f"out={tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_crops_and_masks_need_a_task_that_makes_them(network, tool, tmp_path, monkeypatch):
    for task in ("ssdlite", "mobile_deeplabv3"):
        monkeypatch.delitem(network.tasks._modules, task)
    for asked, said in (("crops", "finds boxes"), ("masks", "finds masks")):
        with pytest.raises(ConfigError, match=f"save={asked}: no task of this network {said}"):
            tool(f"save={asked}", f"out={tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_annotations_that_no_task_makes_are_refused_before_anything_is_made(network, tool, tmp_path, monkeypatch):
    for task in ("ssdlite", "classification"):
        monkeypatch.delitem(network.tasks._modules, task)
    with pytest.raises(ConfigError, match="save=csv: is for detection and classification.*segmentation. Say save=yolo"):
        tool("save=[json,csv]", f"out={tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_annotations_are_a_folder_for_each_format_and_task(tool, tmp_path):
    for name in ("a/cat.png", "b/cat.png"):
        write_scene(tmp_path / "in" / name)
    tool(f"source={tmp_path}/in", f"out={tmp_path}/out", "save=[yolo,csv]", "min_score=0.05")
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["csv_classification", "csv_ssdlite", "yolo_mobile_deeplabv3", "yolo_ssdlite"]
    for inside, suffix in {"yolo_ssdlite/labels": "txt", "yolo_mobile_deeplabv3/masks": "png"}.items():
        names = sorted(path.name for path in (tmp_path / "out" / inside).iterdir())
        assert names == [f"cat-2.{suffix}", f"cat.{suffix}"]


def test_a_picture_that_cannot_be_written_ends_the_run_and_the_others_are_told(tool, tmp_path, monkeypatch):
    for index in range(3):
        write_scene(tmp_path / "in" / f"{index}.png", index)

    def full(path, picture):
        if path.name == "1.jpg":
            raise OSError(28, "No space left on device")
        write_picture(path, picture)

    monkeypatch.setattr("mnv2_tasks.prediction.result_files.write_picture", full)
    with pytest.raises(OSError, match="No space left"):
        tool(f"source={tmp_path}/in", f"out={tmp_path}/out")
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["picture"] for entry in entries] == ["0.jpg", "2.jpg"]


def test_files_are_read_ahead_and_results_come_in_order(network, tmp_path):
    names = [str(tmp_path / f"{index}.png") for index in range(7)]
    for index, name in enumerate(names):
        write_scene(Path(name), index, 60 + index)
    read = []

    def reading(name):
        def now(white):
            read.append(name)
            return read_image(name)

        return Input(name, now)

    least = least_scores(network.tasks, min_score=0.4)
    results = Predictor(network, FIT).results(map(reading, names), batch=2, least=least)
    assert not read and next(results).name == names[0]
    wait_until(lambda: sorted(read) == names[:4])
    assert [(result.name, result.image.shape[1]) for result in results] == list(zip(names[1:], range(61, 67)))


def wait_until(so):
    for _ in range(1000):
        if so():
            return
        time.sleep(0.01)
    raise AssertionError("never")


def test_a_lower_precision_is_that_of_the_network_alone(network):
    types = []
    hook = network.backbone.register_forward_hook(lambda part, images, maps: types.append(maps["final"].dtype))
    image = draw_scene(0, "val", 0, 96).image
    for computed_in in (None, torch.bfloat16):
        [found] = predict_fitted(network, [fit_picture(image, FIT)], computed_in)
        assert found["ssdlite"].boxes.dtype == found["ssdlite"].scores.dtype == torch.float32
    hook.remove()
    assert types == [torch.float32, torch.bfloat16]


def test_an_unknown_precision_is_named_before_anything_is_loaded(tool, tmp_path):
    with pytest.raises(ConfigError, match="precision=half: expected 32-true, bf16-mixed, 16-mixed, auto"):
        tool("precision=half", f"out={tmp_path}/out")


def test_the_tool_shows_the_embedded_scenes_by_default(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool()
    out = tmp_path / "runs" / "predict" / "1"
    assert len(json.loads((out / "results.json").read_text())) == 8
    assert len(list(out.glob("shapes_*.jpg"))) == 8
    assert cv2.imread(str(out / "sheet.png")).std() > 20


def test_inputs_of_one_name_do_not_overwrite_each_other(tool, tmp_path):
    for name in ("a/cat.png", "a/cat.jpg", "b/Cat.png", "b/cat-2.png"):
        write_scene(tmp_path / "in" / name)
    tool(f"source={tmp_path}/in", f"out={tmp_path}/out")
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    written = [entry["picture"] for entry in entries] + [entry["mobile_deeplabv3"]["mask"] for entry in entries]
    assert len({name.lower() for name in written}) == 8
    assert all((tmp_path / "out" / name).is_file() for name in written)


def test_the_tool_takes_a_picture_at_a_url(tool, tmp_path, monkeypatch):
    write_scene(tmp_path / "bus.png")
    with serving({f"bus.png?size={'9' * 300}": (tmp_path / "bus.png").read_bytes()}, monkeypatch) as server:
        url = server.url(f"bus.png?size={'9' * 300}")
        tool(f"source={url}", f"out={tmp_path}/out")
        with pytest.raises(DataError, match="1 of 1 images could not be read: http://"):
            tool(f"source={server.url('none.png')}", f"out={tmp_path}/none")
    (entry,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert entry["file"] == url and entry["picture"] == "bus.jpg" and (tmp_path / "out" / "bus.jpg").is_file()


def test_a_bad_image_is_reported_and_the_others_are_done(tool, tmp_path, capsys):
    write_scene(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.jpg").write_text("not an image")
    write_scene(tmp_path / "in" / "c.png")
    with pytest.raises(DataError, match=r"1 of 3 images could not be read: .*bad\.jpg"):
        tool(f"source={tmp_path}/in", f"out={tmp_path}/out", "batch=2")
    assert "is not an image" in capsys.readouterr().out
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [Path(entry["file"]).name for entry in entries] == ["a.png", "c.png"]


def test_a_broken_page_is_told_and_the_others_have_files_of_their_numbers(tool, tmp_path, capsys):
    broken(tmp_path / "scan.tif", 2)
    with pytest.raises(DataError, match=r"1 of 5 images could not be read: .*scan\.tif, page 2"):
        tool(f"source={tmp_path}/scan.tif", f"out={tmp_path}/out", "batch=2")
    assert "scan.tif, page 2: is damaged or cut short" in capsys.readouterr().out
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [Path(entry["file"]).name for entry in entries] == [f"scan.tif, page {n}" for n in (1, 3, 4, 5)]
    assert [entry["picture"] for entry in entries] == [f"scan-{n}.jpg" for n in (1, 3, 4, 5)]
    assert entries[1]["mobile_deeplabv3"]["mask"] == "scan-3_mobile_deeplabv3_mask.png"


def test_an_input_of_bad_images_alone_is_an_error(tool, tmp_path):
    (tmp_path / "bad.jpg").touch()
    with pytest.raises(DataError, match=r"1 of 1 images could not be read: .*bad\.jpg"):
        tool(f"source={tmp_path}/bad.jpg", f"out={tmp_path}/out")


def test_a_folder_with_files_is_not_written_into(tool, tmp_path):
    write_scene(tmp_path / "in" / "a.png")
    with pytest.raises(ConfigError, match=r"out=.*in: is not empty, and nothing is overwritten"):
        tool(f"source={tmp_path}/in", f"out={tmp_path}/in")


def test_folders_are_numbered(tmp_path):
    (tmp_path / "notes").mkdir()
    assert [make_folder(None, tmp_path).name for _ in range(3)] == ["1", "2", "3"]
    (tmp_path / "9").mkdir()
    assert make_folder(None, tmp_path).name == "10"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/out: cannot be made .* choose another place with out="):
        make_folder(str(tmp_path / "file" / "out"), tmp_path)


def test_an_image_without_objects_has_an_empty_list(network):
    task = network.tasks["ssdlite"]
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    content = detection.as_json(nothing, task.class_names, min_score=0.5)
    assert content == [] and detection.in_words(content) == "no object"


def test_words_count_the_objects():
    content = [{"class": "ring"}, {"class": "disc"}, {"class": "disc"}]
    assert detection.in_words(content) == "2 disc, 1 ring"


def test_a_mask_keeps_its_indices_and_has_the_colours_of_its_classes(tmp_path):
    class_map = np.arange(9, dtype=np.uint8).reshape(3, 3)
    write_mask(tmp_path / "mask.png", class_map)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P" and (np.array(image) == class_map).all()
        assert len(np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)) == 9


def test_words_leave_out_what_is_hardly_there():
    content = {"classes": {"background": 0.62, "disc": 0.376, "ring": 0.004}}
    assert segmentation.in_words(content) == "62% background, 38% disc"


@pytest.mark.parametrize("override", ["min_score=1.5", "min_score=-1", "batch=0"])
def test_values_out_of_range_are_named(tool, tmp_path, override):
    with pytest.raises(ConfigError, match=override):
        tool(override, f"out={tmp_path}/out")


def test_a_missing_source_is_an_error_before_anything_is_loaded_or_made(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="source=nowhere"):
        tool("source=nowhere")
    assert not list(tmp_path.iterdir())


def test_an_unknown_device_is_named():
    with pytest.raises(ConfigError, match=r"device=gpu: not usable here .*device=auto"):
        choose_device("gpu")


def test_the_embedded_scenes_are_inputs():
    inputs = find_inputs("shapes")
    assert len(inputs) == 8
    assert (inputs[3].read() == draw_scene(0, "val", 3, 320).image).all()


def test_classes_and_thresholds_choose_the_boxes_that_are_written(tool, tmp_path):
    write_scene(tmp_path / "a.png")
    (tmp_path / "t.json").write_text(json.dumps({"ssdlite": {"disc": 0.0, "ring": 1.0}}))
    found = {}
    for name, words in {"all": [], "of": ["classes=[disc,ring]"], "from": [f"thresholds={tmp_path}/t.json"]}.items():
        tool(f"source={tmp_path}/a.png", f"out={tmp_path}/{name}", "min_score=0.05", *words)
        (entry,) = json.loads((tmp_path / name / "results.json").read_text())
        found[name] = entry["ssdlite"]
    assert found["all"] and found["of"] == [box for box in found["all"] if box["class"] in ("disc", "ring")]
    assert [box for box in found["from"] if box["class"] not in ("disc", "ring")] == [
        box for box in found["all"] if box["class"] not in ("disc", "ring")
    ]
    assert not [box for box in found["from"] if box["class"] == "ring"]
    assert len([box for box in found["from"] if box["class"] == "disc"]) >= len(
        [box for box in found["all"] if box["class"] == "disc"]
    )


def test_min_score_is_checked_before_a_folder_is_made(tool, tmp_path):
    with pytest.raises(ConfigError, match="min_score=2"):
        tool("min_score=2", f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_lightning_is_not_imported():
    code = "import sys, mnv2_tasks.build, mnv2_tasks.prediction.predictor; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
