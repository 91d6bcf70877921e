"""The scorecard as JSON, and as Markdown: a summary of one line per network, then every row."""

import json
from collections.abc import Iterable
from itertools import groupby

from mnv2_tasks.scorecard.figure import Row, apart

VERDICTS = {True: "agrees", False: "differs", None: "quoted"}

PEAK = (
    "Peak: most bytes of results alive at once while PyTorch passes one image forward in float32, "
    "of the largest where there are several scales."
)


def to_json(card: Iterable[Row]) -> str:
    """A list of {"table", "row", "quantity", "paper", "ours", "agrees", "note", "status", ...}.

    `ours` and `agrees` are null where a figure is only quoted.
    """
    return json.dumps([row.as_dict() for row in card], indent=1) + "\n"


def to_markdown(card: list[Row]) -> str:
    """Headed by `summary`; then a table for each table in print, with numbered notes below it."""
    parts = ["# Scorecard\n", summary(card)]
    for title, group in groupby(card, key=lambda row: row.table):
        notes: list[str] = []
        lines = [
            f"## {title}\n",
            "| network | quantity | paper | ours | | peak activation, MiB |",
            "|---|---|--:|--:|---|--:|",
        ]
        for row in group:
            if row.note and row.note not in notes:
                notes.append(row.note)
            mark = f" ({notes.index(row.note) + 1})" if row.note else ""
            cells = [row.row, row.quantity, row.printed, ours(row), VERDICTS[row.agrees] + mark, _mebibytes(row)]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, start=1)), ""]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def summary(card: list[Row]) -> str:
    """One line per network, slim's 22 classifiers in one; the scores in print are left out."""
    lines = [
        f"{tally(card)} {PEAK}\n",
        "| network | | parameters: paper | ours | multiply-adds: paper | ours | peak, MiB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (table, name), group in groupby(card, key=lambda row: (row.table, row.row)):
        members = list(group)
        params, madds = (_best(members, kind) for kind in ("params", "MAdds"))
        if table == "TF slim" or params is None or madds is None:
            continue
        cells = [name, table, *_pair(params), *_pair(madds), _mebibytes(params)]
        lines.append(f"| {' | '.join(cells)} |")
    slim = [row for row in card if row.table == "TF slim" and row.agrees is not None]
    same = {  # {"params": how many of the 22 agree}
        kind: f"{sum(bool(row.agrees) for row in slim if row.quantity.startswith(kind))} agree"
        for kind in ("params", "MAdds")
    }
    lines.append(f"| {len(slim) // 2} classifiers | TF slim | | {same['params']} | | {same['MAdds']} | |")
    return "\n".join(lines) + "\n"


def tally(card: list[Row]) -> str:
    agree, differ, quoted = (sum(row.agrees is verdict for row in card) for verdict in (True, False, None))
    return (
        f"{agree} of {agree + differ} counted figures agree with the print to its last digit, {differ} differ and "
        f"say why; {quoted} are quoted."
    )


def ours(row: Row) -> str:
    return "" if row.ours is None else f"{row.ours:,.0f}"


def _best(rows: list[Row], kind: str) -> Row | None:
    """Of several counts of one quantity the first that agrees, else the nearest; of table 7 at stride 16."""
    counts = [row for row in rows if row.quantity.startswith(kind) and not row.quantity.endswith("in slim")]
    counts = [row for row in counts if "OS 8" not in row.quantity]
    if not counts:
        return None
    return min(counts, key=lambda row: 0 if row.agrees else abs((row.ours or 0) - row.paper))


def _pair(row: Row) -> list[str]:
    if row.ours is None:
        return [row.printed, "quoted"]
    return [row.printed, ours(row) + ("" if row.agrees else f" ({apart(row.printed, row.ours)})")]


def _mebibytes(row: Row) -> str:
    return "" if row.peak_activation_bytes is None else f"{row.peak_activation_bytes / 2**20:.1f}"
