"""A .tflite file of MobileNetV2 gives the same numbers here as the network that it was converted from."""

import contextlib
import io
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tf_networks import TFNetwork

from mnv2_tasks.build import build_network, load_strictly
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.class_lists import VOC_SEGMENTATION, imagenet_names
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runtimes.exported import is_exported
from mnv2_tasks.weights.importers.tflite import read_tflite
from mnv2_tasks.weights.weight_files import load_weights

pytestmark = pytest.mark.slow  # TensorFlow converts

SSD_V1 = Path(__file__).parents[3] / "shared/assets/ssd_oracle/ssd_mobilenet_v1_quant_detect.tflite"


@pytest.fixture(scope="module")
def tf():
    pytest.importorskip("ai_edge_litert")
    import torch._dynamo  # noqa: F401  before TensorFlow, see weights/importers/tensorflow.py

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(7).integers(0, 256, (2, 96, 96, 3)).astype(np.float32)


def converter_of(tf, forward, side):
    """Of a function of normalised images."""
    function = tf.function(forward, input_signature=[tf.TensorSpec((1, side, side, 3), tf.float32)])
    module = tf.Module()
    module.function = function
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)


def written(path, converter):
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        path.write_bytes(converter.convert())
    return path


def edited(file, folder, change):
    """A copy of a file after `change(model, schema)`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read_bytes(), 0))
    change(model, schema)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "edited.tflite").write_bytes(builder.Output())
    return folder / "edited.tflite"


@pytest.fixture(scope="module")
def keras_classifier(tf):
    """Keras' own MobileNetV2 at width 0.35 with random values throughout, and without the softmax."""
    model = tf.keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classifier_activation=None)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.gamma.shape
            gamma, variance = rng.uniform(0.7, 1.3, size), rng.uniform(0.7, 1.3, size)
            layer.set_weights([gamma, rng.normal(0, 0.2, size), rng.normal(0, 0.2, size), variance])
        elif isinstance(layer, tf.keras.layers.Dense):
            layer.set_weights([rng.normal(0, 0.03, w.shape) for w in layer.get_weights()])
        elif layer.get_weights():  # Keras' own draws shrink the signal until the picture hardly matters
            (kernel,) = layer.get_weights()
            fan_in = kernel.size / layer.output.shape[-1]
            layer.set_weights([rng.normal(0, (2 / fan_in) ** 0.5, kernel.shape)])
    return model


@pytest.fixture(scope="module")
def keras_file(tf, keras_classifier, tmp_path_factory):
    converter = converter_of(tf, keras_classifier, 96)
    return written(tmp_path_factory.mktemp("tflite") / "float.tflite", converter)


@torch.inference_mode()
def outputs(imported, images):
    """Of our network as the overrides build it, for NHWC images in [0, 255]."""
    network = build_network(compose("train", imported.overrides), imported.class_names)
    load_strictly(network, imported.state, imported.family)
    (result,) = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).values()
    return result


def test_keras_classifier_gives_keras_logits(keras_classifier, keras_file, images):
    imported = read_tflite(keras_file)
    expected = keras_classifier(images / 127.5 - 1).numpy()
    ours = outputs(imported, images).numpy()
    assert (expected[0] - expected[1]).std() > 0.1  # the picture matters
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)
    assert imported.family == "TFLite" and imported.class_names == {"classification": imagenet_names()}
    assert {
        "task=classification",
        "data=imagenet",
        "width=0.35",
        "imgsz=96",
        "backbone.padding=same",
        "backbone.norm_eps=1e-3",
        "input.mean=[127.5,127.5,127.5]",
    } <= set(imported.overrides)
    assert not imported.left_out


def test_dynamic_range_weights_are_within_half_a_step_of_the_float_ones(tf, keras_classifier, keras_file, tmp_path):
    converter = converter_of(tf, keras_classifier, 96)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    file = written(tmp_path / "dynamic.tflite", converter)
    assert file.stat().st_size < 0.3 * keras_file.stat().st_size
    exact, rounded = read_tflite(keras_file).state, read_tflite(file).state
    changed = set()
    for name, values in exact.items():
        if values.ndim < 2:
            assert torch.equal(rounded[name], values)
            continue
        if not torch.equal(rounded[name], values):
            changed.add(name)
        step = values.flatten(1).abs().amax(1) / 127  # at the finest, a step for each channel
        worst = (rounded[name] - values).flatten(1).abs().amax(1)
        assert (worst <= 0.5001 * (step if values.ndim == 4 else step.amax())).all(), name
    assert changed == {name for name, x in exact.items() if x.ndim > 1 and x.numel() >= 1024}  # TFLite's own limit


