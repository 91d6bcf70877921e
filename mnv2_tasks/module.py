"""The one LightningModule: a network's tasks train and are evaluated here, however many there are."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from mnv2_tasks.contracts import Batch
from mnv2_tasks.errors import DataError
from mnv2_tasks.network import Network
from mnv2_tasks.optim import parameter_groups, per_step


class TasksModule(L.LightningModule):
    """Training and validation steps for 1..N tasks over one backbone.

    Args:
        loss_weights: {task name: factor on the sum of its loss terms}.
        optimizer: called with parameter groups.
        schedule: maps the share of training done to a factor on the learning rate.
        warmup: share of training spent on a linear warm-up.
        passport: plain dict stored with every checkpoint: the config and the class names that rebuild the network.
    """

    def __init__(
        self,
        *,
        network: Network,
        loss_weights: dict[str, float],
        optimizer: Callable[[list[dict]], torch.optim.Optimizer],
        weight_decay: float,
        schedule: Callable[[float], float],
        warmup: float,
        passport: dict[str, Any],
    ):
        super().__init__()
        self.network = network
        self.loss_weights = loss_weights
        self.optimizer, self.weight_decay = optimizer, weight_decay
        self.schedule, self.warmup = schedule, warmup
        self.passport = passport
        self.task_names = list(network.tasks)
        self.metrics: dict[str, Any] = {}  # of the last validation, in the keys of metrics.json

    def key(self, task: str, name: str) -> str:
        """The name of a number in metrics.json and in the logs: with its task if there are several."""
        return name if len(self.task_names) == 1 else f"{task}/{name}"

    def training_step(self, batches: dict[str, Batch], batch_index: int) -> Tensor:
        terms = self.network.loss(batches)
        total = sum(self.loss_weights[task] * sum(of_task.values()) for task, of_task in terms.items())
        if not torch.isfinite(total):
            raise DataError(_not_finite(terms, batches, self.trainer.global_step))
        logged = {
            f"train/{self.key(t, name)}": v.detach() for t, of_task in terms.items() for name, v in of_task.items()
        }
        logged["train/loss"] = total.detach()
        self.log_dict(
            logged, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(next(iter(batches.values())).images)
        )
        self.log("loss", total.detach(), prog_bar=True, logger=False)
        return total

    def on_validation_epoch_start(self) -> None:
        for task in self.network.tasks.values():
            task.metric.reset()

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        task = self.network.tasks[self.task_names[dataloader_idx]]
        predictions = task.predict(self.network.features(batch.images), batch.original_sizes)
        task.metric.update(predictions, batch)

    def on_validation_epoch_end(self) -> None:
        self.metrics, primary = {}, []
        for name, task in self.network.tasks.items():
            _merge_processes(task.metric)
            values = task.metric.compute()
            primary.append(values[task.metric.primary] or 0.0)
            self.metrics |= {self.key(name, key): value for key, value in values.items()}
        scalars = {f"val/{key}": value for key, value in self.metrics.items() if isinstance(value, float)}
        # every process holds the merged metrics: the mean over processes that Lightning asks for changes nothing
        self.log_dict({**scalars, "val/score": sum(primary) / len(primary)}, sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer(parameter_groups(self.network, self.weight_decay))
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = per_step(optimizer, self.schedule, warmup=self.warmup, steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["passport"] = self.passport


def _merge_processes(metric: Any) -> None:
    """Give every process the counts of all."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    others: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(others, metric)
    metric.reset()
    for other in others:
        metric.merge(other)


def _not_finite(terms: dict[str, dict[str, Tensor]], batches: dict[str, Batch], step: int) -> str:
    parts = {task: {name: float(value.detach()) for name, value in of_task.items()} for task, of_task in terms.items()}
    ids = {task: batch.image_ids.tolist() for task, batch in batches.items()}
    return (
        f"the loss is not finite at step {step}: {parts}; images {ids}. "
        f"Lower the learning rate (lr=...), or look at the boxes and masks of these images."
    )
