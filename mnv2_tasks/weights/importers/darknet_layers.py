"""The networks of Darknet that are ours, layer by layer: the Darknet-19 classifier, YOLOv2 of 2016 and of 2017."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mnv2_tasks.backbones.darknet import POSITIONS, STAGES
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.darknet_cfg import Section, section
from mnv2_tasks.weights.importers.family import CLASSIFIER
from mnv2_tasks.wording import brief

HEAD = "tasks.yolov2.head"
CELL = 32  # pixels, the unit of anchors
MOST_ANCHORS, MOST_CLASSES = 100, 100_000
READABLE = "The Darknet-19 classifier (its last layer is [softmax]) and YOLOv2 on it ([region]) can be read"
# what Darknet trains YOLOv2 with, which changes nothing of what it computes
REGION_TRAINING: dict[str, object] = {
    "bias_match": 1, "jitter": 0.3, "rescore": 1, "object_scale": 5, "noobject_scale": 1, "class_scale": 1,
    "coord_scale": 1, "absolute": 1, "thresh": 0.6, "random": 1,
}  # fmt: skip
KEYS: dict[str, set[str]] = {  # of each kind of layer, those that are understood
    "convolutional": {"batch_normalize", "filters", "size", "stride", "pad", "padding", "activation"},
    "maxpool": {"size", "stride", "padding"},
    "route": {"layers"},
    "reorg": {"stride"},
    "avgpool": set(),
    "softmax": {"groups"},
    "cost": {"type"},
    "region": {"anchors", "classes", "coords", "num", "softmax", "max", *REGION_TRAINING},
}


class DarknetNetwork(NamedTuple):
    """All in which they differ."""

    side: int  # of the input, in pixels
    classes: int
    anchors: list[list[float]] = []  # [width, height] in cells; none: a classifier
    channels: int = 0  # of the three 3x3 convolutions of YOLOv2's head
    passthrough: int | None = None  # channels of the finer map; None: as it is, the network of 2016

    def __str__(self) -> str:
        if not self.anchors:
            return "Darknet-19"
        return "YOLOv2 of 2016" if self.passthrough is None else "YOLOv2"


class Layer(NamedTuple):
    section: Section
    module: str = ""  # ours, of a convolution
    inputs: int = 0  # its channels

    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """(our name, shape) of what a .weights file has of it, in order."""
        if not self.module:
            return []
        outputs, kernel = self.section.integer("filters", 1), self.section.integer("size", 1)
        shape = (outputs, self.inputs, kernel, kernel)
        if self.module == CLASSIFIER:
            shape = shape[:2]  # a 1x1 convolution before the mean is a linear layer behind it
        if not self.section.has("batch_normalize"):
            return [(f"{self.module}.bias", (outputs,)), (f"{self.module}.weight", shape)]
        norm = [(f"{self.module}.1.{leaf}", (outputs,)) for leaf in ("bias", "weight", "running_mean", "running_var")]
        return [*norm, (f"{self.module}.0.weight", shape)]


def cfg_sections(network: DarknetNetwork) -> list[Section]:
    """A whole .cfg."""
    net = section("net", batch=1, subdivisions=1, width=network.side, height=network.side, channels=3)
    return [net, *(layer.section for layer in layers_of(network))]


def layers_of(network: DarknetNetwork) -> list[Layer]:
    layers = list(_backbone())
    last = STAGES[-1][-1][0]
    if not network.anchors:
        output = _output(CLASSIFIER, last, network.classes)
        return [*layers, output, Layer(section("avgpool")), Layer(section("softmax", groups=1))]
    wide, fine = network.channels, int(POSITIONS["c4"].rpartition(".")[2])
    layers += [_convolution(f"{HEAD}.conv1", last, wide, 3), _convolution(f"{HEAD}.conv2", wide, wide, 3)]
    coarse, passed = len(layers) - 1, STAGES[-2][-1][0]
    layers.append(_route(fine - len(layers)))
    if network.passthrough is not None:
        layers.append(_convolution(f"{HEAD}.passthrough", passed, network.passthrough, 1))
        passed = network.passthrough
    layers.append(Layer(section("reorg", stride=2)))
    layers.append(_route(-1, coarse - len(layers)))
    layers.append(_convolution(f"{HEAD}.conv3", 4 * passed + wide, wide, 3))
    layers.append(_output(f"{HEAD}.predictor", wide, len(network.anchors) * (5 + network.classes)))
    region = section(
        "region",
        anchors=", ".join(f"{length!r}" for anchor in network.anchors for length in anchor),
        classes=network.classes,
        coords=4,
        num=len(network.anchors),
        softmax=1,
        **REGION_TRAINING,
    )
    return [*layers, Layer(region)]


def _backbone() -> Iterator[Layer]:
    index, before = 0, 3
    for stage in STAGES:
        if index:
            yield Layer(section("maxpool", size=2, stride=2))
            index += 1
        for after, kernel in stage:
            yield _convolution(f"backbone.layers.{index}", before, after, kernel)
            index, before = index + 1, after


def _convolution(module: str, before: int, after: int, kernel: int) -> Layer:
    settings = {"batch_normalize": 1, "filters": after, "size": kernel, "stride": 1, "pad": 1, "activation": "leaky"}
    return Layer(section("convolutional", **settings), module, before)


def _output(module: str, before: int, after: int) -> Layer:
    return Layer(section("convolutional", filters=after, size=1, stride=1, pad=1, activation="linear"), module, before)


def _route(*layers: int) -> Layer:
    return Layer(section("route", layers=",".join(map(str, layers))))


def network_of(sections: Sequence[Section], source: str) -> DarknetNetwork:
    """Which of the networks a .cfg describes.

    Raises:
        ConfigError: none of them; it names the section, the line, and what is otherwise.
    """
    if len(sections) < 2 or sections[0].kind != "net":
        raise ConfigError(f"{source}: expected [net] and then the layers of a network; is it a .cfg of Darknet?")
    net, *layers = sections
    for layer in layers:
        if layer.kind not in KEYS:
            raise layer.error(f"no network that can be read has such a layer. {READABLE}")
        for key in layer.settings:
            if key not in KEYS[layer.kind]:
                raise layer.error("no network that can be read has this setting", key)
    if layers[-1].kind == "cost" and len(layers) > 1:  # a classifier's loss, with which old files end
        layers = layers[:-1]
    if layers[-1].kind not in ("softmax", "region"):
        raise layers[-1].error(f"is the last layer. {READABLE}")
    network = _detector(net, layers) if layers[-1].kind == "region" else _classifier(net, layers)
    expected = [layer.section for layer in layers_of(network)]
    for index, (theirs, ours) in enumerate(zip(layers, expected)):
        if theirs.kind != ours.kind:
            raise theirs.error(f"{network} has [{ours.kind}] there. {READABLE}")
        meant = _meaning(ours, index)
        for key, value in _meaning(theirs, index).items():
            if value != meant[key]:
                raise theirs.error(f"{network} has {key}={meant[key]} there. {READABLE}", key)
    if len(layers) != len(expected):
        raise ConfigError(f"{source}: has {len(layers)} layers, {network} has {len(expected)}. {READABLE}")
    return network


def _classifier(net: Section, layers: Sequence[Section]) -> DarknetNetwork:
    output = next((layer for layer in reversed(layers) if layer.kind == "convolutional"), layers[-1])
    return DarknetNetwork(_side(net), _counted(output, "filters", MOST_CLASSES))


def _detector(net: Section, layers: Sequence[Section]) -> DarknetNetwork:
    region, backbone = layers[-1], sum(1 for _ in _backbone())
    routes = [index for index, layer in enumerate(layers) if layer.kind == "route"]
    if not routes or len(layers) <= backbone:
        raise region.error(f"YOLOv2 on Darknet-19 has [route] before it. {READABLE}")
    passed = layers[routes[0] + 1]
    return DarknetNetwork(
        _side(net),
        _counted(region, "classes", MOST_CLASSES, 20),
        _anchors(region, _side(net)),
        _counted(layers[backbone], "filters", 1 << 16),
        _counted(passed, "filters", 1 << 16) if passed.kind == "convolutional" else None,
    )


def _side(net: Section) -> int:
    width, height = (_counted(net, key, 1 << 16, 0) for key in ("width", "height"))
    if width != height:
        raise net.error(f"the input is square here, width={width} height={height} is not", "height")
    if net.integer("channels", 3) != 3:
        raise net.error("expected 3, for RGB", "channels")
    return width


def _counted(layer: Section, key: str, most: int, default: int = 1) -> int:
    number = layer.integer(key, default)
    if not 1 <= number <= most:
        raise layer.error(f"expected 1 to {most:,}", key)
    return number


def _anchors(region: Section, side: int) -> list[list[float]]:
    texts = region.text("anchors", "").rstrip(",").split(",")
    if len(texts) > 2 * MOST_ANCHORS or len(texts) != 2 * region.integer("num", 1):
        raise region.error(f"expected two numbers for each of num={region.integer('num', 1)} anchors", "anchors")
    try:
        lengths = [float(text) for text in texts]
    except ValueError:
        raise region.error("expected numbers", "anchors") from None
    if not all(0 < length < math.inf for length in lengths):
        raise region.error("expected numbers above 0", "anchors")
    if max(lengths) > max(CELL, 2 * side / CELL):  # far larger than any picture is in cells
        raise region.error(f"in pixels, as Darknet wrote them in December 2017: divide by {CELL}, for cells", "anchors")
    return [[width, height] for width, height in zip(lengths[::2], lengths[1::2])]


def _meaning(layer: Section, index: int) -> dict[str, Any]:
    """What a layer computes, with Darknet's defaults for what it does not say.

    Args:
        index: its own, where others are counted from.
    """
    if layer.kind == "convolutional":
        size, same = layer.integer("size", 1), layer.integer("pad", 0) != 0
        return {
            "batch_normalize": int(layer.integer("batch_normalize", 0) != 0),
            "filters": layer.integer("filters", 1),
            "size": size,
            "stride": layer.integer("stride", 1),
            "padding": size // 2 if same else layer.integer("padding", 0),
            "activation": brief(layer.text("activation", "logistic")),
        }
    if layer.kind == "maxpool":
        stride = layer.integer("stride", 1)
        size = layer.integer("size", stride)
        return {"stride": stride, "size": size, "padding": layer.integer("padding", size - 1)}
    if layer.kind == "route":
        texts = layer.text("layers", "").split(",")
        if not all(text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 6 for text in texts):
            raise layer.error("expected numbers of layers", "layers")
        return {"layers": [index + int(text) if text.startswith("-") else int(text) for text in texts]}
    if layer.kind == "region":
        return {"coords": layer.integer("coords", 4), "softmax": layer.integer("softmax", 0)}
    return {key: layer.integer(key, 1) for key in KEYS[layer.kind] if key != "type"}
