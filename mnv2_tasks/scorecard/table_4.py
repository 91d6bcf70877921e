"""Table 4, figure 5 and the 22 classifiers of TF slim's README."""

from collections.abc import Iterator

from torch import nn

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.nasnet import NASNetMobile
from mnv2_tasks.backbones.shufflenet_v1 import ShuffleNetV1
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.scorecard.counting import params_without_norm
from mnv2_tasks.scorecard.networks import classifier
from mnv2_tasks.scorecard.paper_number import PaperNumber, deviation

SLIM = {  # width -> (params, {side: (MAdds, top-1)}) of slim's README
    1.4: ("6.06M", {224: ("582M", "75.0")}),
    1.3: ("5.34M", {224: ("509M", "74.4")}),
    1.0: ("3.47M", {224: ("300M", "71.8"), 192: ("221M", "70.7"), 160: ("154M", "68.8"),
                    128: ("99M", "65.3"), 96: ("56M", "60.3")}),
    0.75: ("2.61M", {224: ("209M", "69.8"), 192: ("153M", "68.7"), 160: ("107M", "66.4"),
                     128: ("69M", "63.2"), 96: ("39M", "58.8")}),
    0.5: ("1.95M", {224: ("97M", "65.4"), 192: ("71M", "63.9"), 160: ("50M", "61.0"),
                    128: ("32M", "57.7"), 96: ("18M", "51.2")}),
    0.35: ("1.66M", {224: ("59M", "60.3"), 192: ("43M", "58.2"), 160: ("30M", "55.7"),
                     128: ("20M", "50.8"), 96: ("11M", "45.5")}),
}  # fmt: skip
SLIM_V1 = {  # width -> {side: top-1} of slim's mobilenet_v1.md, checkpoints of 2018-02-22
    1.0: {224: "70.9", 192: "70.0", 160: "68.0", 128: "65.2"},
    0.75: {224: "68.4", 192: "67.2", 160: "65.3", 128: "62.1"},
    0.5: {224: "63.3", 192: "61.7", 160: "59.1", 128: "56.3"},
    0.25: {224: "49.8", 192: "47.7", 160: "45.5", 128: "41.5"},
}
TABLE_4 = {  # network -> params, MAdds, top-1, milliseconds on one large core of a Pixel 1
    "MobileNetV1": ("4.2M", "575M", "70.6", "113"),
    "ShuffleNet (1.5)": ("3.4M", "292M", "71.5", None),
    "ShuffleNet (x2)": ("5.4M", "524M", "73.7", None),
    "NasNet-A": ("5.3M", "564M", "74.0", "183"),
    "MobileNetV2": ("3.4M", "300M", "72.0", "75"),
    "MobileNetV2 (1.4)": ("6.9M", "585M", "74.7", "143"),
}
NOTES = {  # where the print is not reproduced
    ("MobileNetV1", "MAdds"): "slim's MobileNetV1 table prints our count; see the next line",
    ("MobileNetV2", "params"): "every trained scalar; the paper leaves out batch norm, see the next line",
    ("MobileNetV2 (1.4)", "params"): "neither count gives it; slim's table has 6.06M for this network",
    ("MobileNetV2 (1.4)", "params without batch norm"): "slim's table prints our count; see the next line",
    ("MobileNetV2 (1.4)", "MAdds"): "slim's table prints our count; see the next line",
}
IN_SLIM = {  # what slim prints for the same network
    ("MobileNetV1", "MAdds"): "569M",
    ("MobileNetV2 (1.4)", "params without batch norm"): "6.06M",
    ("MobileNetV2 (1.4)", "MAdds"): "582M",
}


def table_4() -> Iterator[PaperNumber]:
    networks = {
        "MobileNetV1": classifier(backbone=MobileNetV1),
        "ShuffleNet (1.5)": classifier(width=1.5, backbone=ShuffleNetV1),
        "ShuffleNet (x2)": classifier(width=2.0, backbone=ShuffleNetV1),
        "NasNet-A": classifier(backbone=NASNetMobile),
        "MobileNetV2": classifier(),
        "MobileNetV2 (1.4)": classifier(width=1.4),
    }
    for name, (params, madds, top1, milliseconds) in TABLE_4.items():
        yield from _counted(name, networks[name], params, madds)
        yield PaperNumber("Table 4", name, "top-1, %", top1)
        if milliseconds:
            yield PaperNumber("Table 4", name, "Pixel 1, ms", milliseconds)


def _counted(name: str, network: nn.Module, params: str, madds: str) -> Iterator[PaperNumber]:
    cost = model_cost(network, 224)
    peak = cost.peak_activation_bytes
    for quantity, printed, ours in [
        ("params", params, cost.params),
        ("params without batch norm", params, params_without_norm(network)),
        ("MAdds", madds, cost.madds),
    ]:
        key = (name, quantity)
        note = f"{deviation(printed, ours)}: {NOTES[key]}" if key in NOTES else ""
        yield PaperNumber("Table 4", name, quantity, printed, ours, note, peak)
        if key in IN_SLIM:
            yield PaperNumber("Table 4", name, f"{quantity}, in slim", IN_SLIM[key], ours, "1000 classes", peak)


def figure_5() -> Iterator[PaperNumber]:
    cost = model_cost(classifier(width=0.35), 96)
    peak, name = cost.peak_activation_bytes, "smallest, width 0.35"
    yield PaperNumber("Figure 5", name, "params", "1.7M", cost.params, "", peak)
    note = "the grid's smallest cell has 11.9M; none has 7M; see the next line"
    yield PaperNumber("Figure 5", f"{name} at 96", "MAdds", "7M", cost.madds, note, peak)
    yield PaperNumber("Figure 5", f"{name} at 96", "MAdds, in slim", "11M", cost.madds, "", peak)


def slim_readme() -> Iterator[PaperNumber]:
    for width, (params, cells) in SLIM.items():
        network = classifier(width=width, num_classes=1001)
        folded = params_without_norm(network)
        for side, (madds, top1) in cells.items():
            name, cost = f"{width}_{side}", model_cost(network, side)
            peak = cost.peak_activation_bytes
            yield PaperNumber("TF slim", name, "params without batch norm", params, folded, "1001 classes", peak)
            yield PaperNumber("TF slim", name, "MAdds", madds, cost.madds, "", peak)
            yield PaperNumber("TF slim", name, "top-1, %", top1)


def mobilenet_v1_readme() -> Iterator[PaperNumber]:
    """Scores alone, for figure 5: no table of this paper has these networks."""
    for width, cells in SLIM_V1.items():
        network = classifier(width=width, num_classes=1001, backbone=MobileNetV1)
        for side, top1 in cells.items():
            name, cost = f"{width}_{side}", model_cost(network, side)
            yield PaperNumber("TF slim, V1", name, "MAdds", str(cost.madds), cost.madds)
            yield PaperNumber("TF slim, V1", name, "top-1, %", top1)
