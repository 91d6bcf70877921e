"""TensorFlow checkpoints give the same numbers here as in TensorFlow."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from imported_networks import outputs
from tf_networks import TFNasnet, TFNetwork

from mnv2_tasks.boxes.coding import decode_boxes
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.class_lists import VOC_SEGMENTATION, coco_categories, imagenet_names
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.tensorflow import convert, read_tensorflow
from mnv2_tasks.weights.importers.tensorflow_names import SSDLITE, place

pytestmark = pytest.mark.slow  # TensorFlow starts, traces and computes

ORACLE = Path(__file__).parents[3] / "shared/assets/ssd_oracle/ssdlite_mobilenet_v2_coco_tensors.csv"
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(7).integers(0, 256, (2, 96, 96, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def classifier(tf, images):
    """(variables, logits) of slim's network at width 0.35."""
    network = TFNetwork(tf, 0.35)
    logits = network.classifier(images).numpy()
    return network.variables, logits


@pytest.fixture(scope="module")
def ssdlite(tf, images):
    network = TFNetwork(tf, 0.35)
    codes, logits = (rows.numpy() for rows in network.ssdlite(images))
    return network.variables, codes, logits


def save(tf, prefix, variables):
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(variables[name]) for name in names],
    )
    return prefix


def converted(variables):
    return convert(variables, variables.__getitem__, "weights.ckpt")


# ---------------------------------------------------------------- the same numbers


def test_slim_classifier_gives_tensorflow_logits(classifier, images):
    variables, expected = classifier
    ours = outputs(converted(variables), images).numpy()
    assert (expected[0] - expected[1]).std() > 0.1  # the picture matters
    np.testing.assert_allclose(ours, expected[:, 1:], atol=1e-9, rtol=0)


