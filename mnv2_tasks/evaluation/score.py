"""Scores of anything that predicts, without Lightning: a network, or a file that was exported."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from rich.progress import Progress
from torch.utils.data import DataLoader

from mnv2_tasks.contracts import Model


def score(
    model: Model, tasks: Mapping[str, Any], loaders: Mapping[str, DataLoader], progress: Progress,
    batches: int | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """{task: what its metric makes of the model's predictions}, in the keys of metrics.json.

    Args:
        tasks: whose metrics collect the predictions; they are reset first.
        loaders: {task: its validation images}.
        batches: of each loader that are looked at; None: all.
    """
    values = {}
    for name, loader in loaders.items():
        metric = tasks[name].metric
        metric.reset()
        total = len(loader) if batches is None else min(batches, len(loader))
        bar = progress.add_task(name, total=total)
        with torch.inference_mode():
            for batch in islice(loader, total):
                metric.update(model.predict(batch.images, batch.frames)[name], batch)
                progress.advance(bar)
        progress.remove_task(bar)
        values[name] = metric.compute()
    return values
