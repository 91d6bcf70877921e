"""tools/export.py: files that predict what PyTorch predicts, or no files."""

import copy
import json

import numpy as np
import pytest
import torch

from mnv2_tasks.build import load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Detections, Frames
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.export import onnxruntime_web
from mnv2_tasks.export.differences import differences
from mnv2_tasks.export.export import export
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.kinds.detection import compare_detections
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.prediction.predictor import load_model, predict_images
from mnv2_tasks.runtimes import formats, onnx
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.training.train import train
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.weight_files import load_weights, save_weights

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

FEW = ["data.source.val_size=8", "count=8"]


def run(*arguments):
    return export(compose("export", list(arguments)))


@pytest.fixture(scope="module")
def network():
    return load_network("multitask_shapes")[0]


@pytest.fixture(scope="module")
def scenes():
    return np.stack([draw_scene(0, "val", i, 97).image for i in range(5)])


@pytest.fixture(scope="module")
def traced(network):
    """The shipped model as ONNX, which torch's exporter takes some fifteen seconds for."""
    return onnx.to_onnx(Graph(network), torch.zeros(2, 97, 97, 3, dtype=torch.uint8))


@pytest.fixture
def quick(traced, monkeypatch):
    """Every export of the shipped model starts from that."""
    monkeypatch.setattr(onnx, "to_onnx", lambda graph, example: copy.deepcopy(traced))


@pytest.fixture(scope="module")
def file(traced, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "to_onnx", lambda graph, example: copy.deepcopy(traced))
        return run("weights=multitask_shapes", "format=onnx", f"out={tmp_path_factory.mktemp('f') / 'm.onnx'}", *FEW)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """A file with the shipped model's segmentation task alone."""
    out = tmp_path_factory.mktemp("segmenter") / "model.onnx"
    return run("weights=multitask_shapes", "task=mobile_deeplabv3", "format=onnx", f"out={out}", *FEW)


# ---------------------------------------------------------------- what a file does


def test_file_gives_the_results_of_pytorch_for_every_task_from_one_pass(file, network, scenes):
    found = differences(network, Exported(file), scenes, "fp32")
    assert {d.task for d in found} == {"classification", "ssdlite", "mobile_deeplabv3"}
    assert all(d.value <= 1e-4 for d in found), found


def test_file_holds_all_that_it_takes_to_use_it(file):
    exported = Exported(file)
    about = json.loads(exported.metadata["preprocessing"])
    assert about["size"] == 97 and about["fit"] == "square"
    assert json.loads(exported.metadata["class_names"])["mobile_deeplabv3"][0] == "background"
    assert exported.run(np.zeros((3, 97, 97, 3), np.uint8))["ssdlite_boxes"].shape == (3, 100, 4)


def test_file_lists_its_outputs_with_the_shapes_that_they_have(file):
    exported = Exported(file)
    listed = json.loads(exported.metadata["outputs"])
    assert [output["name"] for output in listed] == exported.output_names
    assert [output.name for output in exported.session.session.get_outputs()] == exported.output_names
    assert listed[0] == {
        "name": "classification_probabilities",
        "task": "classification",
        "meaning": "probability of each class, 0 to 1",
        "shape": ["batch", 8],
    }
    found = exported.run(np.zeros((3, 97, 97, 3), np.uint8))
    assert all(found[output["name"]].shape == (3, *output["shape"][1:]) for output in listed)


def test_outputs_of_one_task_are_named_as_among_several(segmenter):
    (output,) = json.loads(Exported(segmenter).metadata["outputs"])
    assert output["name"] == "mobile_deeplabv3_class_map" and output["shape"] == ["batch", "height", "width"]


