"""Files that MediaPipe's tasks load: what they say there, and here, is what PyTorch says."""

import json
import re
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_export_formats import SIZE, pixels, reference, tiny_network, written

from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Detections, Frames
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.export import in_mediapipe, mediapipe_process
from mnv2_tasks.export.differences import differences
from mnv2_tasks.export.export import export
from mnv2_tasks.export.in_mediapipe import run_in_mediapipe
from mnv2_tasks.kinds.detection import compare_detections
from mnv2_tasks.prediction.predictor import load_model, predict_images
from mnv2_tasks.runtimes import formats
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.runtimes.formats import FORMATS
from mnv2_tasks.runtimes.mediapipe import check_task

FEW = ["data.source.val_size=8", "count=8"]
NAMES = ["a", "b", "c"]


def run(*arguments):
    return export(compose("export", ["weights=multitask_shapes", "format=mediapipe", *arguments]))


@pytest.fixture
def installed(monkeypatch):
    """What is refused before anything is written does not ask for the packages."""
    monkeypatch.setattr(formats, "find_spec", lambda name: name)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("missing", ["mediapipe", "litert_torch", "ai_edge_litert"])
def test_a_missing_package_says_how_to_install_it(missing, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(ConfigError, match=rf'format=mediapipe: needs {missing}: pip install -e "\.\[mediapipe\]"'):
        run("task=classification")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["precision=bf16"], "mediapipe has fp32, fp16, int8"),
        (["out=model.tflite"], "a file for each of classification, ssdlite, mobile_deeplabv3. Say out=<folder>"),
        (["out=phone", "task=ssdlite"], "writes a file that ends in .tflite"),
        (["task=mobile_deeplabv3", "input.fit=pad"], "squeezes the whole picture.*input.fit=pad. Say input.fit=tf1_sq"),
        (["task=classification", "input.fit=centre_crop"], "input.fit=centre_crop. Say input.fit=tf1_square"),
    ],
)
def test_what_a_task_of_mediapipe_cannot_hold_is_refused_before_anything_is_written(
    arguments, message, installed, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message) as error:
        run(*arguments)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_classes_that_mediapipe_cannot_tell_apart_are_refused():
    check_task("detection", ["cat", "dog"])
    check_task("classification", ["crane", "crane"])  # as ImageNet has them; these have an index too
    with pytest.raises(ConfigError, match="'cat' is that of two. Rename it"):
        check_task("detection", ["cat", "dog", "cat"])
    with pytest.raises(ConfigError, match="' ' is none. Rename it"):
        check_task("classification", ["cat", " "])


def test_a_kind_that_mediapipe_has_no_task_for_is_refused():
    with pytest.raises(ConfigError, match="none for tagging. Use format=litert"):
        check_task("tagging", NAMES)


# ---------------------------------------------------------------- the process that MediaPipe runs in


class Stub:
    """A file of three classes that a stand-in for the process is asked about."""

    path, tasks = "model.tflite", {"t": type("About", (), {"kind": "classification", "class_names": NAMES})}


def in_stub(code, monkeypatch, tmp_path):
    script = tmp_path / "stub.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(mediapipe_process.__file__.rpartition('/')[0])!r})\n{code}")
    monkeypatch.setattr(mediapipe_process, "__file__", str(script))
    size = (4, 4)
    sizes = torch.tensor([size] * 2)
    with run_in_mediapipe(Stub) as running:
        return running.predict(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), Frames(size, sizes, sizes))


def test_pictures_go_in_and_results_come_back(monkeypatch, tmp_path):
    code = (
        "import os\nimport numpy as np\nfrom mediapipe_process import receive, send\n"
        "while (sent := receive(sys.stdin.buffer)) is not None:\n"
        "    send([np.array([0.5, 0.25, sent[0].size], np.float32)], sys.stdout.buffer)\n"
    )
    assert in_stub(code, monkeypatch, tmp_path)["t"].tolist() == [[0.5, 0.25, 48]] * 2


