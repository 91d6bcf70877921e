"""TensorFlow's frozen graphs are read without TensorFlow, and give its numbers; nothing else gets in."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from frozen_graphs import GraphWriter, folded
from imported_networks import network_of, outputs
from tf_networks import TFNetwork

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.build import build_fit
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.class_lists import coco_categories
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import evaluate
from mnv2_tasks.network.unfold import is_folded
from mnv2_tasks.weights.importers import tensorflow_graph
from mnv2_tasks.weights.importers.tensorflow import convert
from mnv2_tasks.weights.weight_files import load_weights

ASSETS = Path(__file__).parents[3] / "shared" / "assets"
REAL = ASSETS / "weights" / "tf_ssdlite_mobilenet_v2_pedestrian_frozen.pb"
RATIOS = [1.0, 2.0, 0.5, 3.0, 0.3333, 1.0]
needs_assets = pytest.mark.skipif(not REAL.is_file(), reason="needs the assets that are not part of the project")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(7).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def networks(tf, images):
    """{name: (variables, outputs)} of TensorFlow's."""
    found = {}
    for name in ("classifier", "classifier_v1", "ssdlite", "deeplab"):
        network = TFNetwork(tf, 0.25 if name == "classifier_v1" else 0.35)
        arguments = {"columns": 3} if name == "ssdlite" else {}
        outputs = getattr(network, name)(images, **arguments)
        found[name] = (network.variables, outputs)
    return found


def scales(*of_maps):
    return [[0.1, 0.2, 0.2]] + [[s] * 5 + [(s * after) ** 0.5] for s, after in zip(of_maps, [*of_maps[1:], 1.0])]


# ---------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("name, backbone", [("classifier", "mobilenet_v2"), ("classifier_v1", "mobilenet_v1")])
def test_classifier_gives_tensorflows_logits_without_tensorflow(
    networks, images, name, backbone, tmp_path, monkeypatch
):
    variables, expected = networks[name]
    writer = GraphWriter(variables)
    writer.placeholder(-1, 96, 96, 3)
    path = writer.write(tmp_path / "frozen.pb")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    imported = load_weights(path)
    width = 0.35 if backbone == "mobilenet_v2" else 0.25
    assert {f"backbone={backbone}", f"width={width}", "imgsz=96", "task=classification"} <= set(imported.overrides)
    np.testing.assert_allclose(outputs(imported, images), expected.numpy()[:, 1:], atol=1e-9, rtol=0)


def test_deeplab_of_a_graph_is_that_of_its_checkpoint(networks, images, tmp_path):
    variables, expected = networks["deeplab"]
    imported = load_weights(GraphWriter(variables).write(tmp_path / "frozen_inference_graph.pb"))
    assert {"task=mobile_deeplabv3", "imgsz=513", "input.fit=pad"} <= set(imported.overrides)
    np.testing.assert_allclose(outputs(imported, images).permute(0, 2, 3, 1), expected.numpy(), atol=1e-9, rtol=0)


def test_detector_brings_its_size_anchors_scores_and_limits(networks, images, tmp_path):
    variables, (codes, logits) = networks["ssdlite"]
    writer = GraphWriter(variables)
    writer.constant("Preprocessor/map/while/ResizeImage/stack", np.int32([320, 320]))
    writer.detector(scores="Softmax", threshold=0.25, overlap=0.45, of_class=20, of_all=50, classes=2)
    writer.anchors([[1.0, 2.0, 0.5], *[RATIOS] * 5], scales(0.3, 0.4, 0.5, 0.6, 0.7))
    imported = load_weights(writer.write(tmp_path / "frozen.pb"))
    task = compose("train", imported.overrides).tasks.ssdlite
    assert (task.scores, task.score_threshold, task.iou_threshold) == ("softmax", 0.25, 0.45)
    assert (task.max_per_class, task.max_detections) == (20, 50)
    assert list(task.head.anchor_scales) == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert list(task.head.anchor_ratios) == RATIOS[:-1] and "imgsz=320" in imported.overrides
    assert imported.class_names == {"ssdlite": ["class 0", "class 1"]} and "input.fit=tf1_square" in imported.overrides
    ours = outputs(imported, images)
    np.testing.assert_allclose(ours.class_logits, logits.numpy()[..., [1, 2, 0]], atol=1e-9, rtol=0)
    np.testing.assert_allclose(ours.box_deltas, codes.numpy()[..., [1, 0, 3, 2]], atol=1e-9, rtol=0)


