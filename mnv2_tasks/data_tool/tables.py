"""What the doctor found: tables on the screen, bad_files.txt and classes.csv."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnv2_tasks.data.reading.problems import SLACK, Problem, each_once
from mnv2_tasks.data_tool.anchor_recall import MATCHED, AnchorFit
from mnv2_tasks.data_tool.examine import TINY, Examination, Split, kind_of
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.whole_files import write_text
from mnv2_tasks.wording import counted, first_few, inert_cell, visible, visible_lines

LONG, ENDS = 100, 10  # a table of more classes than LONG shows its ENDS, as in report.py
EXAMPLES = 3  # problems of a kind that are shown


def print_examination(found: Examination, image_size: int, console: Console) -> None:
    """Everything but the verdict."""
    console.print(_overview(found))
    for split, reason in found.unread.items():
        console.print(Text(f"{split} cannot be read: {visible_lines(reason)}", "red"))
    for line in found.source.scale():
        console.print(Text(line))
    for split in found.splits:
        for note in found.source.notes.get(split.name, []):
            console.print(Text(note))
        _print_problems(f"{split.name}: problems, which training refuses", split.problems, console)
        _print_problems(f"{split.name}: hints, which training goes on with", split.duplicates, console)
    if {split.name for split in found.splits} >= {"train", "val"}:
        console.print(f"images of val among those of train, by content: {len(found.twins)}")
    console.print(_classes(found))
    for line in _gaps(found):
        console.print(Text(line))
    if found.source.kind == "detection":
        console.print(_anchors(found.splits, image_size))
        console.print(
            "mean IoU: of each box with its best anchor. A box without an anchor that fits is still learned, by its "
            "best anchor alone. Where that is so for many small ones, a larger imgsz helps; for a class of thin ones, "
            "anchors of their shape: tasks.ssdlite.head.first_map_anchors."
        )


def verdict(found: Examination) -> str:
    """One line."""
    problems, hints = (sum(map(len, of)) for of in _lists(found.splits))
    parts = [counted(problems, "problem")] if problems else []
    parts += [f"{split} cannot be read" for split in found.unread]
    good = f"{found.source.kind}: no problems" if not parts else f"{found.source.kind}: {', '.join(parts)}"
    return good + (f"; {counted(hints, 'hint')}" if hints else "")


def write_bad_files(found: Examination, path: Path) -> None:
    """All problems and hints, a line each: file, what is wrong, remedy, separated by tabs; # begins a comment."""
    lines = []
    for split in found.splits:
        for title, problems in (("problems", split.problems), ("hints", split.duplicates)):
            lines.append(f"# {split.name}: {len(problems):,} {title}")
            lines += ["\t".join(_flat(part) for part in (p.file, p.what, p.remedy)) for p in each_once(problems)]
    lines += [f"# {split}: not read: {_flat(reason)}" for split, reason in found.unread.items()]
    write_text(path, "\n".join(lines) + "\n")


def write_classes(found: Examination, path: Path) -> None:
    """A row for each class: its label, its name, and of each split how often it occurs and in how many images."""
    what = KINDS[found.source.kind].COUNTED
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    columns = [f"{split.name}_{column}" for split in found.splits for column in (what, "images_with_it")]
    writer.writerow(["label", "class", *columns])
    for label, name in enumerate(found.source.class_names):
        numbers = [int(n[label]) for split in found.splits for n in (split.counts.amount, split.counts.images)]
        writer.writerow([label, inert_cell(name), *numbers])
    write_text(path, text.getvalue())


def _flat(text: str) -> str:
    return visible(" ".join(text.split()))


def _lists(splits: Sequence[Split]) -> tuple[list[list[Problem]], list[list[Problem]]]:
    return [split.problems for split in splits], [split.duplicates for split in splits]


def _overview(found: Examination) -> Table:
    table = Table(title=f"{found.source.kind}: {found.source.found}", title_justify="left")
    table.add_column("")
    for split in found.splits:
        table.add_column(split.name, justify="right")

    def row(title: str, value: Callable[[Split], int]) -> None:
        table.add_row(title, *(f"{value(split):,}" for split in found.splits))

    row("images", lambda split: len(split.records))
    if found.source.kind == "detection":
        row("  without objects", lambda split: int((split.records.starts[1:] == split.records.starts[:-1]).sum()))
        row("boxes", lambda split: len(split.records.boxes))
        row("  crowd or difficult (not trained on)", lambda split: int(split.records.crowd.sum()))
        row(f"  cut by up to {SLACK:g} pixels at the edge", lambda split: split.cut)
        row("  given twice", lambda split: len(split.duplicates))
        row(f"  tiny (a side under {TINY:.0%} of the image's)", lambda split: split.tiny)
    if found.source.kind == "classification":
        row("  of another class too, by their bytes", lambda split: len(split.duplicates))
    if found.source.kind == "segmentation":
        row("pixels of a class", lambda split: int(split.counts.amount.sum()))
        row("pixels without a class (255)", lambda split: split.counts.ignored)
        row("pixels beyond the class list", lambda split: split.counts.stray)
    row("problems", lambda split: len(split.problems))
    return table


