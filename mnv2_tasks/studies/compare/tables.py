"""A comparison's tables, as rows of text, and the Markdown made of them."""

from collections.abc import Sequence

from mnv2_tasks.studies.compare import numbers
from mnv2_tasks.studies.compare.comparison import Comparison, OnePass
from mnv2_tasks.studies.compare.groups import ABSENT
from mnv2_tasks.studies.compare.subjects import Subject

HOW_TO_READ = [
    "Intervals hold 95 % of 1,000 bootstrap resamples of the validation images (percentiles, fixed seed). They tell "
    "what other images would change, not what another training would: that is told by ±, the standard deviation over "
    "seeds, where there are several.",
    "Differences are to the first row. Their intervals are paired: both rows are scored on the same resamples, so that "
    "images that are hard for both do not count. An interval that holds 0 shows no difference.",
    "Multiply-adds are of one image at the network's input size, layers of convolution and matrix product alone. "
    "Memory is the peak of activations in float32, one image, layer by layer, without the weights.",
]


def score_rows(comparison: Comparison, subject: Subject) -> list[list[str]]:
    """Header first."""
    header = [
        "#", "run", "score", "95 % interval", "difference", "its 95 % interval", "seeds",
        "parameters", "multiply-adds", "memory", "latency p50", "latency p95",
    ]  # fmt: skip
    rows = [
        [
            str(comparison.number(entry)),
            entry.group.label,
            numbers.score(entry),
            numbers.between(entry.interval),
            numbers.difference(entry),
            numbers.between(entry.difference_interval) if entry is not subject.reference else ABSENT,
            numbers.seeds(entry),
            *numbers.cost(comparison.built_of(entry)),
        ]
        for entry in subject.entries
    ]
    return [header, *rows]


def configuration_rows(comparison: Comparison) -> list[list[str]]:
    """Header first; one column for each group."""
    header = ["key", *(str(i) for i in range(1, 1 + len(comparison.groups)))]
    return [header, *([", ".join(keys), *values] for keys, values in comparison.differing)]


def folder_rows(comparison: Comparison) -> list[list[str]]:
    rows = [
        [str(i), group.label, ", ".join(str(run.folder) for run in group.runs)]
        for i, group in enumerate(comparison.groups, start=1)
    ]
    return [["#", "run", "folders"], *rows]


def one_pass_line(comparison: Comparison, found: OnePass) -> str:
    alone, label = " + ".join(str(k + 1) for k in found.alone), comparison.groups[found.together].label
    return (
        f"One pass of {found.together + 1} ({label}) takes {found.together_ms:.1f} ms; "
        f"{alone} one after the other take {found.alone_ms:.1f} ms: a share of "
        f"{found.together_ms / found.alone_ms:.2f}. Parameters: {found.together_params / 1e6:.3f} M against "
        f"{found.alone_params / 1e6:.3f} M."
    )


def markdown(comparison: Comparison) -> str:
    lines = [f"# {comparison.title}", ""]
    lines += [f"- **{name}**: {reason}" for name, reason in comparison.excluded.items()]
    lines += [f"- {note}" for note in comparison.notes]
    lines += [""] if len(lines) > 2 else []
    for subject in comparison.subjects:
        lines += [f"## {comparison.heading(subject)}", "", *_table(score_rows(comparison, subject), numbers_from=2), ""]
    lines += [line for found in comparison.one_pass for line in (one_pass_line(comparison, found), "")]
    lines += [f"Latency: one image, from the network's input to results, on {comparison.device}.", ""]
    lines += [f"{line}\n" for line in HOW_TO_READ]
    if comparison.differing:
        lines += ["## What differs in the configurations", "", *_table(configuration_rows(comparison), 1), ""]
    lines += ["## Run folders", "", *_table(folder_rows(comparison), 3)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Sequence[str]], numbers_from: int) -> list[str]:
    """
    Args:
        numbers_from: columns from here on are aligned to the right.
    """
    cells = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    rule = ["---" if i < numbers_from else "---:" for i in range(len(rows[0]))]
    return [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]
