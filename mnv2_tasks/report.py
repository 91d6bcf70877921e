"""Tables and pictures of an evaluation."""

import logging
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mnv2_tasks.datamodule import TasksData
from mnv2_tasks.network import Network
from mnv2_tasks.pictures import draw_results, sheet
from mnv2_tasks.results import write_picture

log = logging.getLogger(__name__)


def print_metrics(network: Network, metrics: dict[str, Any], console: Console | None = None) -> None:
    """COCO's twelve lines, a table of classes, top-1 / top-5; then one line that is easy to grep."""
    console = console or Console()
    several = len(network.tasks) > 1
    for name, task in network.tasks.items():
        own = {k.removeprefix(f"{name}/"): v for k, v in metrics.items() if not several or k.startswith(f"{name}/")}
        if task.kind == "detection":
            console.print(task.metric.table, markup=False, highlight=False, soft_wrap=True)
            console.print(_table(f"{name}: AP by class", "AP", own["AP_per_class"]))
        elif task.kind == "segmentation":
            console.print(_table(f"{name}: IoU by class", "IoU", own["IoU"]))
            absent = sorted(set(task.class_names) - set(own["IoU"]))
            if absent:
                console.print(f"no pixels of: {', '.join(absent)} (not averaged in)")
        else:
            console.print(f"{name}: top-1 {own['top1']:.4f}  top-5 {own['top5']:.4f}")
    numbers = [f"{key}={value:.4f}" for key, value in metrics.items() if isinstance(value, float)]
    log.info("metrics: %s", " ".join(numbers))


def _table(title: str, column: str, values: dict[str, float]) -> Table:
    table = Table(title=title)
    table.add_column("class")
    table.add_column(column, justify="right")
    for name, value in sorted(values.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{value:.4f}")
    return table


def save_samples(network: Network, data: TasksData, path: Path, count: int = 12) -> None:
    """One sheet with the predictions of every task on the first validation images."""
    device = network.mean.device
    network.eval()
    batch = next(iter(data.val_dataloader()[0]))
    images = batch.images[:count]
    with torch.no_grad():
        results = network.predict(images.to(device), batch.original_sizes[:count])
    pictures = [
        draw_results(
            image.permute(1, 2, 0).contiguous().numpy(),
            {name: of_task[i] for name, of_task in results.items()},
            network.tasks,
        )
        for i, image in enumerate(images)
    ]
    path.parent.mkdir(exist_ok=True)
    write_picture(path, sheet(pictures, columns=3 if len(network.tasks) == 1 else 2))
