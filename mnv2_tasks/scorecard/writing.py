"""The scorecard as JSON, and as Markdown: a summary of one line per network, then every row."""

import json
from collections.abc import Iterable
from itertools import groupby

from mnv2_tasks.drawing.table import Table
from mnv2_tasks.scorecard.paper_number import PaperNumber, deviation

VERDICTS = {True: "agrees", False: "differs", None: "quoted"}

PEAK = (
    "Peak: most bytes of results alive at once while PyTorch passes one image forward in float32, "
    "of the largest where there are several scales."
)


def to_json(card: Iterable[PaperNumber]) -> str:
    """A list of {"table", "row", "quantity", "paper", "ours", "agrees", "note", "status", ...}.

    `ours` and `agrees` are null where a figure is only quoted.
    """
    return json.dumps([row.as_dict() for row in card], indent=1) + "\n"


def to_markdown(card: list[PaperNumber]) -> str:
    """Headed by `summary`; then a table for each table in print, with numbered notes below it."""
    parts = ["# Scorecard\n", summary(card)]
    for title, group in groupby(card, key=lambda row: row.table):
        columns = ["network", "quantity", "paper", "ours", "", "peak activation, MiB"]
        table, notes = Table(title, columns, text_columns=2), []
        for row in group:
            if row.note and row.note not in notes:
                notes.append(row.note)
            verdict = VERDICTS[row.agrees] + (f" ({notes.index(row.note) + 1})" if row.note else "")
            table.rows.append([row.row, row.quantity, row.printed, format_ours(row), verdict, _mebibytes(row)])
        table.notes = ["\n".join(f"{number}. {note}" for number, note in enumerate(notes, start=1))]
        parts.append(table.to_markdown())
    return "\n".join(parts)


def summary(card: list[PaperNumber]) -> str:
    """One line per network, slim's 22 classifiers in one; the scores in print are left out."""
    columns = ["network", "", "parameters: paper", "ours", "multiply-adds: paper", "ours", "peak, MiB"]
    table = Table("", columns, text_columns=2)
    for (title, name), group in groupby(card, key=lambda row: (row.table, row.row)):
        members = list(group)
        params, madds = best(members, "params"), best(members, "MAdds")
        if title != "TF slim" and params and madds:
            table.rows.append([name, title, *_pair(params), *_pair(madds), _mebibytes(params)])
    slim = [row for row in card if row.table == "TF slim" and row.agrees is not None]
    params, madds = (
        f"{sum(bool(row.agrees) for row in slim if row.quantity.startswith(kind))} agree"
        for kind in ("params", "MAdds")
    )
    table.rows.append([f"{len(slim) // 2} classifiers", "TF slim", "", params, "", madds, ""])
    return f"{tally(card)} {PEAK}\n\n{table.to_markdown()}"


def tally(card: list[PaperNumber]) -> str:
    agree, differ, quoted = (sum(row.agrees is verdict for row in card) for verdict in (True, False, None))
    return (
        f"{agree} of {agree + differ} counted figures agree with the print to its last digit, {differ} differ and "
        f"say why; {quoted} are quoted."
    )


def format_ours(row: PaperNumber) -> str:
    if row.ours is None:
        return ""
    return f"{row.ours:,.0f}" if row.ours == int(row.ours) else f"{row.ours:.2f}"


def best(rows: list[PaperNumber], kind: str) -> PaperNumber | None:
    """Of several counts of one quantity the first that agrees, else the nearest; of table 7 at stride 16."""
    counts = [row for row in rows if row.quantity.startswith(kind) and not row.quantity.endswith("in slim")]
    counts = [row for row in counts if "OS 8" not in row.quantity]
    return min(counts, key=lambda row: 0 if row.agrees else abs((row.ours or 0) - row.paper), default=None)


def _pair(row: PaperNumber) -> list[str]:
    if row.ours is None:
        return [row.printed, "quoted"]
    far = "" if row.agrees else f" ({deviation(row.printed, row.ours)})"
    return [row.printed, format_ours(row) + far]


def _mebibytes(row: PaperNumber) -> str:
    return "" if row.peak_activation_bytes is None else f"{row.peak_activation_bytes / 2**20:.1f}"