def prepared_for_tflite(variables, anchors):
    """As export_tflite_ssd_graph.py writes it."""
    writer = GraphWriter(variables)
    writer.placeholder(1, 320, 320, 3)
    writer.operation("convert_scores", "Sigmoid")
    writer.constant("anchors", anchors)
    limits = {"nms_score_threshold": 0.25, "nms_iou_threshold": 0.45}
    coding = {"y_scale": 10, "x_scale": 10, "h_scale": 5, "w_scale": 5}
    node = writer.operation("found", "TFLite_Detection_PostProcess", **limits, **coding)
    node.attr["max_detections"].i = 10
    return writer


def test_a_detector_prepared_for_tflite_brings_its_limits_and_has_to_have_tensorflows_anchors(networks, tmp_path):
    variables, path = networks["ssdlite"][0], tmp_path / "tflite_graph.pb"
    corners = ssd_anchors([(cells, cells) for cells in (20, 10, 5, 3, 2, 1)]).numpy()
    sizes = np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])[:, [1, 0, 3, 2]]
    task = compose("train", load_weights(prepared_for_tflite(variables, sizes).write(path)).overrides).tasks.ssdlite
    assert (task.scores, task.score_threshold, task.iou_threshold, task.max_detections) == ("sigmoid", 0.25, 0.45, 10)
    refused(
        prepared_for_tflite(variables, sizes * 1.1).write(path), "its 2034 anchors are not the 2034 of TensorFlow's"
    )
    refused(prepared_for_tflite(variables, sizes[1:]).write(path), "its 2033 anchors are not the 2034 of TensorFlow's")


def test_a_detector_that_resizes_as_tensorflow_2_sees_pixels_from_their_centres(networks, tmp_path):
    writer = GraphWriter(networks["ssdlite"][0])
    writer.operation("Preprocessor/ResizeImage/ResizeBilinear", "ResizeBilinear").attr["half_pixel_centers"].b = True
    assert compose("train", load_weights(writer.write(tmp_path / "frozen.pb")).overrides).input.fit == "square"


def test_a_checkpoint_of_a_detector_brings_tensorflows_limits(networks):
    variables, _ = networks["ssdlite"]
    task = compose("train", convert(variables, variables.__getitem__, "model.ckpt").overrides).tasks.ssdlite
    assert (task.score_threshold, task.iou_threshold, task.max_per_class, task.max_detections) == (1e-8, 0.6, 100, 100)


def test_one_number_may_stand_for_all_of_a_tensor(networks, tmp_path):
    variables, _ = networks["classifier"]
    name = "MobilenetV2/Conv/BatchNorm/moving_mean"
    writer = GraphWriter({other: values for other, values in variables.items() if other != name})
    writer.constant(name, np.float32([0.5]), shape=variables[name].shape, packed=False)
    imported = load_weights(writer.write(tmp_path / "frozen.pb"))
    assert imported.state["backbone.stem.1.running_mean"].tolist() == [0.5] * len(variables[name])


