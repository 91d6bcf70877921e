"""The paper's numbers that need no data, ours beside them: sizes, multiply-adds, memory.

Whether two numbers agree is computed from the digits in print (`prints_as`), never written down.
"""

import math
from collections.abc import Iterator
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.cost import Cost, model_cost
from mnv2_tasks.heads.deeplabv3 import DeepLabV3Head
from mnv2_tasks.heads.linear import LinearHead
from mnv2_tasks.heads.ssd import SSDHead

UNITS = {"K": 3, "M": 6, "B": 9}
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the input, table 7's "MF"; each also flipped
SLIM = {  # width -> (params, {side: MAdds}) of slim's README
    1.4: ("6.06M", {224: "582M"}),
    1.3: ("5.34M", {224: "509M"}),
    1.0: ("3.47M", {224: "300M", 192: "221M", 160: "154M", 128: "99M", 96: "56M"}),
    0.75: ("2.61M", {224: "209M", 192: "153M", 160: "107M", 128: "69M", 96: "39M"}),
    0.5: ("1.95M", {224: "97M", 192: "71M", 160: "50M", 128: "32M", 96: "18M"}),
    0.35: ("1.66M", {224: "59M", 192: "43M", 160: "30M", 128: "20M", 96: "11M"}),
}


class Row(NamedTuple):
    table: str
    row: str
    quantity: str
    paper: float
    ours: float
    agrees: bool
    note: str  # what was counted, or why the two differ


def rows() -> list[Row]:
    """Every comparison, in the order of the paper; about ten seconds on one core."""
    parts = (_table_3, _table_4, _table_5, _table_6, _mobilenet_v3_paper, _table_7, _slim)
    return [row for part in parts for row in part()]


def prints_as(printed: str, ours: float) -> bool:
    """Whether `ours`, rounded or cut off at the last digit of `printed` ("4.3M"), reads `printed`.

    The paper does both: 300.77 M is its 300 M, 2.748 B its 2.75 B.
    """
    number, unit = _parse(printed)
    scaled = Decimal(ours) / unit
    return number in (scaled.quantize(number, ROUND_DOWN), scaled.quantize(number, ROUND_HALF_UP))


def _parse(printed: str) -> tuple[Decimal, int]:
    return Decimal(printed.rstrip("KMB")), 10 ** UNITS.get(printed[-1], 0)


def _compare(table: str, row: str, quantity: str, printed: str, ours: float, note: str = "") -> Row:
    number, unit = _parse(printed)
    return Row(table, row, quantity, float(number * unit), ours, prints_as(printed, ours), note)


# ---------------------------------------------------------------- networks, on the meta device


def classifier(*, width: float = 1.0, num_classes: int = 1000, backbone: Any = MobileNetV2) -> nn.Sequential:
    with torch.device("meta"):
        base = backbone(width=width, output_stride=32, taps=LinearHead.taps)
        return nn.Sequential(base, LinearHead(features=base.features, num_classes=num_classes, dropout=0.2))


def detector(
    *,
    width: float = 1.0,
    num_classes: int = 80,
    lite: bool = True,
    backbone: Any = MobileNetV2,
    **options: Any,
) -> nn.Sequential:
    with torch.device("meta"):
        base = backbone(width=width, output_stride=32, taps=SSDHead.taps, **options)
        head = SSDHead(
            features=base.features,
            num_classes=num_classes,
            extra_channels=[512, 256, 256, 128],
            width=width,
            lite=lite,
        )
        return nn.Sequential(base, head)


def segmenter(*, output_stride: int, atrous_rates: tuple[int, ...] = ()) -> nn.Sequential:
    with torch.device("meta"):
        base = MobileNetV2(width=1.0, output_stride=output_stride, taps=DeepLabV3Head.taps)
        head = DeepLabV3Head(
            features=base.features, num_classes=21, atrous_rates=list(atrous_rates), channels=256, dropout=0.1
        )
        return nn.Sequential(base, head)


# ---------------------------------------------------------------- ways of counting


def head_cost(network: nn.Sequential, size: int) -> Cost:
    """Of the second part alone; its peak is the whole network's."""
    whole, backbone = model_cost(network, size), model_cost(network[0], size)
    return whole._replace(params=whole.params - backbone.params, madds=whole.madds - backbone.madds)


