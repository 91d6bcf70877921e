"""A comparison's tables, and the Markdown made of them."""

import math

from mnv2_tasks.drawing.table import Table, markdown_text
from mnv2_tasks.metrics.bootstrap import Interval
from mnv2_tasks.studies.compare.comparison import Comparison, OnePass
from mnv2_tasks.studies.compare.exporting import PRECISION
from mnv2_tasks.studies.compare.groups import ABSENT
from mnv2_tasks.studies.compare.measure import MeasuredNetwork, cpu_name
from mnv2_tasks.studies.compare.subjects import Entry, Subject

HOW_TO_READ = [
    "Intervals hold 95 % of 1,000 bootstrap resamples of the validation images (percentiles, fixed seed). They tell "
    "what other images would change, not what another training would: that is told by ±, the standard deviation over "
    "seeds, where there are several.",
    "Differences are to the first row. Their intervals are paired: both rows are scored on the same resamples, so that "
    "images that are hard for both do not count. An interval that holds 0 shows no difference.",
    "Multiply-adds are of one image at the network's input size, layers of convolution and matrix product alone. "
    "Memory is the peak of activations in float32, one image, layer by layer, without the weights.",
]


def score_table(subject: Subject) -> Table:
    columns = [
        "#", "run", "score", "95 % interval", "difference", "its 95 % interval", "seeds",
        "parameters", "multiply-adds", "memory", "latency p50", "exported p50", "latency p95",
    ]  # fmt: skip
    rows = [
        [
            str(entry.group.number),
            entry.group.label,
            _score(entry),
            _interval(entry.interval),
            ABSENT if entry.difference is None else _signed(entry.difference),
            _interval(entry.difference_interval),
            _seeds(entry),
            *_cost(entry.group.network),
        ]
        for entry in subject.entries
    ]
    return Table(subject.heading, columns, rows, text_columns=2)


def configuration_table(comparison: Comparison) -> Table:
    """One column for each group."""
    columns = ["key", *(str(group.number) for group in comparison.groups)]
    rows = [[", ".join(keys), *values] for keys, values in comparison.differing]
    return Table("What differs in the configurations", columns, rows)


def folder_table(comparison: Comparison) -> Table:
    rows = [
        [str(group.number), group.label, ", ".join(str(run.folder) for run in group.runs)]
        for group in comparison.groups
    ]
    return Table("Run folders", ["#", "run", "folders"], rows, text_columns=3)


def one_pass_line(found: OnePass) -> str:
    alone = " + ".join(str(group.number) for group in found.alone)
    latency, params = found.latency_ms, found.params
    return (
        f"One pass of {found.together.number} ({found.together.label}) takes {latency['together']:.1f} ms; "
        f"{alone} one after the other take {latency['alone']:.1f} ms: a share of "
        f"{latency['together'] / latency['alone']:.2f}. Parameters: {params['together'] / 1e6:.3f} M against "
        f"{params['alone'] / 1e6:.3f} M."
    )


def latency_line(comparison: Comparison) -> str:
    line = f"Latency: one image, from the network's input to results, all networks in turns, on {comparison.device}."
    if comparison.exported:
        line += (
            f" Exported: of the network as a file, format={comparison.exported} precision={PRECISION}, which was "
            f"found to return what PyTorch does, in the same turns, on {cpu_name()}."
        )
    return line


def markdown(comparison: Comparison) -> str:
    excluded = [f"- **{markdown_text(name)}**: {markdown_text(reason)}" for name, reason in comparison.excluded.items()]
    parts = [
        f"# {markdown_text(comparison.title)}",
        "\n".join([*excluded, *(f"- {markdown_text(note)}" for note in comparison.notes)]),
    ]
    parts += [score_table(subject).to_markdown() for subject in comparison.subjects]
    parts += [markdown_text(one_pass_line(found)) for found in comparison.one_pass]
    parts += [latency_line(comparison), *HOW_TO_READ]
    if comparison.differing:
        parts.append(configuration_table(comparison).to_markdown())
    parts.append(folder_table(comparison).to_markdown())
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _score(entry: Entry) -> str:
    """Such as "0.5633 ± 0.0021"."""
    return f"{entry.score:.4f}" if math.isnan(entry.std) else f"{entry.score:.4f} ± {entry.std:.4f}"


def _seeds(entry: Entry) -> str:
    """Which seeds, and which are missing."""
    seeds, missing = ", ".join(map(str, entry.group.seeds)), ", ".join(entry.group.missing)
    return f"{seeds} (without {missing})" if missing else seeds


def _interval(interval: Interval | None) -> str:
    return _minus(f"{interval.low:.4f} to {interval.high:.4f}") if interval else ABSENT


def _signed(value: float) -> str:
    return _minus(f"{value:+.4f}") if round(value, 4) else "0.0000"


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _cost(network: MeasuredNetwork | None) -> list[str]:
    """Parameters, multiply-adds, memory, latencies."""
    if network is None:
        return [ABSENT] * 6
    cost, latency, exported = network.cost, network.latency, network.exported_latency
    return [
        f"{cost.params / 1e6:.3f} M",
        f"{cost.madds / 1e9:.3f} G",
        f"{cost.peak_activation_bytes / 2**20:.1f} MiB",
        f"{latency.p50:.1f} ms" if latency else ABSENT,
        f"{exported.p50:.1f} ms" if exported else ABSENT,
        f"{latency.p95:.1f} ms" if latency else ABSENT,
    ]
