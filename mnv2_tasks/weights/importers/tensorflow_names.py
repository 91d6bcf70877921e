"""Where each variable of TensorFlow's networks goes. Pure names and layouts: needs no TensorFlow."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mnv2_tasks.data.class_lists import coco_categories
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers import nasnet_names
from mnv2_tasks.weights.importers.family import CLASSIFIER, TF_INPUT, TF_LAYERS

SHADOW = "/ExponentialMovingAverage"  # slim evaluates with these; batch-norm statistics have none
IMAGENET_LOGITS = (*(f"MobilenetV{version}/Logits/Conv2d_1c_1x1" for version in (1, 2)), "final_layer/FC")
CLASS_BIASES = "BoxPredictor_0/ClassPredictor/biases"  # (3 anchors * (1 + classes),)
COCO_COLUMNS = 91  # background, then COCO's ids 1 to 90, gaps included

NORMALISED = {  # what a convolution without a bias consists of: TF's name -> ours, within conv_norm_act
    "weights": "0.weight",
    "depthwise_weights": "0.weight",
    "BatchNorm/gamma": "1.weight",
    "BatchNorm/beta": "1.bias",
    "BatchNorm/moving_mean": "1.running_mean",
    "BatchNorm/moving_variance": "1.running_var",
}
BIASED = {"weights": "weight", "biases": "bias"}
_PARTS = "|".join((*NORMALISED, *BIASED, "pointwise_weights", *nasnet_names.NORM))
_VARIABLE = re.compile(rf"(?P<layer>.+?)/(?P<part>{_PARTS})")


class Place(NamedTuple):
    """Our tensor's name, and how TF's values (in TF's shape) become ours."""

    name: str
    convert: Callable[[Tensor], Tensor]


class TensorFlowLayout(NamedTuple):
    """The naming scheme of one code base. Keys are patterns of whole layer names, values our names of them."""

    family: str
    task: str  # conf/task/<task>.yaml
    overrides: list[str]  # the settings that travel with such weights
    normalised: dict[str, str]  # convolutions with a batch norm
    biased: dict[str, tuple[str, Callable[[Tensor], Tensor]]]  # output convolutions, and the order of their channels
    whole: dict[str, str] = {}  # {variable: our tensor}, of networks without such pairs
    unused: dict[str, str] = {}  # {pattern of variables: why nothing of ours takes them}
    backbone: str = "mobilenet_v2"
    shapes: Callable[[], dict[str, torch.Size]] | None = None  # as in `complete`
    class_ids: Sequence[int] = ()  # of a detector whose label map is known: the columns that our classes come from


def _as_they_are(rows: Tensor) -> Tensor:
    return rows


def _imagenet_rows(rows: Tensor) -> Tensor:
    """1001 rows -> 1000: row 0 is the background class, which no image of ImageNet has."""
    return rows[1:] if len(rows) == 1001 else rows


def _class_order(columns: int, ids: Sequence[int]) -> list[int]:
    """Columns of the Object Detection API in our order: a label map's ids, COCO's, or all; background last."""
    return [*(ids or (coco_categories() if columns == COCO_COLUMNS else range(1, columns))), 0]


def _class_rows(anchors: int, ids: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """(anchors * columns, ...) -> (anchors * (K + 1), ...)."""

    def convert(rows: Tensor) -> Tensor:
        table = rows.unflatten(0, (anchors, -1))
        return table[:, _class_order(table.shape[1], ids)].flatten(0, 1)

    return convert


def _box_rows(rows: Tensor) -> Tensor:
    """(anchors * 4, ...): ty, tx, th, tw -> x, y, width, height."""
    return rows.unflatten(0, (-1, 4))[:, [1, 0, 3, 2]].flatten(0, 1)


def _backbone(scope: str) -> dict[str, str]:
    return {
        rf"{scope}/Conv": "backbone.stem",
        rf"{scope}/expanded_conv/(expand|depthwise|project)": r"backbone.blocks.0.\1",
        rf"{scope}/expanded_conv_(\d+)/(expand|depthwise|project)": r"backbone.blocks.\1.\2",
        rf"{scope}/Conv_1": "backbone.final",
    }


SLIM_INPUT = [*TF_INPUT, "input.fit=tf1_centre_crop"]
SLIM = TensorFlowLayout(
    family="TF slim",
    task="classification",
    overrides=TF_LAYERS + SLIM_INPUT,
    normalised=_backbone("MobilenetV2"),
    biased={"MobilenetV2/Logits/Conv2d_1c_1x1": ("tasks.classification.head.linear", _imagenet_rows)},
)
NASNET = TensorFlowLayout(
    family="TF slim NASNet-A",
    task="classification",
    overrides=["width=1.0", "backbone.norm_momentum=0.0003", *SLIM_INPUT],
    normalised={},
    biased={"final_layer/FC": (CLASSIFIER, _imagenet_rows)},
    whole=nasnet_names.slim_variables(),
    unused={r"aux_\d+/.*": "the auxiliary classifier, which helps in training alone"},
    backbone=nasnet_names.BACKBONE,
    shapes=nasnet_names.shapes,
)
SLIM_V1 = TensorFlowLayout(
    family="TF slim",
    task="classification",
    overrides=TF_LAYERS + SLIM_INPUT,
    normalised={
        "MobilenetV1/Conv2d_0": "backbone.layers.0",
        r"MobilenetV1/Conv2d_(\d+)_depthwise": r"backbone.layers.\1.0",
        r"MobilenetV1/Conv2d_(\d+)_pointwise": r"backbone.layers.\1.1",
    },
    biased={"MobilenetV1/Logits/Conv2d_1c_1x1": ("tasks.classification.head.linear", _imagenet_rows)},
    backbone="mobilenet_v1",
)


def _predictors(ids: Sequence[int]) -> dict[str, tuple[str, Callable[[Tensor], Tensor]]]:
    return {
        r"BoxPredictor_(\d)/BoxEncodingPredictor": (r"tasks.ssdlite.head.box_predictors.\1.1", _box_rows),
        r"BoxPredictor_(0)/ClassPredictor": (r"tasks.ssdlite.head.class_predictors.\1.1", _class_rows(3, ids)),
        r"BoxPredictor_([1-5])/ClassPredictor": (r"tasks.ssdlite.head.class_predictors.\1.1", _class_rows(6, ids)),
    }


# the extra maps are numbered from 2, after the backbone's two
_EXTRAS = {
    rf"FeatureExtractor/MobilenetV2/layer_19_{step}_Conv2d_{2 + i}_{kind}": f"tasks.ssdlite.head.extras.{i}.{part}"
    for i in range(4)
    for step, kind, part in [(1, r"1x1_\d+", "0"), (2, r"3x3_s2_\d+_depthwise", "1.0"), (2, r"3x3_s2_\d+", "1.1")]
}
SSDLITE = TensorFlowLayout(
    family="TF Object Detection API",
    task="ssdlite",
    overrides=[
        "backbone.padding=same",
        "backbone.norm_eps=1e-3",
        "backbone.norm_momentum=0.0003",  # it trains the whole network at 0.9997, the others the backbone at 0.997
        "tasks.ssdlite.head.padding=same",
        "tasks.ssdlite.scores=sigmoid",
        "tasks.ssdlite.score_threshold=1e-8",
        "tasks.ssdlite.iou_threshold=0.6",
        "tasks.ssdlite.candidates=2000",  # TF has no such limit: the best of them fill 100 detections
        "tasks.ssdlite.max_per_class=100",
        "tasks.ssdlite.max_detections=100",
        *TF_INPUT,
        "input.fit=tf1_square",
    ],
    normalised={
        **_backbone("FeatureExtractor/MobilenetV2"),
        **_EXTRAS,
        r"BoxPredictor_(\d)/BoxEncodingPredictor_depthwise": r"tasks.ssdlite.head.box_predictors.\1.0",
        r"BoxPredictor_(\d)/ClassPredictor_depthwise": r"tasks.ssdlite.head.class_predictors.\1.0",
    },
    biased=_predictors(()),
)


def ssdlite_of(class_ids: Sequence[int]) -> TensorFlowLayout:
    """SSDLITE with the classes of a label map."""
    return SSDLITE._replace(biased=_predictors(class_ids), class_ids=class_ids)


def _deeplab(task: str) -> TensorFlowLayout:
    head = f"tasks.{task}.head"
    backbone = _backbone("MobilenetV2")
    del backbone["MobilenetV2/Conv_1"]  # past the map that DeepLab reads
    return TensorFlowLayout(
        family="TF DeepLab",
        task=task,
        overrides=TF_LAYERS + TF_INPUT,
        normalised={
            **backbone,
            "image_pooling": f"{head}.pool",
            "aspp0": f"{head}.pointwise",
            **{f"aspp{i + 1}": f"{head}.atrous.{i}" for i in range(3)},
            "concat_projection": f"{head}.project",
        },
        biased={"logits/semantic": (f"{head}.logits", _as_they_are)},
        unused={"MobilenetV2/(Conv_1|Logits)/.*": "past the map that the segmenter reads"},
    )


MOBILE_DEEPLAB, DEEPLAB = _deeplab("mobile_deeplabv3"), _deeplab("deeplabv3")


def recognise_layout(variables: Iterable[str], source: str) -> TensorFlowLayout:
    """The naming scheme of a checkpoint with these variables.

    Raises:
        ConfigError: none of ours, or a network of that code base which ours are not.
    """
    variables = list(variables)
    if any(".ATTRIBUTES" in name for name in variables):
        raise ConfigError(f"{source}: a TF 2 checkpoint, whose names do not tell the layers; export it as .tflite")
    layers = {match["layer"] for name in variables if (match := _VARIABLE.match(name))}
    scopes = sorted({layer.split("/")[0] for layer in layers})
    if any(layer.startswith("FeatureExtractor/MobilenetV2/") for layer in layers):
        if not any(re.fullmatch(r"BoxPredictor_\d/ClassPredictor_depthwise", layer) for layer in layers):
            raise ConfigError(
                f"{source}: an Object Detection API checkpoint without depthwise-separable predictors, an SSD or some "
                f"other; only its SSDLite (use_depthwise: true) can be imported"
            )
        return SSDLITE
    if "logits/semantic" in layers and "MobilenetV2/Conv" in layers:
        if any(layer.startswith("decoder/") for layer in layers):
            raise ConfigError(f"{source}: a DeepLabv3+ checkpoint: it has a decoder, our DeepLabv3 head has none")
        separable = sorted(layer for layer in layers if re.fullmatch(r"aspp\d_(depthwise|pointwise)", layer))
        if separable:
            raise ConfigError(
                f"{source}: a DeepLab checkpoint with separable ASPP branches ({', '.join(separable)}): our head has "
                f"regular ones, as the paper's parameter count tells; train with --aspp_with_separable_conv=false"
            )
        return DEEPLAB if "aspp1" in layers else MOBILE_DEEPLAB
    if "MobilenetV2/Logits/Conv2d_1c_1x1" in layers:
        return SLIM
    if "MobilenetV1/Logits/Conv2d_1c_1x1" in layers:
        return SLIM_V1
    if {"cell_stem_1/1x1", "final_layer/FC"} <= layers:
        if "cell_12/1x1" in layers:
            raise ConfigError(f"{source}: a NASNet-A of more cells than the mobile one, (4 @ 1056), which ours is")
        return NASNET
    raise ConfigError(
        f"{source}: no TF-slim MobileNetV1, V2 or NASNet-A (mobile) classifier, Object Detection API SSDLite or "
        f"DeepLab: its layers lie under {scopes or 'no scope known here'}"
    )


def place(variable: str, layout: TensorFlowLayout) -> Place | None:
    """Where a trained variable goes. None: it belongs to no layer of our network.

    Args:
        variable: its name, without the suffix of a moving average.
    """
    match = _VARIABLE.fullmatch(variable)
    if match is None:
        return None
    layer, part = match["layer"], match["part"]
    if variable in layout.whole:
        return Place(layout.whole[variable], _KERNELS.get(part, _as_they_are))
    for pattern, ours in layout.normalised.items():
        if part in NORMALISED and re.fullmatch(pattern, layer):
            return Place(f"{re.sub(pattern, ours, layer)}.{NORMALISED[part]}", _KERNELS.get(part, _as_they_are))
    for pattern, (ours, order) in layout.biased.items():
        if part in BIASED and re.fullmatch(pattern, layer):
            linear = part == "weights" and ours.endswith(".linear")
            return Place(f"{re.sub(pattern, ours, layer)}.{BIASED[part]}", _output(part, order, linear))
    return None


def folded_norm(variable: str, layout: TensorFlowLayout) -> str | None:
    """Our batch norm that adds a bias which stands where TF's was; None: the variable is no such bias."""
    layer, _, part = variable.rpartition("/")
    found = [pattern for pattern in layout.normalised if part == "biases" and re.fullmatch(pattern, layer)]
    return f"{re.sub(found[0], layout.normalised[found[0]], layer)}.1" if found else None


def unused(variable: str, layout: TensorFlowLayout) -> str | None:
    """Why nothing of ours takes a variable; None: it is not known."""
    return next((why for pattern, why in layout.unused.items() if re.fullmatch(pattern, variable)), None)


def num_classes(variable: str, values: Tensor, layout: TensorFlowLayout) -> int | None:
    """How many classes our head has, from the variable that tells it (None: not this one)."""
    if variable in (f"{layer}/biases" for layer in IMAGENET_LOGITS):
        return len(_imagenet_rows(values))
    if variable == "logits/semantic/biases":
        return len(values)
    if variable == CLASS_BIASES:
        return len(_class_order(len(values) // 3, layout.class_ids)) - 1
    return None


def check_anchors(variable: str, values: Tensor, source: str) -> None:
    """Raise a ConfigError if a box predictor has not SSDLite's 3 anchors (first map) or 6 (the others) in each cell."""
    match = re.fullmatch(r"BoxPredictor_(\d)/BoxEncodingPredictor/biases", variable)
    anchors = 3 if match and match[1] == "0" else 6
    if match and len(values) != 4 * anchors:
        raise ConfigError(
            f"{source}: {variable} has {len(values)} values: expected {4 * anchors}, for {anchors} anchors"
        )


def dropped_columns(variable: str, values: Tensor, layout: TensorFlowLayout) -> dict[str, str]:
    """{columns of the last dimension: why our head has none for them}."""
    columns = values.shape[-1]
    if variable.startswith(IMAGENET_LOGITS) and columns == 1001:
        return {"0": "the background class, which no image of ImageNet has"}
    if match := re.match(r"BoxPredictor_(\d)/ClassPredictor/", variable):
        of_anchor = columns // (3 if match[1] == "0" else 6)
        if len(_class_order(of_anchor, layout.class_ids)) < of_anchor:
            whose = "the label map" if layout.class_ids else "COCO"
            return {"unused ids": f"ids below {of_anchor} that {whose} gave to no class"}
    return {}


def is_weight(variable: str) -> bool:
    """Whether the name is that of a trained value or a batch-norm statistic, and not of a slot or a counter."""
    return _VARIABLE.fullmatch(variable) is not None


def _regular(kernel: Tensor) -> Tensor:
    if kernel.ndim == 2:  # a linear layer
        return kernel.T
    return kernel.permute(3, 2, 0, 1)  # (kh, kw, in, out) -> (out, in, kh, kw)


def _depthwise(kernel: Tensor) -> Tensor:
    return kernel.permute(2, 3, 0, 1)  # (kh, kw, channels, 1) -> (channels, 1, kh, kw)


_KERNELS = {"weights": _regular, "pointwise_weights": _regular, "depthwise_weights": _depthwise}


def _output(part: str, order: Callable[[Tensor], Tensor], linear: bool) -> Callable[[Tensor], Tensor]:
    def convert(values: Tensor) -> Tensor:
        rows = order(_regular(values) if part == "weights" else values)
        return rows.flatten(1) if linear else rows  # a 1x1 convolution after pooling is our linear layer

    return convert