def test_ssdlite_gives_tensorflow_logits_and_codes(ssdlite, images):
    variables, codes, logits = ssdlite
    ours = outputs(converted(variables), images)
    assert (logits[0] - logits[1]).std() > 0.1 and (codes[0] - codes[1]).std() > 0.1
    np.testing.assert_allclose(ours.class_logits[..., -1], logits[..., 0], atol=1e-9, rtol=0)
    np.testing.assert_allclose(ours.class_logits[..., :-1], logits[..., list(coco_categories())], atol=1e-9, rtol=0)
    # TF: ty, tx, th, tw over the scales 10, 10, 5, 5
    anchors = ours.anchors.numpy()
    centre, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    centre = codes[..., [1, 0]] / 10 * size + centre
    half = np.exp(codes[..., [3, 2]] / 5) * size / 2
    boxes = decode_boxes(ours.box_deltas, ours.anchors).numpy()
    np.testing.assert_allclose(boxes, np.concatenate([centre - half, centre + half], -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("task, rates", [("mobile_deeplabv3", ()), ("deeplabv3", (6, 12, 18))])
def test_deeplab_gives_tensorflow_logits(tf, images, task, rates):
    network = TFNetwork(tf, 0.35)
    expected = network.deeplab(images, rates).numpy()
    imported = converted(network.variables)
    assert imported.class_names == {task: VOC_SEGMENTATION}
    assert {f"task={task}", "data=voc", "imgsz=513", "input.fit=pad"} <= set(imported.overrides)
    assert (expected[0] - expected[1]).std() > 0.1
    np.testing.assert_allclose(outputs(imported, images).permute(0, 2, 3, 1), expected, atol=1e-9, rtol=0)


@pytest.fixture(scope="module")
def nasnet(tf, images):
    """(variables, logits) of slim's NASNet-A (mobile)."""
    network = TFNasnet(tf)
    logits, _ = network.classifier(images)
    return network.variables, logits.numpy()


def test_slim_nasnet_gives_tensorflow_logits(tf, nasnet, images, tmp_path):
    variables, expected = nasnet
    imported = read_tensorflow(save(tf, tmp_path / "model.ckpt", as_trained(variables)))
    assert (expected[0] - expected[1]).std() > 0.1
    np.testing.assert_allclose(outputs(imported, images).numpy(), expected[:, 1:], atol=1e-9, rtol=0)
    assert imported.family == "TF slim NASNet-A"
    assert {
        "task=classification", "data=imagenet", "backbone=nasnet_mobile", "width=1.0", "imgsz=224",
        "backbone.norm_momentum=0.0003", "input.mean=[127.5,127.5,127.5]", "input.resize=256",
    } <= set(imported.overrides)  # fmt: skip
    assert "background" in imported.left_out["final_layer/FC/weights/ExponentialMovingAverage[0]"]
    auxiliary = {name for name, why in imported.left_out.items() if "auxiliary" in why}
    assert auxiliary == {f"{name}{end}" for name in variables if name.startswith("aux_7/") for end in
                         ([""] if "moving_" in name else ["", "/ExponentialMovingAverage"])}  # fmt: skip


def test_another_nasnet_is_an_error(nasnet):
    variables = dict(nasnet[0])
    with pytest.raises(ConfigError, match="a NASNet-A of more cells than the mobile one"):
        converted(variables | {"cell_12/1x1/weights": np.zeros((1, 1, 2, 2))})
    with pytest.raises(ConfigError, match="TF slim NASNet-A, but 1 tensors.*such as backbone.stem.0.weight"):
        converted(variables | {"conv0/weights": np.zeros((3, 3, 3, 96))})
    with pytest.raises(ConfigError, match="1 variables belong to no layer.*, such as cell_3/third_bn/gamma"):
        converted(variables | {"cell_3/third_bn/gamma": np.zeros(44)})


# ---------------------------------------------------------------- reading checkpoints


def as_trained(variables):
    """A slim training checkpoint: the variables are the moving averages, the raw values are something else."""
    content = {"global_step": np.int64(123)}
    for name, values in variables.items():
        if "moving_" in name:
            content[name] = values
            continue
        content[name] = values + 1
        content[name + "/ExponentialMovingAverage"] = values
        content[name + "/RMSProp"] = content[name + "/RMSProp_1"] = np.ones_like(values)
    return content


def test_checkpoint_with_moving_averages_gives_them_and_reports_the_rest(tf, classifier, tmp_path):
    variables, _ = classifier
    content = as_trained(variables)
    imported = read_tensorflow(save(tf, tmp_path / "mobilenet_v2_0.35_96.ckpt", content))
    plain = converted(variables)
    assert imported.state.keys() == plain.state.keys()
    assert all(torch.equal(imported.state[name], plain.state[name]) for name in plain.state)
    assert imported.family == "TF slim"
    assert imported.overrides == [
        "task=classification",
        "data=imagenet",
        "backbone=mobilenet_v2",
        "width=0.35",
        "imgsz=96",
        "input.resize=110",
        "backbone.padding=same",
        "backbone.norm_eps=1e-3",
        "backbone.norm_momentum=0.003",
        "input.mean=[127.5,127.5,127.5]",
        "input.std=[127.5,127.5,127.5]",
        "input.fit=tf1_centre_crop",
    ]
    assert imported.class_names == {"classification": imagenet_names()}
    logits = "MobilenetV2/Logits/Conv2d_1c_1x1/weights"
    assert imported.left_out["global_step"] == "step counter"
    assert imported.left_out[f"{logits}/RMSProp_1"] == "optimizer slot"
    assert imported.left_out[logits] == "its moving average was taken instead"
    assert "background" in imported.left_out[f"{logits}/ExponentialMovingAverage[0]"]
    taken = content.keys() - imported.left_out.keys()
    assert taken == {name for name in content if name.endswith("Average") or "moving_" in name}


def test_prefix_index_file_and_folder_name_the_same_checkpoint(tf, classifier, tmp_path):
    variables, _ = classifier
    prefix = save(tf, tmp_path / "model.ckpt-9", variables)
    index = tmp_path / "model.ckpt-9.index"
    assert "imgsz=224" in read_tensorflow(prefix).overrides
    assert read_tensorflow(index).overrides == read_tensorflow(tmp_path).overrides == read_tensorflow(prefix).overrides
    (tmp_path / "model.ckpt-8.index").touch()
    with pytest.raises(ConfigError, match=r"several checkpoints, name one: model.ckpt-8.index, model.ckpt-9.index"):
        read_tensorflow(tmp_path)


def test_missing_part_of_a_checkpoint_is_an_error(tf, classifier, tmp_path):
    save(tf, tmp_path / "model.ckpt", classifier[0])
    (tmp_path / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(ConfigError, match=r"model.ckpt: TensorFlow cannot read it, is the download complete"):
        read_tensorflow(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    "name, message",
    [("nothing.ckpt", "nothing.ckpt.index does not exist"), (".", "no checkpoint")],
)
def test_path_without_a_checkpoint_is_an_error(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        read_tensorflow(tmp_path / name)


def test_without_tensorflow_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    (tmp_path / "model.ckpt.index").touch()
    with pytest.raises(ConfigError, match=re.escape('pip install "mnv2-tasks[tf]"')):
        read_tensorflow(tmp_path)


# ---------------------------------------------------------------- recognising


@pytest.mark.parametrize("size", [(333, 500), (100, 41), (224, 224), (7, 9)])
@pytest.mark.parametrize("share, mode", [(1.0, "tf1_square"), (0.875, "tf1_centre_crop")])
def test_pictures_are_resized_as_tensorflow_1_does(tf, size, share, mode):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    cropped = tf.image.central_crop(image, share)[None]
    expected = tf.compat.v1.image.resize_bilinear(tf.cast(cropped, tf.float32), (96, 96), align_corners=False)
    ours, *_ = Fit(mode=mode, size=96, resize=None, fill=[0, 0, 0])(image)
    np.testing.assert_allclose(ours, expected[0], atol=0.501, rtol=0)  # rounded to whole greys


def test_ssdlite_overrides_carry_what_its_weights_need(ssdlite):
    imported = converted(ssdlite[0])
    assert imported.class_names == {"ssdlite": list(coco_categories().values())}
    assert {
        "task=ssdlite",
        "data=coco",
        "width=0.35",
        "imgsz=300",
        "backbone.padding=same",
        "backbone.norm_momentum=0.0003",
        "backbone.scale_final=true",
        "tasks.ssdlite.head.padding=same",
        "tasks.ssdlite.scores=sigmoid",
    } <= set(imported.overrides)
    unused = [name for name in imported.left_out if name.endswith("[unused ids]")]
    assert len(unused) == 12 and len(imported.left_out) == 12


@pytest.mark.parametrize("width", [0.5, 0.75, 1.0, 1.3, 1.4])
def test_width_is_recognised_from_the_channels(tf, width):
    network = TFNetwork(tf, width)
    network.classifier(np.zeros((1, 32, 32, 3), np.float32), classes=1000, final=max(1280, int(1280 * width)))
    imported = converted(network.variables)
    assert f"width={width}" in imported.overrides
    assert not imported.left_out  # 1000 classes: no background to drop


def test_channels_of_no_width_are_an_error(tf):
    network = TFNetwork(tf, 0.35)
    network.classifier(np.zeros((1, 32, 32, 3), np.float32), final=1000)
    with pytest.raises(ConfigError, match="weights.ckpt: .*no width multiplier"):
        converted(network.variables)


def test_missing_and_unknown_variables_are_errors(classifier):
    variables = dict(classifier[0])
    with pytest.raises(ConfigError, match="1 variables belong to no layer.*MobilenetV2/expanded_conv_1/squeeze/wei"):
        converted(variables | {"MobilenetV2/expanded_conv_1/squeeze/weights": np.zeros((1, 1, 2, 2))})
    del variables["MobilenetV2/Conv_1/BatchNorm/gamma"]
    with pytest.raises(ConfigError, match="1 tensors of the backbone are missing, such as final.1.weight"):
        converted(variables)
    del variables["MobilenetV2/Logits/Conv2d_1c_1x1/biases"]
    with pytest.raises(ConfigError, match="the biases of the last layer are missing"):
        converted(variables)


@pytest.mark.parametrize(
    "names, message",
    [
        (["MobilenetV1/Conv2d_0/weights"], r"lie under \['MobilenetV1'\]"),
        (["model/layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"], "a TF 2 checkpoint"),
        (["FeatureExtractor/MobilenetV2/Conv/weights", "BoxPredictor_0/ClassPredictor/weights"], "only its SSDLite"),
        (
            ["MobilenetV2/Conv/weights", "logits/semantic/weights", "aspp1_depthwise/depthwise_weights"],
            "separable ASPP",
        ),
        (["MobilenetV2/Conv/weights", "logits/semantic/weights", "decoder/feature_projection0/weights"], "a decoder"),
    ],
)
def test_other_networks_are_named(names, message):
    with pytest.raises(ConfigError, match=message):
        convert(names, lambda name: np.zeros(1), "weights.ckpt")


@pytest.mark.parametrize(
    "run, arguments, task, number",
    [
        ("classifier", {"classes": 5}, "classification", 5),
        ("ssdlite", {"columns": 38}, "ssdlite", 37),
        ("deeplab", {"classes": 18}, "mobile_deeplabv3", 18),
    ],
)
def test_classes_of_somebody_else_are_numbered(tf, images, run, arguments, task, number):
    network = TFNetwork(tf, 0.35)
    expected = getattr(network, run)(images, **arguments)
    imported = converted(network.variables)
    assert "data=folder" in imported.overrides and not imported.left_out
    assert imported.class_names == {task: [f"class {i}" for i in range(number)]}
    ours = outputs(imported, images)
    if task == "ssdlite":  # its background, the first column, is our last
        ours, expected = ours.class_logits.roll(1, dims=-1), expected[1]
    ours = ours.permute(0, 2, 3, 1) if task == "mobile_deeplabv3" else ours
    np.testing.assert_allclose(ours, expected, atol=1e-9, rtol=0)


def test_other_numbers_of_anchors_are_refused(ssdlite):
    name = "BoxPredictor_0/BoxEncodingPredictor/biases"
    with pytest.raises(ConfigError, match=f"{name} has 24 values: expected 12, for 3 anchors"):
        converted(ssdlite[0] | {name: np.zeros(24, np.float32)})


# ---------------------------------------------------------------- the official graph


@pytest.mark.skipif(not ORACLE.is_file(), reason="needs the assets that are not part of the project")
def test_every_variable_of_the_official_ssdlite_graph_has_a_place():
    # the graph's batch norms are partly folded: of the four vectors of a layer one or two remain, and a kernel's name
    # has changed; depthwise_weights and the predictors have kept theirs
    shapes, constants, halves = {}, [], {}
    for row in csv.DictReader(ORACLE.read_text().splitlines()):
        shape = tuple(int(n) for n in row["shape"].split("x")) if row["shape"] else ()
        name = row["name"].replace("Conv2D/merged_input", "weights")
        scope, folded, half = name.partition("BatchNorm/batchnorm/")
        if folded:
            halves.setdefault(scope, {})[half] = shape
        elif place(name, SSDLITE):
            shapes[name] = shape
        else:
            constants.append(name)
    for scope, found in halves.items():
        kernel = "depthwise_weights" if "mul" in found else "weights"
        assert scope + kernel in shapes and len(set(found.values())) == 1 and "sub" in found
        shapes |= {f"{scope}BatchNorm/{part}": found["sub"] for part in BATCH_NORM}
    not_of_layers = ("Preprocessor", "Postprocessor", "ConstantFolding/Postprocessor", "MultipleGridAnchorGenerator")
    assert all(name.startswith(not_of_layers) or re.search(r"/stack(_1)?/\d$", name) for name in constants)
    assert len(shapes) == (52 + 12 + 12) * 5 + 12 * 2  # backbone, extras, depthwise of predictors; their outputs

    imported = convert(shapes, lambda name: np.zeros(shapes[name], np.float32), str(ORACLE))
    with torch.device("meta"):
        ours = build_network(compose("train", imported.overrides), imported.class_names).state_dict()
    found = {}
    for name, shape in shapes.items():
        target = place(name, SSDLITE)
        assert target.name not in found
        found[target.name] = tuple(target.convert(torch.zeros(shape)).shape)
    no_source = {name for name in ours if name.endswith("num_batches_tracked")} | {"mean", "std"}
    assert found == {name: tuple(values.shape) for name, values in ours.items() if name not in no_source}
    columns = [shape[-1] for name, shape in shapes.items() if re.search("/ClassPredictor/", name)]
    assert sorted(columns) == sorted([3 * 91] * 2 + [6 * 91] * 10)
    assert imported.class_names["ssdlite"] == list(coco_categories().values())
    assert {"width=1.0", "imgsz=300"} <= set(imported.overrides)
