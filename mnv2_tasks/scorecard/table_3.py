"""Table 3: the most channels, and the memory in 16 bits, at each resolution of three classifiers."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mnv2_tasks.backbones import mobilenet_v2, shufflenet_v1
from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.scorecard.figure import Row, prints_as
from mnv2_tasks.scorecard.networks import classifier

SIDES = {"c1": 112, "c2": 56, "c3": 28, "c4": 14, "c5": 7}  # tap -> its map at 224
BYTES = 2  # 16 bits
CHANNELS = "the widest bottleneck or block output at this resolution"
NOT_ZEROS = (
    "channels x cells x 2 bytes; of a print in K that ends in zeros, such as 1600K, the digits before them count"
)
LINES = {  # input side -> most output channels among the lines of MobileNetV2's table 2 that start there
    112: 24, 56: 32, 28: 64, 14: 160, 7: 320,
}  # fmt: skip


class Column(NamedTuple):
    """One network of table 3. `printed` holds (channels, memory) for each side; 1 is the pooled vector."""

    backbone: Any
    width: float
    printed: dict[int, tuple[str, str]]
    largest: str


COLUMNS = {
    "MobileNetV1": Column(
        MobileNetV1,
        1.0,
        {
            112: ("64", "1.6M"),
            56: ("128", "0.80M"),
            28: ("256", "0.40M"),
            14: ("512", "0.20M"),
            7: ("1024", "199K"),
            1: ("1024", "2K"),
        },
        "1.6M",
    ),
    "MobileNetV2": Column(
        mobilenet_v2.MobileNetV2,
        1.0,
        {
            112: ("16", "0.40M"),
            56: ("32", "0.20M"),
            28: ("64", "0.10M"),
            14: ("160", "62K"),
            7: ("320", "32K"),
            1: ("1280", "2K"),
        },
        "0.40M",
    ),
    "ShuffleNet (2x, g=3)": Column(
        shufflenet_v1.ShuffleNetV1,
        2.0,
        {
            112: ("32", "0.80M"),
            56: ("48", "0.30M"),
            28: ("400", "0.6M"),
            14: ("800", "0.31M"),
            7: ("1600", "156K"),
            1: ("1600", "3K"),
        },
        "0.6M",
    ),
}
# The paper's other way of counting where the channels at a resolution are not what it prints: (its name, the channels)
OTHER_COUNTS = {
    "MobileNetV2": ("by table 2's lines", LINES),
    "ShuffleNet (2x, g=3)": ("of two groups", {28: 2 * 200, 14: 2 * 400, 7: 2 * 800, 1: 2 * 800}),
}
REASONS = {
    ("MobileNetV1", 7): "1,024 x 49 x 2 bytes are 100,352; the print is neither this nor, in 32 bits, 200,704",
    ("MobileNetV2", 7): "320 x 49 x 2 bytes are 31,360, printed 31 by either rounding",
    ("ShuffleNet (2x, g=3)", 112): "the stem has 48 channels (2 x 24), which the paper prints at 56, where they are "
    "pooled; no layer has 32",
}
SHIFTED = "the paper takes the output channels of table 2's lines that start at this size; see the next lines"
TWO_GROUPS = "the paper prints twice the channels of ShuffleNet's two-group column (200, 400, 800), not of g = 3 "
TWO_GROUPS += "(240, 480, 960); see the next lines"
EXPANDED = "PyTorch writes expanded maps whole, and batch norm and activation each a new one; the print is the "
EXPANDED += "largest block output, the previous line"


def table_3() -> Iterator[Row]:
    for name, column in COLUMNS.items():
        network = classifier(width=column.width, backbone=column.backbone)
        peak = model_cost(network, 224).peak_activation_bytes
        channels = _channels(column)
        for side, printed in column.printed.items():
            yield from _resolution(name, side, printed, channels[side], peak)
        largest = max(BYTES * c * side**2 for side, c in channels.items())
        note = _largest_note(name, column.largest, largest)
        yield Row("Table 3", name, "largest map, bytes", column.largest, largest, note, peak)
        if not prints_as(column.largest, largest):
            largest = max(BYTES * c * side**2 for side, c in OTHER_COUNTS[name][1].items())
            yield Row("Table 3", name, "largest map of two groups, bytes", column.largest, largest, NOT_ZEROS, peak)
        yield Row("Table 3", name, "peak activation in 16 bits, bytes", column.largest, peak // 2, EXPANDED, peak)


def _channels(column: Column) -> dict[int, int]:
    """{side: channels of the block that ends a resolution}, 1 for the pooled vector."""
    features = column.backbone(width=column.width, output_stride=32, taps=[*SIDES, "final"]).features
    return {side: features[tap].channels for tap, side in SIDES.items()} | {1: features["final"].channels}


def _resolution(name: str, side: int, printed: tuple[str, str], channels: int, peak: int) -> Iterator[Row]:
    system = f"{name}, {side}x{side}"
    counts = [("", channels)]
    other, by_side = OTHER_COUNTS.get(name, ("", {}))
    if not prints_as(printed[0], channels) and (name, side) not in REASONS:
        counts.append((f" {other}", by_side[side]))
    for suffix, count in counts:
        different = REASONS.get((name, side)) or (SHIFTED if name == "MobileNetV2" else TWO_GROUPS)
        for quantity, text, ours, same in [
            ("channels", printed[0], count, CHANNELS if side > 1 else "pooled"),
            ("memory, bytes", printed[1], BYTES * count * side**2, NOT_ZEROS),
        ]:
            note = same if prints_as(text, ours) else different
            yield Row("Table 3", system, f"{quantity}{suffix}", text, ours, note, peak)


def _largest_note(name: str, printed: str, ours: int) -> str:
    if prints_as(printed, ours):
        return NOT_ZEROS
    return f"ours is the stem's; {TWO_GROUPS}"