def test_a_call_that_never_returns_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(in_mediapipe, "LIMIT", 1)
    began = time.monotonic()
    with pytest.raises(ConfigError, match="MediaPipe does not run the file: no result in 1 s"):
        in_stub("import time\ntime.sleep(600)", monkeypatch, tmp_path)
    assert time.monotonic() - began < 60


def test_what_mediapipe_says_against_a_file_is_told(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="does not run the file: RuntimeError: no metadata"):
        in_stub("raise RuntimeError('no metadata')", monkeypatch, tmp_path)


# ---------------------------------------------------------------- with MediaPipe


@pytest.fixture(scope="module", params=["classification", "ssdlite", "mobile_deeplabv3"])
def tiny(request):
    pytest.importorskip("mediapipe")
    network = tiny_network(request.param)
    if request.param == "ssdlite":
        rules = network.tasks["ssdlite"].postprocess
        rules.update(candidates=60, max_detections=8, iou_threshold=0.5, score_threshold=0.0)
        rules["score_threshold"] = float(np.sort(reference(network, pixels(4))[1].max(axis=1))[:2].mean())
    return network


@pytest.fixture(scope="module")
def tiny_file(tiny, tmp_path_factory):
    return Exported(written(tmp_path_factory.mktemp("tiny"), "mediapipe", tiny), threads=1)


@pytest.mark.slow
def test_mediapipe_and_our_own_reading_of_the_file_give_the_results_of_pytorch(tiny, tiny_file):
    assert tiny_file.format == "mediapipe"
    for name, (theirs, ours) in zip(
        tiny_file.run(pixels(4)), zip(tiny_file.run(pixels(4)).values(), reference(tiny, pixels(4))), strict=True
    ):
        assert theirs.dtype == ours.dtype and theirs.shape == ours.shape, name
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4, err_msg=name)
    with run_in_mediapipe(tiny_file) as running:
        found = differences(tiny, running, pixels(4), "fp32")
    assert found and all(d.value <= d.allowed for d in found if d.allowed is not None), found


@pytest.mark.slow
def test_file_describes_its_outputs_as_mediapipe_has_them(tiny, tiny_file):
    outputs = json.loads(tiny_file.metadata["outputs"])
    runner = tiny_file.session.interpreter.get_signature_runner()
    returned = runner(args_0=np.zeros((1, SIZE, SIZE, 3), np.float32))
    assert [output["shape"] for output in outputs] == [list(returned[name].shape) for name in sorted(returned)]
    with zipfile.ZipFile(tiny_file.path) as archive:  # MediaPipe reads no compressed ones
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("labels.txt").decode().split("\n") == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("precision", [p for p in FORMATS["mediapipe"].precisions if p != "fp32"])
def test_lower_precision_is_smaller_and_nearly_equal_in_mediapipe(tiny, tiny_file, precision, tmp_path):
    file = Exported(written(tmp_path, "mediapipe", tiny, precision, pixels(8)))
    assert file.path.stat().st_size < 0.8 * tiny_file.path.stat().st_size
    with run_in_mediapipe(file) as running:
        found = differences(tiny, running, pixels(4), precision)
    print(precision, found)
    assert all(d.value <= d.allowed for d in found if d.allowed is not None), found


@pytest.mark.slow
def test_mediapipe_refuses_a_file_that_says_nothing_of_its_input(tmp_path, monkeypatch):
    pytest.importorskip("mediapipe")
    monkeypatch.setattr("mnv2_tasks.runtimes.mediapipe._describe", lambda *about: None)
    file = Exported(written(tmp_path, "mediapipe", tiny_network("classification")))
    with (
        run_in_mediapipe(file) as running,
        pytest.raises(ConfigError, match="not run the file: .*NormalizationOptions"),
    ):
        running.predict(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8), Frames((SIZE, SIZE), *[torch.ones(1, 2)] * 2))


@pytest.fixture(scope="module")
def phone(tmp_path_factory):
    """Of the shipped model, a file for each task."""
    pytest.importorskip("mediapipe")
    return run(f"out={tmp_path_factory.mktemp('files') / 'phone'}", *FEW)


