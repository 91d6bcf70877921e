"""What was measured: a title, named columns, a row for each contestant; for the terminal, for Markdown and for JSON."""

import re
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from mnv2_tasks.wording import visible

WIDEST = 14  # characters of a column of numbers, which may hold an error instead


@dataclass
class Table:
    title: str
    columns: list[str]  # with their units, such as "p50, ms"
    rows: list[list[Any]] = field(default_factory=list)  # text, or numbers, shown with three digits
    notes: list[str] = field(default_factory=list)  # what a reader must know to trust it
    text_columns: int = 1  # so many of the first hold words, aligned to the left; the others hold numbers

    def show(self, console: Console) -> None:
        table = RichTable(
            title=self.title,
            title_justify="left",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        rows = [[visible(_as_text(value)) for value in row] for row in self.rows]
        for index, column in enumerate(self.columns):
            if index < self.text_columns:
                table.add_column(column, overflow="fold")
                continue
            # as narrow as its longest word: what the first columns name is told whole, on 80 columns too
            words = " ".join([column, *(row[index] for row in rows if index < len(row))]).split()
            width = min(WIDEST, max(map(len, words), default=1))
            table.add_column(column, justify="right", overflow="fold", width=width)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False, markup=False)

    def to_markdown(self) -> str:
        """Headed by the title, if there is one; ends in a newline."""
        heading = [f"## {self.title}", ""] if self.title else []
        rule = ["---" if index < self.text_columns else "--:" for index in range(len(self.columns))]
        lines = [_line(row) for row in (self.columns, rule, *self.rows)]
        return "\n".join([*heading, *lines, "", *(f"{note}\n" for note in self.notes)])

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "rows": [dict(zip(self.columns, row)) for row in self.rows],
            "notes": self.notes,
        }


def markdown_text(text: str) -> str:
    """Text as a reader of the Markdown sees it, whatever tags and links are in it."""
    text = visible(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([*`\[])", r"\\\1", text)


def _line(row: list[Any]) -> str:
    cells = [markdown_text(_as_text(value)).replace("|", "\\|") for value in row]
    return f"| {' | '.join(cells)} |"


def _as_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
