"""Every number of the paper that needs no data, ours beside it; published scores are quoted.

    python tools/scorecard.py

Prints the tables and writes them to runs/scorecard/scorecard.md, headed by a summary, and to scorecard.json: a list of
{"table", "row", "quantity", "paper", "ours", "agrees", "note", "status", "printed", "peak_activation_bytes"}, where
status is "agrees", "differs: why" or "quoted". No data, no download, a minute on one core.
"""

from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mnv2_tasks.scorecard.scorecard import rows
from mnv2_tasks.scorecard.writing import VERDICTS, format_ours, tally, to_json, to_markdown

OUT = Path("runs/scorecard")
COLOURS = {"agrees": "green", "differs": "yellow", "quoted": "dim"}


def main() -> None:
    console, card = Console(), rows()
    for title, group in groupby(card, key=lambda row: row.table):
        table, notes = Table(title=title, title_justify="left"), []
        for heading in ("row", "quantity"):
            table.add_column(heading)
        for heading in ("paper", "ours", ""):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in group:
            if row.note and row.note not in notes:
                notes.append(row.note)
            verdict = VERDICTS[row.agrees]
            mark = f"{notes.index(row.note) + 1:2}" if row.note else "  "
            table.add_row(
                row.row, row.quantity, row.printed, format_ours(row), f"[{COLOURS[verdict]}]{verdict}[/]{mark}"
            )
        console.print(table)
        for number, note in enumerate(notes, start=1):
            console.print(f"{number:3} {note}", highlight=False)
        console.print()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "scorecard.json").write_text(to_json(card))
    (OUT / "scorecard.md").write_text(to_markdown(card))
    console.print(f"{tally(card)} Written to {OUT}/scorecard.md and scorecard.json", highlight=False)


if __name__ == "__main__":
    main()