def test_file_of_before_whose_only_task_was_not_in_the_names_of_its_outputs_gives_the_same(segmenter, tmp_path):
    import onnx as library

    model = library.load(segmenter)
    (node,) = (node for node in model.graph.node if model.graph.output[0].name in node.output)
    node.output[0] = model.graph.output[0].name = "class_map"
    kept = [entry for entry in model.metadata_props if entry.key != "outputs"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    library.save(model, tmp_path / "former.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 97, 97, 3), np.uint8)
    (now,), (then,) = Exported(segmenter).run(pixels).values(), Exported(tmp_path / "former.onnx").run(pixels).values()
    assert np.array_equal(now, then)


def test_predicting_from_the_file_equals_predicting_from_the_weights_at_any_picture_size(file, network):
    pictures = [draw_scene(0, "val", 1, 97).image, draw_scene(0, "val", 2, 131).image[:, :90]]
    fit = Fit(mode="square", size=97, resize=None, fill=[0, 0, 0])
    model, passport = load_model(str(file), "auto")
    assert passport["class_names"] == {n: t.class_names for n, t in network.tasks.items()}
    for ours, theirs in zip(predict_images(network, pictures, fit), predict_images(model, pictures, fit)):
        torch.testing.assert_close(ours["classification"], theirs["classification"], atol=1e-5, rtol=0)
        boxes, scores, lost = compare_detections(ours["ssdlite"], theirs["ssdlite"])
        assert boxes < 1e-2 and scores < 1e-4 and lost == 0
        # resized after the classes were chosen, not before: edges differ by a pixel
        assert (ours["mobile_deeplabv3"] != theirs["mobile_deeplabv3"]).mean() < 0.05


def test_evaluating_the_file_needs_no_configuration_and_equals_evaluating_the_weights(file, tmp_path):
    few = ["data.source.val_size=8", "trainer.precision=32-true", "trainer.accelerator=cpu", "workers=0"]
    ours = evaluate(compose("eval", ["weights=multitask_shapes", f"out={tmp_path / 'a'}", *few]))
    theirs = evaluate(compose("eval", [f"weights={file}", f"out={tmp_path / 'b'}", *few]))
    assert ours.keys() == theirs.keys()
    assert all(ours[key] == pytest.approx(theirs[key], abs=1e-6) for key in ours if isinstance(ours[key], float))
    assert (tmp_path / "b" / "per_image.npz").is_file()


def test_one_task_of_the_file_can_be_evaluated(file, tmp_path):
    metrics = evaluate(compose("eval", [f"weights={file}", "task=ssdlite", f"out={tmp_path}", *FEW[:1], "workers=0"]))
    assert metrics["AP"] > 0.3


@pytest.mark.parametrize("height, width", [(97, 97), (65, 130), (33, 48)])
def test_segmentation_file_takes_any_height_and_width(segmenter, network, height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    sizes = torch.tensor([[height, width]] * 2)
    with torch.inference_mode():
        ours = network.predict(images_tensor(pixels), Frames((height, width), sizes, sizes))["mobile_deeplabv3"]
    theirs = Exported(segmenter).run(pixels)["mobile_deeplabv3_class_map"]
    assert theirs.dtype == np.uint8
    assert (np.stack([m.numpy() for m in ours]) == theirs).mean() > 0.999


def test_half_precision_file_is_half_as_large_and_nearly_equal(file, tmp_path, quick):
    half = run("weights=multitask_shapes", "format=onnx", "precision=fp16", f"out={tmp_path / 'half.onnx'}", *FEW)
    assert half.stat().st_size < 0.6 * file.stat().st_size


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_openvino_reads_the_same_network(network, scenes, tmp_path, precision, quick):
    pytest.importorskip("openvino")
    out = run(
        "weights=multitask_shapes", "format=openvino", f"precision={precision}", f"out={tmp_path / 'm.xml'}", *FEW
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml"]
    assert all(d.value <= 1e-3 for d in differences(network, Exported(out), scenes, precision) if precision == "fp32")


@pytest.fixture
def stand_in(tmp_path):
    """Files in place of onnxruntime-web's."""
    folder = tmp_path / "ort"
    folder.mkdir()
    for name in onnxruntime_web.FILES:
        (folder / name).touch()
    return folder


def test_page_lies_in_a_folder_with_a_file_that_predicts_like_any_other(network, scenes, tmp_path, quick, stand_in):
    out = run("weights=multitask_shapes", "format=web", f"ort={stand_in}", f"out={tmp_path / 'demo'}/", *FEW)
    assert out == tmp_path / "demo" and {path.name for path in tmp_path.iterdir()} == {"demo", "ort"}
    about = json.loads((out / "model.json").read_text())
    exported = Exported(out / about["model"])
    named = [name for task in about["tasks"] for name in task["outputs"].values()]
    assert named == exported.output_names == [output["name"] for output in about["outputs"]]
    assert all(d.value <= 1e-4 for d in differences(network, exported, scenes, "fp32"))


def test_page_that_cannot_be_written_leaves_no_folder(tmp_path, monkeypatch, quick, stand_in):
    def fail(folder, *_):
        (folder / "index.html").touch()
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("mnv2_tasks.export.export.write_page", fail)
    with pytest.raises(RuntimeError, match="disk"):
        run("weights=multitask_shapes", "format=web", f"ort={stand_in}", f"out={tmp_path / 'demo'}", *FEW)
    assert {path.name for path in tmp_path.iterdir()} == {"ort"}


# ---------------------------------------------------------------- the pieces


@pytest.mark.parametrize(
    "backbone", ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2", "vgg16", "darknet19"]
)
def test_folding_batch_norms_leaves_none_and_changes_no_result(backbone):
    from mnv2_tasks.build import build_network

    width = ["width=1.0"] if backbone == "shufflenet_v2" else []
    config = compose("train", ["task=classification", f"backbone={backbone}", *width])
    torch.manual_seed(0)
    network = build_network(config, {"classification": ["a", "b", "c"]}).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    folded = fold_batch_norms(network)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(images)["classification"], network(images)["classification"])


@pytest.mark.slow
def test_nasnets_paddings_are_pytorchs_in_the_file():
    """Below and on the right alone at even sizes; averages do not count them."""
    import onnxruntime

    from mnv2_tasks.build import build_network

    torch.manual_seed(0)
    config = compose("train", ["task=classification", "backbone=nasnet_mobile", "width=0.1", "imgsz=96"])
    network = build_network(config, {"classification": ["a", "b", "c"]})
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the next batch: signals reach the end
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8)
    network.train()(images_tensor(pixels))
    file = onnx.to_onnx(Graph(network.eval()), torch.zeros(2, 96, 96, 3, dtype=torch.uint8))
    session = onnxruntime.InferenceSession(file.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: pixels})
    with torch.no_grad():
        expected = network(images_tensor(pixels))["classification"].softmax(1).numpy()
    assert expected.std(axis=0).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def yolov2(tmp_path_factory):
    """Weights that find some of the scenes' objects."""
    few = ["data.source.train_size=1024", "data.source.val_size=8", "batch=16", "epochs=2", "imgsz=96"]
    small = ["tasks.yolov2.head.channels=128", "trainer.accelerator=cpu", f"runs={tmp_path_factory.mktemp('yolov2')}"]
    return train(compose("train", ["task=yolov2", *few, *small])) / "weights.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("format, precision", [("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32")])
def test_yolov2_gives_its_detections_in_the_file(yolov2, format, precision, tmp_path):
    """`export` itself refuses a file whose results, or whose AP, are not PyTorch's."""
    pytest.importorskip(format)
    out = tmp_path / f"m{formats.FORMATS[format].suffix}"
    how = [f"weights={yolov2}", f"format={format}", f"precision={precision}", f"out={out}"]
    file = run(*how, "tasks.yolov2.score_threshold=0.05", *FEW)
    found = Exported(file).run(np.zeros((2, 96, 96, 3), np.uint8))
    assert found["yolov2_boxes"].shape == (2, 100, 4)


def test_detections_without_a_partner_are_counted():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 5, 5]])
    ours = Detections(boxes, torch.tensor([0.9, 0.8, 0.3]), torch.tensor([0, 1, 2]))
    same = Detections(boxes + 0.1, ours.scores - 0.01, ours.labels)
    other = Detections(boxes, ours.scores, torch.tensor([0, 0, 2]))
    none = Detections(boxes[:0], ours.scores[:0], ours.labels[:0])
    assert compare_detections(ours, same) == pytest.approx((0.1, 0.01, 0.0), abs=1e-5)
    assert compare_detections(ours, other)[2] == 0.5  # one of each side; the last lies on the edge
    assert compare_detections(ours, none)[2] == 1.0
    assert compare_detections(none, none) == (0.0, 0.0, 0.0)


