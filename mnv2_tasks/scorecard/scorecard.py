"""The paper's numbers that need no data, ours beside them: sizes, multiply-adds, memory; scores in print are quoted."""

import os
from itertools import groupby
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.scorecard.figure_5 import plot_figure_5
from mnv2_tasks.scorecard.paper_number import PaperNumber
from mnv2_tasks.scorecard.table_3 import table_3
from mnv2_tasks.scorecard.table_4 import figure_5, slim_readme, table_4
from mnv2_tasks.scorecard.table_7 import table_7
from mnv2_tasks.scorecard.tables_5_6 import mobilenet_v3_paper, table_5, table_6
from mnv2_tasks.scorecard.writing import VERDICTS, format_ours, tally, to_json, to_markdown
from mnv2_tasks.whole_files import write_text

COLOURS = {"agrees": "green", "differs": "yellow", "quoted": "dim"}


def scorecard(config: DictConfig) -> None:
    """Print every comparison, and write scorecard.md, scorecard.json and figure_5.png into the folder `config.out`."""
    if config.out in (None, ""):
        raise ConfigError(f"out={config.out}: expected a folder, such as out=runs/scorecard")
    console, card, out = Console(), paper_numbers(), Path(os.path.expanduser(config.out))
    for title, group in groupby(card, key=lambda row: row.table):
        _print_table(title, list(group), console)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "scorecard.json", to_json(card))
    write_text(out / "scorecard.md", to_markdown(card))
    plot_figure_5(card, out / "figure_5.png")
    written = f"{out}/scorecard.md, scorecard.json and figure_5.png"
    console.print(f"{tally(card)} Written to {written}", highlight=False)


def paper_numbers() -> list[PaperNumber]:
    """Every comparison, in the order of the paper; about half a minute on one core."""
    tables = (table_3, table_4, figure_5, table_5, table_6, mobilenet_v3_paper, table_7, slim_readme)
    return [row for table in tables for row in table()]


def _print_table(title: str, group: list[PaperNumber], console: Console) -> None:
    """With numbered notes below it."""
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
        table.add_row(row.row, row.quantity, row.printed, format_ours(row), f"[{COLOURS[verdict]}]{verdict}[/]{mark}")
    console.print(table)
    for number, note in enumerate(notes, start=1):
        console.print(f"{number:3} {note}", highlight=False)
    console.print()