@pytest.mark.slow
def test_a_network_of_several_tasks_makes_a_folder_of_files(phone):
    tasks = ["classification", "mobile_deeplabv3", "ssdlite"]
    assert sorted(path.name for path in phone.iterdir()) == [f"{task}.tflite" for task in tasks]
    assert [*Exported(phone / "ssdlite.tflite").tasks] == ["ssdlite"]


@pytest.mark.slow
def test_file_is_scored_without_mediapipe(phone, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    few = ["data.source.val_size=8", "workers=0"]
    ours = evaluate(compose("eval", ["weights=multitask_shapes", "task=ssdlite", f"out={tmp_path / 'a'}", *few]))
    theirs = evaluate(compose("eval", [f"weights={phone / 'ssdlite.tflite'}", f"out={tmp_path / 'b'}", *few]))
    assert theirs["AP"] == pytest.approx(ours["AP"], abs=1e-3)


@pytest.mark.slow
def test_mediapipe_sees_in_pictures_of_any_size_what_we_predict(phone):
    """It resizes them itself, as fit=tf1_square does, and cuts boxes to whole pixels."""
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    pictures = [draw_scene(0, "val", i, size).image for i, size in enumerate([97, 131, 240, 333])]
    pictures = [np.ascontiguousarray(picture[: 9 * len(picture) // 10]) for picture in pictures]
    fit = Fit(mode="tf1_square", size=97, resize=None, fill=[0, 0, 0])

    def ours(task):
        model, passport = load_model(str(phone / f"{task}.tflite"), "auto")
        assert passport["config"]["input"]["fit"] == "tf1_square"
        return [result[task] for result in predict_images(model, pictures, fit)]

    images = [mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture) for picture in pictures]
    with vision.ImageClassifier.create_from_model_path(str(phone / "classification.tflite")) as classifier:
        best_ones = [classifier.classify(image).classifications[0].categories[0] for image in images]
    for best, probabilities in zip(best_ones, ours("classification")):
        assert best.index == probabilities.argmax() and best.score == pytest.approx(
            float(probabilities.max()), abs=0.05
        )

    with vision.ObjectDetector.create_from_model_path(str(phone / "ssdlite.tflite")) as detector:
        detections = [detector.detect(image).detections for image in images]
    names = Exported(phone / "ssdlite.tflite").tasks["ssdlite"].class_names
    for of_image, expected in zip(detections, ours("ssdlite")):
        found = [(d.bounding_box, category) for d in of_image for category in d.categories]
        found.sort(key=lambda pair: -pair[1].score)
        boxes = [[b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height] for b, _ in found]
        scores = torch.tensor([category.score for _, category in found])
        labels = torch.tensor([names.index(category.category_name) for _, category in found])
        sure = Detections(torch.tensor(boxes, dtype=torch.float32), scores, labels)
        sure, expected = (Detections(*(values[d.scores > 0.3] for values in d)) for d in (sure, expected))
        assert sure.labels.tolist() == expected.labels.tolist()
        sides, differ, _ = compare_detections(expected, sure)
        assert sides < 3 and differ < 0.05

    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=str(phone / "mobile_deeplabv3.tflite")), output_category_mask=True
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        assert segmenter.labels == Exported(phone / "mobile_deeplabv3.tflite").tasks["mobile_deeplabv3"].class_names
        for image, expected in zip(images, ours("mobile_deeplabv3")):
            result = segmenter.segment(image)
            masks = np.stack([np.squeeze(mask.numpy_view()) for mask in result.confidence_masks])
            np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-3)
            category = np.squeeze(result.category_mask.numpy_view())
            assert (masks.argmax(axis=0) == category).mean() > 0.99  # resized before, and after the best was chosen
            assert (category == expected).mean() > 0.97
            assert (masks.argmax(axis=0) == expected).mean() > 0.97


@pytest.mark.slow
def test_code_of_the_page_runs_as_it_stands(phone, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "phone.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phone").symlink_to(phone)
    Image.fromarray(draw_scene(0, "val", 0, 97).image).save("photo.jpg")
    names = {}
    exec(compile(code, "docs/phone.md", "exec"), names)
    assert "ring" in capsys.readouterr().out and np.squeeze(names["class_map"]).shape == (97, 97)