def params_without_norm(network: nn.Module) -> int:
    """TF slim's table leaves out batch norm's scale and shift, which fold into the convolutions."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(p.numel() for p in network.parameters()) - sum(p.numel() for m in norms for p in m.parameters())


def multi_scale_sides(side: int) -> list[int]:
    """Inputs of multi-scale evaluation: k * stride + 1 stays so (DeepLab's `scale_dimension`)."""
    return [int((side - 1) * scale + 1) for scale in SCALES]


def tensorflow_madds(network: nn.Module, side: int, *, full_side: int | None = None) -> int:
    """Multiply-adds as DeepLab's TensorFlow graph spends them, for 21 classes.

    There a convolution of dilation r cuts its input into r x r grids, padded to equal size: 33 cells become
    36 at rates 6, 12 and 18. The final resize of the logits to the image counts one per value; that much is
    inferred, from the four figures of table 7 coming out with it.
    """

    def padded(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, *_: Any, **k: Any) -> int:
        cells = math.prod(math.ceil(n / rate) * rate for n, rate in zip(k["out_shape"][2:], dilation))
        return 2 * cells * math.prod(weight)

    flops = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution: padded})
    with torch.no_grad(), flops:
        network.eval()(torch.empty(1, 3, side, side, device="meta"))
    return flops.get_total_flops() // 2 + 21 * (full_side or side) ** 2


# ---------------------------------------------------------------- tables