@pytest.mark.parametrize("kind, low, high", [("UINT8", 0, 255), ("INT8", -128, 127)])
def test_fully_quantised_file_gives_back_the_values_and_the_input_range(keras_file, tmp_path, kind, low, high):
    def quantise(model, schema):  # constants for the whole tensor, with a zero point; the input as 8-bit pixels
        graph, integer = model.subgraphs[0], getattr(schema.TensorType, kind)
        graph.operators[0].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE  # as TOCO does
        for operator in graph.operators:
            graph.tensors[operator.outputs[0]].type = integer
            for tensor in (graph.tensors[i] for i in operator.inputs[1:]):
                buffer = model.buffers[tensor.buffer]
                if buffer.data is None or tensor.type != schema.TensorType.FLOAT32:
                    continue
                values = np.frombuffer(bytes(buffer.data), "<f4")
                scale = np.ptp(values) / 255
                zero = round(low - values.min() / scale)
                whole = np.clip(np.round(values / scale) + zero, low, high).astype(kind.lower())
                buffer.data, tensor.type = whole.view(np.uint8), integer
                tensor.quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero])
        image = graph.tensors[graph.inputs[0]]
        image.type = integer
        image.quantization = schema.QuantizationParametersT(scale=[1 / 128], zeroPoint=[128 + low])

    imported, exact = read_tflite(edited(keras_file, tmp_path, quantise)), read_tflite(keras_file)
    for name, values in exact.state.items():
        if values.is_floating_point():
            step = (values.max() - values.min()) / 255
            assert (imported.state[name] - values).abs().max() <= 1.001 * step, name
    assert {"input.mean=[128.0,128.0,128.0]", "input.std=[128.0,128.0,128.0]"} <= set(imported.overrides)


def test_background_class_is_dropped_and_reported(tf, images, tmp_path):
    network = TFNetwork(tf, 0.35, dtype="float32", normalised=True)
    expected = network.classifier(images / 127.5 - 1).numpy()
    imported = read_tflite(written(tmp_path / "slim.tflite", converter_of(tf, network.classifier, 96)))
    ours = outputs(imported, images).numpy()
    np.testing.assert_allclose(ours, expected[:, 1:], atol=2e-5 * np.abs(expected).max(), rtol=0)
    assert list(imported.left_out) == ["logit 0"]


@pytest.fixture(scope="module")
def deeplab(tf, images, tmp_path_factory):
    """(file, logits) of Mobile-DeepLabv3 at width 0.35."""
    network = TFNetwork(tf, 0.35, dtype="float32", normalised=True)
    logits = network.deeplab(images / 127.5 - 1).numpy()
    file = tmp_path_factory.mktemp("tflite") / "deeplab.tflite"
    return written(file, converter_of(tf, network.deeplab, 96)), logits


def test_mobile_deeplab_gives_tensorflow_logits(deeplab, images):
    file, expected = deeplab
    imported = read_tflite(file)
    assert imported.class_names == {"mobile_deeplabv3": VOC_SEGMENTATION}
    ours = outputs(imported, images).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max(), rtol=0)


def test_branches_of_deeplab_are_told_apart_in_either_order(deeplab, tmp_path):
    def swap(model, schema):
        graph = model.subgraphs[0]
        kinds = [model.operatorCodes[op.opcodeIndex].builtinCode for op in graph.operators]
        concatenation = kinds.index(schema.BuiltinOperator.CONCATENATION)
        convolutions = [i for i, kind in enumerate(kinds[:concatenation]) if kind == schema.BuiltinOperator.CONV_2D]
        shapes = [list(graph.tensors[graph.operators[i].inputs[0]].shape[1:3]) for i in convolutions[-2:]]
        assert shapes == [[6, 6], [1, 1]]  # pointwise, then pool
        graph.operators.insert(concatenation - 1, graph.operators.pop(convolutions[-2]))

    there, back = read_tflite(deeplab[0]).state, read_tflite(edited(deeplab[0], tmp_path, swap)).state
    assert there.keys() == back.keys() and all(torch.equal(there[name], back[name]) for name in there)


def test_atrous_branches_are_refused_by_their_count(tf, tmp_path):
    network = TFNetwork(tf, 0.35, dtype="float32", normalised=True)
    file = written(tmp_path / "aspp.tflite", converter_of(tf, lambda x: network.deeplab(x, (6, 12, 18)), 32))
    with pytest.raises(ConfigError, match="found 58 convolutions, 17 of them depthwise: neither a MobileNetV2 classif"):
        read_tflite(file)


def test_arithmetic_that_our_network_does_not_do_is_refused(keras_file, tmp_path):
    def square(model, schema):
        for code in model.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.ADD:
                code.builtinCode = schema.BuiltinOperator.MUL

    with pytest.raises(ConfigError, match="operations that our MobileNetV2 has not: MUL"):
        read_tflite(edited(keras_file, tmp_path, square))


