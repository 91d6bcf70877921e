"""Numbers as the page and the tables write them."""

import math

from mnv2_tasks.studies.compare.bootstrap import Interval
from mnv2_tasks.studies.compare.groups import ABSENT
from mnv2_tasks.studies.compare.measure import Built
from mnv2_tasks.studies.compare.subjects import Entry

MINUS = "−"


def score(entry: Entry) -> str:
    """Such as "0.5633 ± 0.0021 (3 seeds)"."""
    if math.isnan(entry.spread):
        return f"{entry.score:.4f}"
    return f"{entry.score:.4f} ± {entry.spread:.4f}"


def seeds(entry: Entry) -> str:
    """Which seeds, and which are missing."""
    there = ", ".join(str(run.seed) for run in entry.group.runs)
    missing = ", ".join(entry.group.missing)
    return f"{there} (without {missing})" if missing else there


def between(interval: Interval | None) -> str:
    return f"{_minus(f'{interval.low:.4f}')} to {_minus(f'{interval.high:.4f}')}" if interval else ABSENT


def difference(entry: Entry) -> str:
    return ABSENT if entry.difference is None else signed(entry.difference)


def signed(value: float) -> str:
    return _minus(f"{value:+.4f}") if round(value, 4) else "0.0000"


def cost(built: Built | None) -> list[str]:
    """Parameters, multiply-adds, memory, latency."""
    if built is None:
        return [ABSENT] * 5
    c, latency = built.cost, built.latency
    return [
        f"{c.params / 1e6:.3f} M",
        f"{c.madds / 1e9:.3f} G",
        f"{c.peak_activation_bytes / 2**20:.1f} MiB",
        f"{latency.p50:.1f} ms" if latency else ABSENT,
        f"{latency.p95:.1f} ms" if latency else ABSENT,
    ]


def _minus(text: str) -> str:
    return text.replace("-", MINUS)