# ---------------------------------------------------------------- what is refused


def test_file_that_differs_from_pytorch_is_not_left(tmp_path, network, quick):
    weights = load_weights(find_weights("multitask_shapes"))
    weights.state["tasks.classification.head.linear.bias"][0] += 1
    save_weights(tmp_path / "other.safetensors", weights.state, weights.passport)
    with pytest.raises(ConfigError, match="not written.*classification, largest difference of a probability"):
        run(f"weights={tmp_path / 'other.safetensors'}", "format=onnx", f"out={tmp_path / 'model.onnx'}", *FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["other.safetensors"]


def test_writing_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(network, example, metadata, path, precision):
        path.write_bytes(b"half")
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(onnx, "write", fail)
    with pytest.raises(RuntimeError, match="disk"):
        run("weights=multitask_shapes", "format=onnx", f"out={tmp_path / 'model.onnx'}", *FEW)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["weights=multitask_shapes"], "format=onnx | openvino"),
        (["weights=multitask_shapes", "format=onx"], "unknown; there are onnx"),
        (
            ["weights=multitask_shapes", "format=onnx", "precision=bf16"],
            "onnx has fp32, fp16, int8; precision=bf16 has",
        ),
        (["weights=multitask_shapes", "format=onnx", "precision=fp8"], "onnx has fp32"),
        (["weights=multitask_shapes", "format=onnx", "out=model.pt"], "ends in .onnx"),
        (["task=ssdlite", "format=onnx"], "say what to export"),
        (["run=runs/a", "format=onnx"], "run=runs/a: to export, say weights=runs/a"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        run(*arguments)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_existing_file_is_not_overwritten(tmp_path):
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        run("weights=multitask_shapes", "format=onnx", f"out={tmp_path / 'model.onnx'}")
    assert (tmp_path / "model.onnx").read_text() == "mine"


def test_missing_runtime_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[openvino\]"'):
        run("weights=multitask_shapes", "format=openvino")


def test_run_that_has_not_ended_is_not_exported(tmp_path):
    (tmp_path / "config.yaml").write_text("epochs: 10")
    with pytest.raises(ConfigError, match="has not ended.*resume="):
        run(f"weights={tmp_path}", "format=onnx")


def test_foreign_checkpoint_is_not_exported(tmp_path):
    torch.save({"conv9.weight": torch.zeros(3)}, tmp_path / "theirs.pth")
    with pytest.raises(ConfigError, match="theirs.pth"):
        run(f"weights={tmp_path / 'theirs.pth'}", "format=onnx")


def test_exported_file_is_not_exported_again(file):
    with pytest.raises(ConfigError, match="exported network already"):
        run(f"weights={file}", "format=openvino")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_file_that_cannot_be_run_is_named(content, file, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(ConfigError, match="model.onnx: cannot be run, it is damaged"):
        load_model(str(path), "auto")


def test_model_of_another_program_is_refused(tmp_path, file):
    import onnx as library

    model = library.load(file)
    del model.metadata_props[:]
    library.save(model, tmp_path / "theirs.onnx")
    with pytest.raises(ConfigError, match="not written by tools/export.py"):
        load_model(str(tmp_path / "theirs.onnx"), "auto")


@pytest.mark.parametrize("argument", ["imgsz=128", "tasks.ssdlite.score_threshold=0.5", "flip=true"])
def test_what_is_fixed_in_a_file_cannot_be_changed(file, argument, tmp_path):
    with pytest.raises(ConfigError, match="export"):
        evaluate(compose("eval", [f"weights={file}", argument, f"out={tmp_path}", *FEW[:1], "workers=0"]))


def test_an_exported_network_cannot_be_split_any_more(file):
    with pytest.raises(ConfigError, match="split=2: an exported network is as it was written"):
        load_model(str(file), "auto", split=2)


def test_an_exported_network_runs_on_the_cpu_alone(file):
    with pytest.raises(ConfigError, match="device=cpu"):
        load_model(str(file), "cuda")


# ---------------------------------------------------------------- in shares


@pytest.mark.slow
def test_a_file_in_shares_gives_the_results_of_the_whole_network(network, scenes, tmp_path, caplog):
    caplog.set_level("INFO")
    file = run("weights=multitask_shapes", "format=onnx", "split=3", f"out={tmp_path / 'm.onnx'}", *FEW)
    found = differences(network, Exported(file), scenes, "fp32")
    assert {d.task for d in found} == {"classification", "ssdlite", "mobile_deeplabv3"}
    assert all(d.value <= 1e-5 or "box" in d.quantity and d.value <= 1e-4 for d in found), found
    assert "17 bottlenecks in 3 shares" in caplog.text


@pytest.mark.parametrize(
    "words, message",
    [
        (["split=99"], "blocks.0 has 16 channels to share out"),
        (["split=auto"], "memory=1500k"),
        (["split=auto", "memory=12x"], "memory=12x: expected bytes"),
        (["split=auto", "memory=1k", "precision=int8"], "memory=1k: .* in 8 bits"),
        (["memory=1M"], "is for split=auto"),
        (["split=2", "format=darknet"], "darknet has no bottlenecks"),
    ],
)
def test_shares_that_cannot_be_are_told_before_anything_is_written(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        run("weights=multitask_shapes", "format=onnx", *FEW, *words)
    assert not list(tmp_path.glob("**/*.onnx"))