@pytest.mark.parametrize(
    "name, how",
    [("deeplab", "in place"), ("classifier", "renamed"), ("classifier_v1", "renamed"), ("ssdlite", "merged")],
)
def test_a_graph_with_folded_norms_gives_tensorflows_numbers(networks, images, name, how, tmp_path):
    variables, expected = networks[name]
    imported = load_weights(folded(variables, how).write(tmp_path / "frozen.pb"))
    assert is_folded(network_of(imported))
    ours = outputs(imported, images)
    if name == "ssdlite":
        ours, expected = ours.class_logits, expected[1][..., 1:]
        ours = ours[..., :-1]
    elif name == "deeplab":
        ours = ours.permute(0, 2, 3, 1)
    else:
        expected = expected[:, 1:]
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("packed", [True, False])
def test_halves_are_read_as_float32(networks, packed, tmp_path):
    variables, _ = networks["classifier"]
    name, shape = "MobilenetV2/Conv/weights", variables["MobilenetV2/Conv/weights"].shape
    writer = GraphWriter({other: values for other, values in variables.items() if other != name})
    halves = variables[name].astype(np.float16)
    writer.constant(f"{name}_half", halves, packed=packed)
    writer.operation(name, "Cast", [f"{name}_half"])
    kernel = load_weights(writer.write(tmp_path / "frozen.pb")).state["backbone.stem.0.weight"]
    assert kernel.dtype == torch.float32 and kernel.permute(2, 3, 1, 0).shape == shape
    assert np.array_equal(kernel.permute(2, 3, 1, 0), halves.astype(np.float32))


@pytest.mark.parametrize("mode", ["MIN_FIRST", "MIN_COMBINED"])
def test_bytes_are_turned_back_as_tensorflow_does(tf, networks, mode, tmp_path):
    variables, _ = networks["classifier"]
    name = "MobilenetV2/Conv/weights"
    writer = GraphWriter({other: values for other, values in variables.items() if other != name})
    codes, least, most = writer.quantised(name, variables[name], mode)
    kernel = load_weights(writer.write(tmp_path / "frozen.pb")).state["backbone.stem.0.weight"]
    expected = tf.raw_ops.Dequantize(input=tf.bitcast(codes, tf.quint8), min_range=least, max_range=most, mode=mode)
    np.testing.assert_allclose(kernel.permute(2, 3, 1, 0), expected.numpy(), atol=1e-6, rtol=0)


def test_of_a_graph_that_simulates_rounding_the_weights_before_it_are_taken_and_the_ranges_told(networks, tmp_path):
    variables, _ = networks["classifier"]
    name, writer = "MobilenetV2/Conv/weights", GraphWriter(variables)
    for part, value in (("min", -1), ("max", 1)):
        writer.constant(f"MobilenetV2/Conv/weights_quant/{part}", np.float32(value))
    ranges = ["MobilenetV2/Conv/weights_quant/min", "MobilenetV2/Conv/weights_quant/max"]
    writer.operation("MobilenetV2/Conv/quant", "FakeQuantWithMinMaxVars", [f"{name}/read", *ranges])
    imported = load_weights(writer.write(tmp_path / "frozen.pb"))
    assert np.array_equal(imported.state["backbone.stem.0.weight"].permute(2, 3, 1, 0), variables[name])
    assert "fake quantisation" in imported.left_out["MobilenetV2/Conv/quant"]


# ---------------------------------------------------------------- what is refused


def small():
    """A graph of one layer, enough to be looked into."""
    return GraphWriter({"MobilenetV2/Conv/weights": np.zeros((3, 3, 3, 8)), "MobilenetV2/Conv/biases": np.zeros(8)})


def refused(path, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_weights(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"\x0a\xff\xff\xff\x7fcut", "is no graph of TensorFlow, or was cut short"),
        (b"\x08\x01\x12\x04\x0a\x02\x08\x01", "a SavedModel"),
    ],
)
def test_what_is_no_frozen_graph_says_so(content, message, tmp_path):
    path = tmp_path / "frozen.pb"
    path.write_bytes(content)
    refused(path, message)


