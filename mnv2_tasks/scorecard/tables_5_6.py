"""Tables 5 and 6, and the detectors of the MobileNetV3 paper that stand on MobileNetV2."""

from collections.abc import Iterator

import torch

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.scorecard.counting import head_cost, padded_madds, params_without_norm
from mnv2_tasks.scorecard.networks import detector, vgg_detector, vgg_ssd, yolov2
from mnv2_tasks.scorecard.paper_number import PaperNumber, deviation

YOLOV2_SIDE = 416  # pixels
ONE_NETWORK = (
    "VGG-16 under the SSD of table 5: six maps, 3 anchors per cell on the first and 6 elsewhere, 90 label ids and "
    "background; inferred, since all four figures in print come out of it"
)


def table_5() -> Iterator[PaperNumber]:
    ssd, lite = head_cost(detector(lite=False), 320), head_cost(detector(), 320)
    counted = "extra maps and predictors, 80 classes and background"
    yield PaperNumber("Table 5", "SSD", "params", "14.8M", ssd.params, counted, ssd.peak_activation_bytes)
    yield PaperNumber("Table 5", "SSD", "MAdds", "1.25B", ssd.madds, counted, ssd.peak_activation_bytes)
    yield PaperNumber("Table 5", "SSDLite", "params", "2.1M", lite.params, counted, lite.peak_activation_bytes)
    note = "half: the paper's figure is in FLOPs, two per multiply-add; see the next line"
    yield PaperNumber("Table 5", "SSDLite", "MAdds", "0.35B", lite.madds, note, lite.peak_activation_bytes)
    note = "twice the multiply-adds"
    yield PaperNumber("Table 5", "SSDLite", "FLOPs", "0.35B", 2 * lite.madds, note, lite.peak_activation_bytes)


def table_6() -> Iterator[PaperNumber]:
    yield from _vgg("SSD300", 300, "35.2B", "23.2", 8732)
    yield from _vgg("SSD512", 512, "99.5B", "26.8", 24564)
    yield from _yolov2()
    for name, backbone, params, madds, ap, milliseconds in [
        ("MobileNetV1 + SSDLite", MobileNetV1, "5.1M", "1.3B", "22.2", "270"),
        ("MobileNetV2 + SSDLite", MobileNetV2, "4.3M", "0.8B", "22.1", "200"),
    ]:
        network, counted = detector(backbone=backbone), "320, 80 classes and background"
        cost = model_cost(network, 320)
        yield PaperNumber("Table 6", name, "params", params, cost.params, counted, cost.peak_activation_bytes)
        yield PaperNumber("Table 6", name, "MAdds", madds, cost.madds, counted, cost.peak_activation_bytes)
        yield PaperNumber("Table 6", name, "AP, test-dev, %", ap)
        yield PaperNumber("Table 6", name, "Pixel 1, ms", milliseconds)
    anchors = network.eval()(torch.empty(1, 3, 320, 320, device="meta")).anchors
    note = "not in print: TF's layout at 320, 3 per cell on the first map and 6 elsewhere"
    yield PaperNumber("Table 6", name, "anchors", "2034", len(anchors), note, cost.peak_activation_bytes)


def _yolov2() -> Iterator[PaperNumber]:
    """Its row mixes two networks: parameters of 2017, for VOC; the rest is of the paper, 2016, for COCO."""
    costs = {
        (year, classes): model_cost(yolov2(num_classes=classes, passthrough_channels=passthrough), YOLOV2_SIDE)
        for year, passthrough in ((2016, None), (2017, 64))
        for classes in (20, 80)
    }
    for kind, printed, rows in (
        ("params", "50.7M", {(2017, 20): "", (2017, 80): ", 2017, 80 classes", (2016, 80): ", 2016, 80 classes"}),
        ("MAdds", "17.5B", {(2016, 80): "", (2017, 80): ", 2017, 80 classes"}),
    ):
        for (year, classes), words in rows.items():
            cost = costs[year, classes]
            ours = cost.params if kind == "params" else cost.madds
            note = f"the network of {year} with {classes} classes at {YOLOV2_SIDE} px; the row mixes two networks"
            if words:
                note = f"{deviation(printed, ours)}: {note}"
            yield PaperNumber("Table 6", "YOLOv2", kind + words, printed, ours, note, cost.peak_activation_bytes)
    yield PaperNumber("Table 6", "YOLOv2", "AP, test-dev, %", "21.6")


def _vgg(name: str, side: int, madds: str, ap: str, anchors: int) -> Iterator[PaperNumber]:
    """The paper gives both networks 36.1M parameters: it counts one, at two sizes of input."""
    network, params = vgg_detector(), "36.1M"
    cost = model_cost(network, side)
    peak = cost.peak_activation_bytes
    cells = "24 of 19" if side == 300 else "36 of 32"
    yield PaperNumber("Table 6", name, "params", params, cost.params, ONE_NETWORK, peak)
    note = f"{deviation(madds, cost.madds)}: TensorFlow pads fc6's dilated map, {cells} cells; see the next line"
    yield PaperNumber("Table 6", name, "MAdds", madds, cost.madds, note, peak)
    ours = padded_madds(network, side)
    yield PaperNumber("Table 6", name, "MAdds, as TensorFlow pads", madds, ours, ONE_NETWORK, peak)

    network, by = vgg_ssd(side), "as its own paper has it"
    cost = model_cost(network, side)
    peak = cost.peak_activation_bytes
    note = f"{deviation(params, cost.params)}: the network of the SSD paper, 80 classes and background"
    yield PaperNumber("Table 6", name, f"params, {by}", params, cost.params, note, peak)
    ours = padded_madds(network, side)
    note = f"{deviation(madds, ours)}: the network of the SSD paper, and TensorFlow's padding"
    yield PaperNumber("Table 6", name, f"MAdds, {by}, padded", madds, ours, note, peak)
    found = network.eval()(torch.empty(1, 3, side, side, device="meta")).anchors
    yield PaperNumber("Table 6", name, "anchors", str(anchors), len(found), "not in print here: the SSD paper's", peak)
    yield PaperNumber("Table 6", name, "AP, test-dev, %", ap)


def mobilenet_v3_paper() -> Iterator[PaperNumber]:
    table, counted = "MobileNetV3 paper, table 6", "90 label ids and background; last convolution and extra maps scaled"
    for width, params, madds, ap, milliseconds in [
        (1.0, "4.3M", "0.80B", "22.1", "162"),
        (0.5, "1.54M", "0.27B", "16.6", "79"),
        (0.35, "0.93M", "0.16B", "13.7", "66"),
    ]:
        name = "MobileNetV2 + SSDLite" if width == 1 else f"MobileNetV2 {width} + SSDLite"
        network = detector(width=width, num_classes=90, scale_final=True)
        cost, folded = model_cost(network, 320), params_without_norm(network)
        peak = cost.peak_activation_bytes
        note = counted
        if width == 1:
            note = (
                f"{deviation(params, folded)}: carried over from the MobileNetV2 paper's 80 classes; see the next line"
            )
        yield PaperNumber(table, name, "params without batch norm", params, folded, note, peak)
        if width == 1:
            ours, note = params_without_norm(detector()), "80 classes and background"
            yield PaperNumber(table, name, "params without batch norm, 80 classes", params, ours, note, peak)
        yield PaperNumber(table, name, "MAdds", madds, cost.madds, counted, peak)
        yield PaperNumber(table, name, "AP, test-dev, %", ap)
        yield PaperNumber(table, name, "Pixel 1, ms", milliseconds)