def _print_problems(title: str, problems: Sequence[Problem], console: Console) -> None:
    if not problems:
        return
    kinds = Counter(kind_of(problem) for problem in problems)
    console.print(Text(title, "bold"))
    for kind, number in kinds.most_common():
        console.print(Text(f"  {number:,} x {kind}"))
        distinct = each_once(problem for problem in problems if kind_of(problem) == kind)
        for problem in distinct[:EXAMPLES]:
            console.print(Text(f"      {_flat(str(problem))}", "dim"))
        if len(distinct) > EXAMPLES:
            console.print(Text(f"      ... and {len(distinct) - EXAMPLES:,} more in bad_files.txt", "dim"))


def _classes(found: Examination) -> Table:
    what = KINDS[found.source.kind].COUNTED
    table = Table(title=f"classes, by their {what} in {found.splits[0].name}", title_justify="left")
    table.add_column("class")
    for split in found.splits:
        table.add_column(f"{split.name} {what}", justify="right")
        table.add_column("share", justify="right")
        if what != "images":
            table.add_column("images", justify="right")
    names = found.source.class_names
    rows = sorted(range(len(names)), key=lambda label: -found.splits[0].counts.amount[label])
    hidden = len(rows) - 2 * ENDS if len(rows) > LONG else 0
    for index, label in enumerate(rows):
        if hidden and index == ENDS:
            table.add_row(f"... {hidden} more in classes.csv ...")
        if not hidden or not ENDS <= index < len(rows) - ENDS:
            table.add_row(Text(names[label]), *_cells(found.splits, label, what))
    return table


def _cells(splits: Iterable[Split], label: int, what: str) -> list[str]:
    cells = []
    for split in splits:
        amount, total = int(split.counts.amount[label]), int(split.counts.amount.sum())
        cells += [f"{amount:,}", f"{amount / max(total, 1):.2%}"]
        cells += [f"{int(split.counts.images[label]):,}"] if what != "images" else []
    return cells


def _gaps(found: Examination) -> list[str]:
    """What is missing: classes that never occur, numbers of classes that are left out."""
    lines = []
    for split in found.splits:
        absent = [name for name, n in zip(found.source.class_names, split.counts.amount) if not n]
        if absent:
            what = f"{KINDS[found.source.kind].COUNTED} of {counted(len(absent), 'class')}"
            lines.append(f"{split.name}: no {what}: {first_few(absent)}")
    ids = found.source.category_ids
    left_out = sorted(set(range(min(ids), max(ids) + 1)) - set(ids))
    if left_out:
        lines.append(
            f"category ids go from {min(ids)} to {max(ids)} with gaps: {first_few(map(str, left_out), 12)}. "
            f"Labels have none: they are numbered in the order of the ids"
        )
    return lines


def _anchors(splits: Sequence[Split], image_size: int) -> Table:
    title = (
        f"recall: share of boxes that an anchor of SSDLite overlaps by {MATCHED} at imgsz={image_size}\n"
        f"(small: under 32 x 32 pixels of the input, large: from 96 x 96; then the classes, those that it misses first)"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("boxes")
    for split in splits:
        for heading in (f"{split.name} boxes", "recall", "mean IoU"):
            table.add_column(heading, justify="right")

    def add(rows: Iterable[AnchorFit]) -> None:
        rows = list(rows)
        cells = [
            cell
            for row in rows
            for cell in ([f"{row.boxes:,}", f"{row.recall:.1%}", f"{row.mean_iou:.3f}"] if row.boxes else ["0", "", ""])
        ]
        table.add_row(Text(visible(rows[0].name)), *cells)

    for rows in zip(*(split.anchors for split in splits)):
        add(rows)
    table.add_section()
    by_class = [rows for rows in zip(*(split.anchors_by_class for split in splits)) if rows[0].boxes]
    for rows in sorted(by_class, key=lambda rows: rows[0].recall)[:ENDS]:
        add(rows)
    return table