def test_bias_that_no_convolution_took_in_is_refused(keras_file, tmp_path):
    def add_a_constant(model, schema):
        graph = model.subgraphs[0]
        adding = next(
            op
            for op in graph.operators
            if model.operatorCodes[op.opcodeIndex].builtinCode == schema.BuiltinOperator.ADD
        )
        adding.inputs = [adding.inputs[0], graph.operators[0].inputs[2]]

    with pytest.raises(ConfigError, match="operations that our MobileNetV2 has not: ADD of a constant"):
        read_tflite(edited(keras_file, tmp_path, add_a_constant))


def test_activation_other_than_relu6_is_refused(keras_file, tmp_path):
    def relu(model, schema):
        model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU

    with pytest.raises(ConfigError, match="backbone.stem has activation RELU, MobileNetV2's has RELU6"):
        read_tflite(edited(keras_file, tmp_path, relu))


def test_classes_of_somebody_else_are_numbered(keras_file, tmp_path):
    def keep_five(model, schema):
        graph = model.subgraphs[0]
        for index in graph.operators[-1].inputs[1:]:
            tensor = graph.tensors[index]
            buffer = model.buffers[tensor.buffer]
            buffer.data = buffer.data[: len(buffer.data) // 1000 * 5]
            tensor.shape = [5, *tensor.shape[1:]]

    imported = read_tflite(edited(keras_file, tmp_path, keep_five))
    assert imported.class_names == {"classification": [f"class {i}" for i in range(5)]}
    assert "data=folder" in imported.overrides and not imported.left_out


def with_metadata(file, folder, **labels):
    """As TFLite writes it: a zip archive of files of labels, behind the network."""
    path = folder / "with_metadata.tflite"
    path.write_bytes(file.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        for name, lines in labels.items():
            archive.writestr(f"{name}.txt", "\n".join(lines) + "\n")
    return path


def test_metadata_of_tflite_changes_nothing_but_the_names_of_classes(keras_file, tmp_path):
    labels = [f"bird {i}" for i in range(1000)]
    path = with_metadata(keras_file, tmp_path, notes=["made by us"], labels=labels, labels_de=["Vogel"] * 1000)
    plain, imported = read_tflite(keras_file), load_weights(path)
    assert not is_exported(path)
    assert imported.class_names == {"classification": labels} and "data=folder" in imported.overrides
    assert all(torch.equal(imported.state[name], plain.state[name]) for name in plain.state)
    assert set(plain.overrides) - set(imported.overrides) == {"data=imagenet"}


def test_labels_that_are_imagenets_keep_the_names_that_our_data_have(keras_file, tmp_path):
    labels = [name.upper() for name in imagenet_names()]
    labels[7] = "rooster"
    imported = load_weights(with_metadata(keras_file, tmp_path, labels=labels))
    assert imported.class_names == {"classification": imagenet_names()} and "data=imagenet" in imported.overrides


def test_the_background_of_labels_goes_with_its_logit(tf, tmp_path):
    network = TFNetwork(tf, 0.35, dtype="float32", normalised=True)
    file = written(tmp_path / "slim.tflite", converter_of(tf, network.classifier, 96))
    labels = ["background", *(f"bird {i}" for i in range(1000))]
    imported = load_weights(with_metadata(file, tmp_path, labels=labels))
    assert imported.class_names == {"classification": labels[1:]}


def test_labels_that_do_not_fit_or_cannot_be_shown_are_not_taken_as_they_are(keras_file, tmp_path):
    imported = load_weights(with_metadata(keras_file, tmp_path, labels=["a", "b"]))
    assert imported.class_names == {"classification": imagenet_names()}
    acting = load_weights(with_metadata(keras_file, tmp_path, labels=["\x1b[2J red"] * 1000))
    assert acting.class_names["classification"][0] == "\\x1b[2J red"


@pytest.mark.skipif(not SSD_V1.is_file(), reason="needs the assets that are not part of the project")
def test_ssd_mobilenet_v1_is_refused_by_what_it_is():
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ConfigError, match="found 47 convolutions, 13 of them depthwise.*TFLite_Detection_PostProcess"):
        read_tflite(SSD_V1)


def test_file_that_is_no_tflite_or_is_cut_short_is_an_error(keras_file, tmp_path):
    (tmp_path / "notes.tflite").write_text("not a network at all")
    with pytest.raises(ConfigError, match="notes.tflite: not a .tflite file"):
        read_tflite(tmp_path / "notes.tflite")
    (tmp_path / "cut.tflite").write_bytes(keras_file.read_bytes()[:10_000])
    with pytest.raises(ConfigError, match="cut.tflite: .*download complete"):
        read_tflite(tmp_path / "cut.tflite")


def test_without_litert_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert", None)
    with pytest.raises(ConfigError, match=re.escape('pip install "mnv2-tasks[tflite]"')):
        read_tflite(tmp_path / "any.tflite")
