"""What an evaluation found, in tables and lines."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnv2_tasks.build import data_name
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.metrics.names import prefix_of
from mnv2_tasks.network.network import Network
from mnv2_tasks.weights.weight_files import Weights
from mnv2_tasks.wording import first_few, visible, visible_lines

log = logging.getLogger(__name__)

SHOWN = 20  # names in a list of absent classes
LONG, ENDS = 100, 10  # a table of more classes than LONG shows its ENDS


def print_metrics(network: Network, metrics: dict[str, Any], console: Console | None = None) -> None:
    """COCO's twelve lines, a table of classes, top-1 / top-5; then one line that is easy to grep."""
    console = console or Console(markup=False)
    for name, task in network.tasks.items():
        prefix = prefix_of(name, network.tasks)
        own = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
        kind = KINDS[task.kind]
        if words := kind.scores_in_words(name, own, task.metric):
            console.print(visible_lines(words), markup=False, highlight=False, soft_wrap=True)
        of_classes = own[kind.CLASS_SCORES]
        console.print(_table(f"{name}: {kind.CLASS_SCORE_TITLE} by class", kind.CLASS_SCORE_TITLE, of_classes))
        _print_absent(console, kind.COUNTED, task.class_names, of_classes)
    told = {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in metrics.items()}
    log.info("metrics: %s", " ".join(f"{key}={value}" for key, value in told.items() if isinstance(value, str)))


def _print_absent(console: Console, what: str, names: list[str], scored: dict[str, float]) -> None:
    absent = [name for name in names if name not in scored]
    if absent:
        console.print(f"no {what} of: {first_few(absent, SHOWN)} (not averaged in)", highlight=False, markup=False)


def _table(title: str, column: str, values: dict[str, float]) -> Table:
    """Best class first; of a long list the two ends, in between a line that says how many were left out."""
    table = Table(title=title)
    table.add_column("class")
    table.add_column(column, justify="right")
    rows = sorted(values.items(), key=lambda item: -item[1])
    hidden = len(rows) - 2 * ENDS if len(rows) > LONG else 0
    for index, (name, value) in enumerate(rows):
        if hidden and index == ENDS:
            table.add_row(f"... {hidden} more in metrics.json ...", "")
        if not hidden or not ENDS <= index < len(rows) - ENDS:
            table.add_row(Text(visible(name)), f"{value:.4f}")
    return table


def conditions(
    config: DictConfig, path: Path, weights: Weights, sources: dict[str, DataSource], precision: str
) -> list[str]:
    """Everything that moves a score, a line each."""
    training = weights.passport.get("training", {})
    averaged = f"averaged (EMA {training['ema']})" if training.get("ema") else "not averaged, as far as is known"
    view = {
        "square": f"resized to {config.imgsz} x {config.imgsz}",
        "tf1_square": f"resized to {config.imgsz} x {config.imgsz} as TensorFlow 1 does",
        "tf1_centre_crop": f"middle 7/8 of each side, resized to {config.imgsz} x {config.imgsz} as TensorFlow 1 does",
        "centre_crop": f"shorter side {config.input.resize or 'as it is'}, centre crop {config.imgsz}",
        "letterbox": f"as large as fits into {config.imgsz} x {config.imgsz}, grey around",
        "pad": f"original size, padded to {config.imgsz}",
    }[config.input.fit]
    lines = [
        f"weights: {path} ({weights.family}; {averaged}; "
        f"started from: {training.get('started_from', 'not recorded: ' + weights.passport['command'])})",
        *(f"weights: left out {count}: {why}" for why, count in Counter(weights.left_out.values()).items()),
        f"input: {view}; mean {list(config.input.mean)}, std {list(config.input.std)}; "
        f"convolutions padded as in {config.backbone.get('padding', 'torch')}; "
        f"output stride {config.output_stride}; {precision}",
    ]
    views = f"scales {list(config.scales)}, {'with' if config.flip else 'without'} mirrored views"
    for name, source in sources.items():
        lines.append(f"{name}: {data_name(config, name)}, {source.describe()}")
        lines += getattr(source, "skipped", [])
        if words := KINDS[source.kind].conditions(config.tasks[name], views):
            lines.append(f"{name}: {words}")
    return lines