def test_a_graph_of_another_network_says_what_it_misses(networks, tmp_path):
    path, variables = tmp_path / "frozen.pb", networks["classifier"][0]
    other = GraphWriter()
    other.operation("conv1", "Conv2D")
    refused(other.write(path), "a graph of 1 operations, such as conv1, none of whose constants is named")
    other.operation("conv1/weights", "VariableV2")
    refused(other.write(path), "not frozen: the values of 1 variables, such as conv1/weights, are not in it")
    without = {name: of for name, of in variables.items() if name != "MobilenetV2/Conv/BatchNorm/gamma"}
    refused(GraphWriter(without).write(path), "MobilenetV2/Conv has no BatchNorm/gamma, and no bias.*folded")
    refused(small().write(path), "no TF-slim MobileNetV1, V2 or NASNet-A.*MobilenetV2")
    inception = GraphWriter({"InceptionV3/Conv2d_1a_3x3/weights": np.zeros((3, 3, 3, 8))})
    refused(inception.write(path), r"its layers lie under \['InceptionV3'\]")
    logits = "MobilenetV2/Logits/Conv2d_1c_1x1"
    part = {name: of for name, of in variables.items() if "expanded_conv_16" not in name}
    refused(GraphWriter(part).write(path), "tensors of the backbone are missing, such as blocks.16")
    refused(GraphWriter(variables | {f"{logits}/weights": np.zeros(3)}).write(path), "not of the shapes")
    whole = GraphWriter(variables)
    whole.operation("MobilenetV2/Conv/BatchNorm/FusedBatchNorm", "FusedBatchNorm", epsilon=0.1)
    refused(whole.write(path), "FusedBatchNorm has epsilon 0.1")


@pytest.mark.parametrize(
    "shape, message",
    [
        ([2**40, 2**40], "the tensors have more than 33,554,432 numbers"),
        ([2], r"holds 3 numbers, its shape \[2\] says 2"),
        ([-1], "no tensor of float32"),
        ([1] * 9, "no tensor of float32"),
    ],
)
def test_a_shape_that_the_file_cannot_fill_is_refused_before_it_is_made(networks, shape, message, tmp_path):
    variables, name = networks["classifier"][0], "MobilenetV2/Conv/weights"
    writer = GraphWriter({other: values for other, values in variables.items() if other != name})
    writer.constant(name, np.float32([1.0, 2.0, 3.0]), shape=shape, packed=False)
    refused(writer.write(tmp_path / "frozen.pb"), message)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflow_graph, "MOST_BYTES", 100)
    refused(small().write(tmp_path / "frozen.pb"), "larger than 100 bytes")


def test_numbers_that_are_none_are_refused(networks, tmp_path):
    name = "MobilenetV2/Conv/BatchNorm/beta"
    variables = networks["classifier"][0]
    wrong = variables | {name: np.full_like(variables[name], np.nan)}
    refused(GraphWriter(wrong).write(tmp_path / "frozen.pb"), "beta: holds NaN")


def test_a_detector_that_works_otherwise_is_refused(networks, tmp_path):
    path, variables = tmp_path / "frozen.pb", networks["ssdlite"][0]
    writer = GraphWriter(variables)
    writer.detector(scores="Relu")
    refused(writer.write(path), "scores are made by Relu: expected Sigmoid or Softmax")
    writer = GraphWriter(variables)
    for i, scale in enumerate((10, 10, 1, 1)):
        writer.constant(f"Postprocessor/Decode/truediv{f'_{i}' if i else ''}/y", np.float32(scale))
    refused(writer.write(path), "boxes are coded with the scales")
    writer = GraphWriter(variables)
    writer.anchors([[1.0, 2.0, 0.5], *[RATIOS] * 5], [[0.1, 0.2, 0.2], *[[0.3, 0.4] * 3] * 5])
    refused(writer.write(path), "anchors have the scales")


# ---------------------------------------------------------------- a real one


