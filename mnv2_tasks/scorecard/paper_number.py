"""A number in print beside ours. Whether they agree is computed from the digits in print, never written down."""

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

UNITS = {"K": 3, "M": 6, "B": 9}
JSON_KEYS = (
    "table", "row", "quantity", "paper", "ours", "agrees", "note", "status", "printed", "peak_activation_bytes",
)  # fmt: skip


class PaperNumber(NamedTuple):
    table: str
    row: str
    quantity: str
    printed: str  # as the source prints it, "3.4M"
    ours: float | None = None  # None: not counted or measured here, only quoted
    note: str = ""  # what was counted, or why the two differ
    peak_activation_bytes: int | None = None  # of the network in this row, in float32; no paper prints it but table 3

    @property
    def paper(self) -> float:
        number, unit = parse(self.printed)
        return float(number * unit)

    @property
    def agrees(self) -> bool | None:
        return None if self.ours is None else prints_as(self.printed, self.ours)

    @property
    def status(self) -> str:
        """ "agrees", "quoted" or "differs: why"."""
        if self.agrees is None:
            return "quoted"
        return "agrees" if self.agrees else f"differs: {self.note}"

    def as_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in JSON_KEYS}


def prints_as(printed: str, ours: float) -> bool:
    """Whether `ours`, rounded or cut off at the last digit of `printed` ("4.3M"), reads `printed`.

    The paper does both: 300.77 M is its 300 M, 2.748 B its 2.75 B.
    """
    number, unit = parse(printed)
    scaled = Decimal(ours) / unit
    return number in (scaled.quantize(number, ROUND_DOWN), scaled.quantize(number, ROUND_HALF_UP))


def parse(printed: str) -> tuple[Decimal, int]:
    """The digits and what they count: "4.3M" is (4.3, 1000000)."""
    return Decimal(printed.rstrip("KMB")), 10 ** UNITS.get(printed[-1], 0)


def deviation(printed: str, ours: float) -> str:
    """How far ours is from the print: "1.1 % below"."""
    number, unit = parse(printed)
    ratio = Decimal(ours) / (number * unit) - 1
    percent = abs(float(ratio)) * 100
    digits = 1 if percent >= 0.1 else 2
    return f"{percent:.{digits}f} % {'above' if ratio > 0 else 'below'}"
