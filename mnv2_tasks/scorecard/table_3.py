"""Table 3: the most channels, and the memory in 16 bits, at each resolution of three classifiers."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.backbones.shufflenet_v1 import ShuffleNetV1
from mnv2_tasks.network.activation_memory import Operation, held, operations_of
from mnv2_tasks.network.activation_memory import peak as largest_of
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.scorecard.networks import classifier
from mnv2_tasks.scorecard.paper_number import PaperNumber, prints_as

TABLE = "Table 3"
SIDES = {"c1": 112, "c2": 56, "c3": 28, "c4": 14, "c5": 7}  # tap -> its map at 224
BYTES = 2  # 16 bits
CHANNELS = "the widest bottleneck or block output at this resolution"
NOT_ZEROS = (
    "channels x cells x 2 bytes; of a print in K that ends in zeros, such as 1600K, the digits before them count"
)
EXPANDED = (
    "PyTorch writes expanded maps whole, and batch norm and activation each a new one; the print is the largest block "
    "output, the previous line"
)
EQUATION_2 = (
    "equation 2, section 5.1: the most that an operation takes in, gives out and holds inside, a bottleneck being one "
    "operation and its inner tensors computed in that many shares; the print is the largest block output alone"
)
SHARES = {"": 1, ", 2 shares": 2, ", 3 shares": 3, ", 4 shares": 4, ", 5 shares": 5, ", channels one by one": 10**6}
SHIFTED = "the paper takes the output channels of table 2's lines that start at this size; see the next lines"
TWO_GROUPS = (
    "the paper prints twice the channels of ShuffleNet's two-group column (200, 400, 800), not of g = 3 "
    "(240, 480, 960); see the next lines"
)


class Column(NamedTuple):
    """One network of table 3. `printed` holds (channels, memory) for each side; 1 is the pooled vector."""

    backbone: Any
    width: float
    printed: dict[int, tuple[str, str]]
    largest: str
    # the paper's other way of counting, where the channels at a resolution are not what it prints
    other_count: str = ""
    other_channels: Mapping[int, int] = MappingProxyType({})  # side -> channels
    other_reason: str = ""


COLUMNS = {
    "MobileNetV1": Column(
        MobileNetV1, 1.0,
        {112: ("64", "1.6M"), 56: ("128", "0.80M"), 28: ("256", "0.40M"),
         14: ("512", "0.20M"), 7: ("1024", "199K"), 1: ("1024", "2K")},
        "1.6M",
    ),
    "MobileNetV2": Column(
        MobileNetV2, 1.0,
        {112: ("16", "0.40M"), 56: ("32", "0.20M"), 28: ("64", "0.10M"),
         14: ("160", "62K"), 7: ("320", "32K"), 1: ("1280", "2K")},
        "0.40M",
        other_count=" by table 2's lines",  # of those that start at a size, the most output channels
        other_channels={112: 24, 56: 32, 28: 64, 14: 160, 7: 320},
        other_reason=SHIFTED,
    ),
    "ShuffleNet (2x, g=3)": Column(
        ShuffleNetV1, 2.0,
        {112: ("32", "0.80M"), 56: ("48", "0.30M"), 28: ("400", "0.6M"),
         14: ("800", "0.31M"), 7: ("1600", "156K"), 1: ("1600", "3K")},
        "0.6M",
        other_count=" of two groups",
        other_channels={28: 2 * 200, 14: 2 * 400, 7: 2 * 800, 1: 2 * 800},
        other_reason=TWO_GROUPS,
    ),
}  # fmt: skip
REASONS = {  # where the other count does not explain the print
    ("MobileNetV1", 7): "1,024 x 49 x 2 bytes are 100,352; the print is neither this nor, in 32 bits, 200,704",
    ("MobileNetV2", 7): "320 x 49 x 2 bytes are 31,360, printed 31 by either rounding",
    ("ShuffleNet (2x, g=3)", 112): "the stem has 48 channels (2 x 24), which the paper prints at 56, where they are "
    "pooled; no layer has 32",
}


def table_3() -> Iterator[PaperNumber]:
    for name, column in COLUMNS.items():
        network = classifier(width=column.width, backbone=column.backbone)
        peak = model_cost(network, 224).peak_activation_bytes
        channels = _channels(column)
        for side in column.printed:
            yield from _resolution(name, column, side, channels[side], peak)
        largest, agrees = _largest_map(channels), prints_as(column.largest, _largest_map(channels))
        note = NOT_ZEROS if agrees else f"ours is the stem's; {column.other_reason}"
        yield PaperNumber(TABLE, name, "largest map, bytes", column.largest, largest, note, peak)
        if not agrees:
            largest = _largest_map(column.other_channels)
            quantity = f"largest map{column.other_count}, bytes"
            yield PaperNumber(TABLE, name, quantity, column.largest, largest, NOT_ZEROS, peak)
        yield PaperNumber(TABLE, name, "peak activation in 16 bits, bytes", column.largest, peak // 2, EXPANDED, peak)
        operations = operations_of(network, 224)
        for shares, memory in _equation_2(operations).items():
            yield PaperNumber(
                TABLE, name, f"memory by equation 2{shares}, bytes", column.largest, memory, EQUATION_2, peak
            )


def _equation_2(operations: list[Operation]) -> dict[str, int]:
    """{"" or in how many shares: bytes}; whole alone where there is no bottleneck to share out."""
    has_bottlenecks = any(operation.channels for operation in operations)
    shares = SHARES if has_bottlenecks else {"": 1}
    return {name: BYTES * held(largest_of(operations, number), number) for name, number in shares.items()}


def _channels(column: Column) -> dict[int, int]:
    """{side: channels of the block that ends a resolution}, 1 for the pooled vector."""
    features = column.backbone(width=column.width, output_stride=32, taps=[*SIDES, "final"]).features
    return {side: features[tap].channels for tap, side in SIDES.items()} | {1: features["final"].channels}


def _largest_map(channels: Mapping[int, int]) -> int:
    return max(BYTES * count * side**2 for side, count in channels.items())


def _resolution(name: str, column: Column, side: int, channels: int, peak: int) -> Iterator[PaperNumber]:
    printed_channels, printed_memory = column.printed[side]
    reason = REASONS.get((name, side))
    counts = {"": channels}
    if reason is None and not prints_as(printed_channels, channels):
        counts[column.other_count] = column.other_channels[side]
    for suffix, count in counts.items():
        for quantity, printed, ours, counted in [
            ("channels", printed_channels, count, CHANNELS if side > 1 else "pooled"),
            ("memory, bytes", printed_memory, BYTES * count * side**2, NOT_ZEROS),
        ]:
            note = counted if prints_as(printed, ours) else reason or column.other_reason
            yield PaperNumber(TABLE, f"{name}, {side}x{side}", f"{quantity}{suffix}", printed, ours, note, peak)