def check_raw_outputs(path):
    network = network_of(load_weights(path))
    raw = np.load(ASSETS / "ssd_oracle/ssdlite_mobilenet_v2_pedestrian_raw.npz")
    with torch.inference_mode():
        (ours,) = network(torch.from_numpy(raw["pre"]).permute(0, 3, 1, 2).double() * 127.5 + 127.5).values()
    np.testing.assert_allclose(ours.class_logits[..., [1, 0]], raw["scores"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(ours.box_deltas[..., [1, 0, 3, 2]], raw["boxes"], atol=1e-4, rtol=0)


@needs_assets
def test_real_detector_gives_tensorflows_raw_outputs():
    check_raw_outputs(REAL)


@needs_assets
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_detector_folded_by_tensorflows_own_tool_gives_its_raw_outputs(tf, tmp_path):
    from tensorflow.python.tools import optimize_for_inference_lib

    graph = tf.compat.v1.GraphDef.FromString(REAL.read_bytes())
    graph = tf.compat.v1.graph_util.remove_training_nodes(graph)
    path = tmp_path / "folded.pb"
    path.write_bytes(optimize_for_inference_lib.fold_batch_norms(graph).SerializeToString())
    check_raw_outputs(path)


@needs_assets
def test_googles_own_optimised_graph_of_coco_is_read(tmp_path):
    writer, said = GraphWriter(), json.loads((ASSETS / "ssd_oracle/ssdlite_mobilenet_v2_coco_graph.json").read_text())
    for node in said["modelTopology"]["node"]:
        if node["op"] != "Const":
            writer.operation(node["name"], node["op"], node["input"])
            continue
        tensor = node["attr"]["value"]["tensor"]  # without its numbers
        number = np.float32(0.5) if tensor["dtype"] == 1 else np.int32(300)
        shape = [int(side["size"]) for side in tensor["tensorShape"]["dim"]]
        if node["name"] == "Postprocessor/ExpandDims":
            number = ssd_anchors([(cells, cells) for cells in (19, 10, 5, 3, 2, 1)]).numpy()[None][..., [1, 0, 3, 2]]
            assert list(number.shape) == shape
        writer.constant(node["name"], number, shape=shape, packed=False)
    imported = load_weights(writer.write(tmp_path / "frozen.pb"))
    assert "imgsz=300" in imported.overrides and is_folded(network_of(imported))
    assert imported.class_names == {"ssdlite": list(coco_categories().values())}


@needs_assets
def test_real_detector_sees_the_pixels_that_tensorflow_sees():
    settings = compose("train", load_weights(REAL).overrides)
    raw = np.load(ASSETS / "ssd_oracle/ssdlite_mobilenet_v2_pedestrian_raw.npz")
    image, *_ = build_fit(settings)(read_image(ASSETS / "coco/val2017" / str(raw["image"])))
    np.testing.assert_allclose(image, raw["pre"][0] * 127.5 + 127.5, atol=0.501, rtol=0)  # rounded to whole greys


@needs_assets
@pytest.mark.slow
def test_real_detector_gets_tensorflows_ap(tmp_path):
    truth = json.loads((ASSETS / "coco/annotations/instances_val2017.json").read_text())
    truth["categories"] = [category for category in truth["categories"] if category["name"] == "person"]
    truth["annotations"] = [box for box in truth["annotations"] if box["category_id"] == 1]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/val.json").write_text(json.dumps(truth))
    shutil.copytree(ASSETS / "coco/val2017", tmp_path / "images/val")
    data = ["task=ssdlite", "data=folder", f"data.root={tmp_path}", "workers=0", f"out={tmp_path / 'out'}"]
    metrics = evaluate(compose("eval", [f"weights={REAL}", *data]))
    assert [metrics[name] for name in ("AP", "AP50", "AP75")] == pytest.approx([0.204, 0.433, 0.164], abs=0.002)
    assert metrics["AR100"] == pytest.approx(0.343, abs=0.003)
