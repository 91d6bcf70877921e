"""The one evaluation: of a network, while it trains and after, and of a file that one was exported to."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.utilities import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader

from mnv2_tasks.contracts import Frames, Metric
from mnv2_tasks.evaluation.lightning_settings import checked_by_lightning
from mnv2_tasks.network.devices import FLOAT32, without_tf32
from mnv2_tasks.network.finite import FiniteWatch
from mnv2_tasks.network.network import Network, Views
from mnv2_tasks.runs.processes import meet_on_loopback
from mnv2_tasks.runs.quiet import quiet_lightning
from mnv2_tasks.runs.stopping import end_together

Predict = Callable[[str, Tensor, Frames], Any]  # (task, images, frames) -> the task's `results`


def score(
    predict: Predict, tasks: Mapping[str, Any], loaders: Mapping[str, DataLoader], *, bars: bool = True
) -> dict[str, dict[str, Any]]:
    """{task: what its metric makes of the predictions}.

    Args:
        tasks: whose metrics collect the predictions; they are reset first.
        loaders: {task: its validation images}; of several processes, to each its own.
        bars: of progress, in a terminal and from the first process; False within another display.
    """
    console = Console(markup=False)
    shown = bars and console.is_terminal and rank_zero_only.rank == 0
    with Progress(console=console, transient=True, disable=not shown) as progress, torch.inference_mode():
        for name, loader in loaders.items():
            metric = tasks[name].metric
            metric.reset()
            for batch in progress.track(loader, total=len(loader), description=name):
                metric.update(predict(name, batch.images, batch.frames), batch)
    return {name: computed(tasks[name].metric) for name in loaders}


def score_network(
    network: Network,
    loaders: Callable[[], Mapping[str, DataLoader]],
    settings: DictConfig,
    precision: str,
    views: Views,
) -> tuple[dict[str, dict[str, Any]], bool]:
    """`score` of a network.

    Args:
        loaders: called once the processes know of each other.
        settings: of config.trainer: which devices, and how many.
        precision: as Lightning calls it. In 32-true, GPUs take no TF32 either.

    Returns:
        the scores, the same in every process; and whether this process is the one that writes.
    """
    quiet_lightning()
    meet_on_loopback(settings)
    with checked_by_lightning():
        fabric = L.Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            precision=cast(Any, precision),  # Lightning's type of it is private
        )
    if getattr(fabric.strategy, "num_processes", 1) * settings.nodes > 1:
        end_together()  # sooner than they are connected, for which they wait
    fabric.launch()
    network = cast(Network, fabric.strategy.precision.convert_module(network))
    network.to(fabric.device).to(memory_format=torch.channels_last).eval()

    watch = FiniteWatch()

    def predict(task: str, images: Tensor, frames: Frames) -> Any:
        with fabric.autocast():
            return network.predict_task(task, fabric.to_device(images), frames, views, watch)

    with without_tf32() if precision == FLOAT32 else nullcontext():
        values = score(predict, network.tasks, loaders())
        watch.settle()
        return values, fabric.is_global_zero


def computed(metric: Metric) -> dict[str, Any]:
    """What a metric comes to over the images of all processes, which all get it."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, metric)
        metric.reset()
        for part in parts:
            metric.merge(part)
    return metric.compute()
