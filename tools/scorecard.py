"""Every number of the paper that needs no data, ours beside it.

    python tools/scorecard.py

Prints the tables and writes runs/scorecard/scorecard.json: a list of
{"table", "row", "quantity", "paper", "ours", "agrees", "note"}. No data, no download, ten seconds on a CPU.
"""

import json
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mnv2_tasks.scorecard import rows

OUT = Path("runs/scorecard/scorecard.json")


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
            verdict = "[green]agrees" if row.agrees else "[yellow]differs"
            mark = f"{notes.index(row.note) + 1:2}" if row.note else "  "
            table.add_row(row.row, row.quantity, f"{row.paper:,.0f}", f"{row.ours:,.0f}", f"{verdict}[/]{mark}")
        console.print(table)
        for number, note in enumerate(notes, start=1):
            console.print(f"{number:3} {note}", highlight=False)
        console.print()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([row._asdict() for row in card], indent=1) + "\n")
    console.print(f"{sum(row.agrees for row in card)} of {len(card)} agree; written to {OUT}")


if __name__ == "__main__":
    main()