def _table_3() -> Iterator[Row]:
    specs = MobileNetV2(width=1.0, output_stride=32, taps=["c1", "c2", "c3", "c4", "c5", "final"]).features
    shifted = "the paper gives the channels after the stride that leaves this resolution; no such map exists"
    for tap, printed in {"c1": "16", "c2": "32", "c3": "64", "c4": "160", "c5": "320"}.items():
        ours, side = specs[tap].channels, 224 // specs[tap].stride
        note = "widest bottleneck" if prints_as(printed, ours) else shifted
        yield _compare("Table 3", f"MobileNetV2, {side}x{side}", "channels", printed, ours, note)
    yield _compare("Table 3", "MobileNetV2, 1x1", "channels", "1280", specs["final"].channels, "pooled")
    peak = max(2 * s.channels * (224 // s.stride) ** 2 for tap, s in specs.items() if tap != "final")
    note = "16-bit bottlenecks; printed 400K, as 1600K and 800K beside it to two digits"
    yield _compare("Table 3", "MobileNetV2", "largest map, bytes", "0.40M", peak, note)


def _table_4() -> Iterator[Row]:
    networks = [
        ("MobileNetV1", classifier(backbone=MobileNetV1), "4.2M", "575M"),
        ("MobileNetV2", classifier(), "3.4M", "300M"),
        ("MobileNetV2 (1.4)", classifier(width=1.4), "6.9M", "585M"),
    ]
    notes = {
        ("MobileNetV1", "MAdds"): "1.1 % apart; slim's MobileNetV1 table prints our count, 569M",
        ("MobileNetV2", "params"): "every trained scalar; the paper leaves out batch norm, see the next line",
        ("MobileNetV2 (1.4)", "params"): "neither count gives 6.9M; slim's table has 6.06M for this network",
        ("MobileNetV2 (1.4)", "params without batch norm"): "slim's table prints this count, 6.06M",
        ("MobileNetV2 (1.4)", "MAdds"): "0.5 % apart; slim's table prints our count, 582M",
    }
    for name, network, params, madds in networks:
        cost = model_cost(network, 224)
        for quantity, printed, ours in [
            ("params", params, cost.params),
            ("params without batch norm", params, params_without_norm(network)),
            ("MAdds", madds, cost.madds),
        ]:
            yield _compare("Table 4", name, quantity, printed, ours, notes.get((name, quantity), ""))
    smallest = classifier(width=0.35)
    yield _compare("Figure 5", "smallest, width 0.35", "params", "1.7M", model_cost(smallest, 96).params)
    note = "the grid's smallest cell has 11.9M, 11M in slim's table; none has 7M"
    yield _compare("Figure 5", "smallest, width 0.35 at 96", "MAdds", "7M", model_cost(smallest, 96).madds, note)


def _table_5() -> Iterator[Row]:
    ssd, lite = head_cost(detector(lite=False), 320), head_cost(detector(), 320)
    counted = "extra maps and predictors, 80 classes and background"
    yield _compare("Table 5", "SSD", "params", "14.8M", ssd.params, counted)
    yield _compare("Table 5", "SSD", "MAdds", "1.25B", ssd.madds, counted)
    yield _compare("Table 5", "SSDLite", "params", "2.1M", lite.params, counted)
    note = "half: the paper's figure is in FLOPs, two per multiply-add; see the next line"
    yield _compare("Table 5", "SSDLite", "MAdds", "0.35B", lite.madds, note)
    yield _compare("Table 5", "SSDLite", "FLOPs", "0.35B", 2 * lite.madds, "twice the multiply-adds")


def _table_6() -> Iterator[Row]:
    for name, backbone, params, madds in [
        ("MobileNetV1 + SSDLite", MobileNetV1, "5.1M", "1.3B"),
        ("MobileNetV2 + SSDLite", MobileNetV2, "4.3M", "0.8B"),
    ]:
        network = detector(backbone=backbone)
        cost = model_cost(network, 320)
        yield _compare("Table 6", name, "params", params, cost.params, "320, 80 classes and background")
        yield _compare("Table 6", name, "MAdds", madds, cost.madds, "320, 80 classes and background")
    anchors = network.eval()(torch.empty(1, 3, 320, 320, device="meta")).anchors
    note = "not in print: TF's layout at 320, 3 per cell on the first map and 6 elsewhere"
    yield _compare("Table 6", name, "anchors", "2034", len(anchors), note)


def _mobilenet_v3_paper() -> Iterator[Row]:
    counted = "90 label ids and background; last convolution and extra maps scaled"
    for width, params, madds in [(0.5, "1.54M", "0.27B"), (0.35, "0.93M", "0.16B")]:
        table, name = "MobileNetV3 paper, table 6", f"MobileNetV2 {width} + SSDLite"
        network = detector(width=width, num_classes=90, scale_final=True)
        yield _compare(table, name, "params without batch norm", params, params_without_norm(network), counted)
        yield _compare(table, name, "MAdds", madds, model_cost(network, 320).madds, counted)


def _table_7() -> Iterator[Row]:
    for name, rates, params, os_16, os_8 in [
        ("MobileNetV2, no ASPP", (), "2.11M", "2.75B", "152.6B"),
        ("MobileNetV2, ASPP", (6, 12, 18), "4.52M", "5.8B", "387B"),
    ]:
        coarse = segmenter(output_stride=16, atrous_rates=rates)
        fine = segmenter(output_stride=8, atrous_rates=rates)
        cost, sides = model_cost(coarse, 513), multi_scale_sides(513)
        yield _compare("Table 7", name, "params", params, cost.params, "regular 3x3 ASPP" if rates else "")
        for quantity, printed, plain, padded in [
            ("MAdds, OS 16", os_16, cost.madds, tensorflow_madds(coarse, 513)),
            (
                "MAdds, OS 8, six scales x flip",
                os_8,
                2 * sum(model_cost(fine, side).madds for side in sides),
                2 * sum(tensorflow_madds(fine, side, full_side=513) for side in sides),
            ),
        ]:
            apart = f"{abs(plain / float(math.prod(_parse(printed))) - 1):.1%} apart"
            cells = " (33 cells become 36 in the ASPP)" if rates else ""
            note = f"{apart}: TensorFlow pads dilated maps{cells}; see the next line"
            yield _compare("Table 7", name, quantity, printed, plain, note)
            yield _compare(
                "Table 7",
                name,
                f"{quantity}, as TensorFlow pads",
                printed,
                padded,
                "with the final resize of the logits",
            )


def _slim() -> Iterator[Row]:
    for width, (params, cells) in SLIM.items():
        network = classifier(width=width, num_classes=1001)
        for side, madds in cells.items():
            name = f"{width}_{side}"
            ours = params_without_norm(network)
            yield _compare("TF slim", name, "params without batch norm", params, ours, "1001 classes")
            yield _compare("TF slim", name, "MAdds", madds, model_cost(network, side).madds)
