"""The one LightningModule: a network's tasks train and are evaluated here, however many there are."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mnv2_tasks.contracts import Batch
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.evaluation.score import computed
from mnv2_tasks.metrics.names import named
from mnv2_tasks.network.finite import FiniteWatch, first_not_finite, is_finite
from mnv2_tasks.network.network import ONE_VIEW, Network, Views
from mnv2_tasks.training.auxiliary_loss import AuxiliaryLoss
from mnv2_tasks.training.distillation import Distillation
from mnv2_tasks.training.mixing import Mixing
from mnv2_tasks.training.multi_scale import MultiScale
from mnv2_tasks.training.not_finite import not_finite
from mnv2_tasks.training.optimisation import Optimisation
from mnv2_tasks.training.task_weights import FixedWeights, UncertaintyWeights

log = logging.getLogger(__name__)


class TasksModule(L.LightningModule):
    """Training and validation steps for 1..N tasks over one backbone.

    Args:
        task_weights: {task name: sum of its loss terms} -> what is optimised, see task_weights.py.
        batch: images of one process's step.
        passport: plain dict stored with every checkpoint: the config and the class names that rebuild the network.
        views: that a segmentation task is validated on.
        multi_scale: makes training pictures smaller, in steps that it chooses.
        mixing: {classification task: what mixes the images of its training batches}.
        distillation: adds the terms of a teacher to the loss.
        auxiliary: adds those of classifiers that only training has.
    """

    def __init__(
        self,
        *,
        network: Network,
        task_weights: FixedWeights | UncertaintyWeights,
        optimisation: Optimisation,
        batch: int,
        passport: dict[str, Any],
        views: Views = ONE_VIEW,
        multi_scale: MultiScale | None = None,
        mixing: Mapping[str, Mixing] | None = None,
        distillation: Distillation | None = None,
        auxiliary: AuxiliaryLoss | None = None,
    ):
        super().__init__()
        self.network = network
        self.task_weights = task_weights
        self.optimisation, self.batch = optimisation, batch
        self.passport = passport
        self.views = views
        self.multi_scale = multi_scale
        self.mixing, self.distillation = mixing or {}, distillation
        self.auxiliary = auxiliary
        self.watch = FiniteWatch()

    def training_step(self, batches: dict[str, Batch], batch_index: int) -> dict[str, Any]:
        if self.multi_scale:
            step, steps = self.trainer.global_step, self.trainer.estimated_stepping_batches
            batches = {name: self.multi_scale(batch, step, steps) for name, batch in batches.items()}
        batches = {name: self.mixing[name](b) if name in self.mixing else b for name, b in batches.items()}
        outputs, features = self.network.outputs_and_features(batches)
        terms = self.network.loss(outputs, batches)
        if self.auxiliary:
            for name, loss in self.auxiliary(self.network, features, batches).items():
                terms[name]["auxiliary"] = loss
        if self.distillation:
            terms = self.distillation(terms, outputs, batches)
        total = self.task_weights({task: sum(of_task.values()) for task, of_task in terms.items()})
        step = self.trainer.global_step
        terms = {task: {term: value.detach() for term, value in of_task.items()} for task, of_task in terms.items()}
        self.watch.add(torch.isfinite(total.detach()), lambda: self._not_finite(terms, batches, step))
        logged = {f"train/{key}": value.detach() for key, value in named(terms, self.network.tasks).items()}
        logged |= {f"train/weight/{task}": weight for task, weight in self.task_weights.current().items()}
        logged["train/loss"] = total.detach()
        self.log_dict(
            logged, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(next(iter(batches.values())).images)
        )
        return {"loss": total, "logged": logged}

    def _not_finite(self, terms: dict[str, dict[str, Tensor]], batches: dict[str, Batch], step: int) -> None:
        folder = Path(self.trainer.default_root_dir) / "debug"
        # once the optimizer has made a step of it, every layer is broken, and none is the first
        late = not all(is_finite(weight) for weight in self.network.parameters())
        layer = "" if late else first_not_finite(self.network, lambda: self.network.outputs(batches))
        raise DataError(not_finite(terms, batches, step, folder, layer))

    def on_train_batch_end(self, *_: Any) -> None:
        if self.trainer.is_last_batch:  # before it is validated and written
            self.watch.settle()

    def on_validation_epoch_start(self) -> None:
        for task in self.network.tasks.values():
            task.metric.reset()

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        name = list(self.network.tasks)[dataloader_idx]
        results = self.network.predict_task(name, batch.images, batch.frames, self.views, self.watch)
        self.network.tasks[name].metric.update(results, batch)

    def on_validation_epoch_end(self) -> None:
        self.watch.settle()
        values = {name: computed(task.metric) for name, task in self.network.tasks.items()}
        primary = [values[name][task.metric.primary] or 0.0 for name, task in self.network.tasks.items()]
        scalars = {
            f"val/{key}": value for key, value in named(values, self.network.tasks).items() if isinstance(value, float)
        }
        # every process holds the merged metrics: the mean over processes that Lightning asks for changes nothing
        self.log_dict({**scalars, "val/score": sum(primary) / len(primary)}, sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimisation.build_optimizer(
            *(self.network.backbone, self.network.get_submodule("tasks"), self.task_weights),
            *([self.auxiliary] if self.auxiliary else []),
        )
        self._check_clipping(optimizer)
        images = self.batch * self.trainer.world_size * self.trainer.accumulate_grad_batches
        scaled = self.optimisation.scale_rates(optimizer, images)
        if scaled and self.trainer.is_global_zero:
            log.info("%s", scaled)
        schedule = self.optimisation.build_schedule(optimizer, steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _check_clipping(self, optimizer: torch.optim.Optimizer) -> None:
        fused = any(group.get("fused") for group in optimizer.param_groups)
        if self.trainer.precision == "16-mixed" and self.trainer.gradient_clip_val and fused:
            raise ConfigError(
                "trainer.precision=16-mixed: a fused optimizer unscales float16's gradients within its step, too late "
                "to clip them: say trainer.precision=bf16-mixed, optim.optimizer.fused=false or trainer.gradient_clip=0"
            )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By their norm. Lightning's own refuses fused optimizers in bf16, too, which scales no gradients."""
        if gradient_clip_val:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["passport"] = self.passport
