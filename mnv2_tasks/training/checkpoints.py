"""What makes a run resumable to the bit: whole checkpoints, written between steps, and randomness keyed by the step."""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.runs.stopping import Stopped, hear, say
from mnv2_tasks.whole_files import written_whole

log = logging.getLogger(__name__)


class WholeCheckpoints(TorchCheckpointIO):
    """A checkpoint takes its name once all of it is on the disk: a kill at any moment leaves the one before it.

    Lightning's own goes through the system's folder for temporary files; from there to another disk is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with written_whole(Path(path)) as file:
            torch.save(checkpoint, file)


class Restored(L.Callback):
    """Knows when all of a checkpoint is restored, and that it was this optimizer's."""

    done = False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:  # torch takes those of the checkpoint, whatever optimizer wrote them
                missing = sorted(optimizer.defaults.keys() - group.keys() - {"differentiable"})  # added as it is loaded
                if missing:
                    raise KeyError(f"the optimizer has no {missing[0]}")
                for weight in group["params"]:
                    for name, value in optimizer.state.get(weight, {}).items():
                        if isinstance(value, torch.Tensor) and value.ndim and value.shape != weight.shape:
                            raise ValueError(f"the optimizer's {name} is {list(value.shape)} for {list(weight.shape)}")
        self.done = True


@contextmanager
def restoring(checkpoint: Path | None, trainer: L.Trainer) -> Iterator[None]:
    """What goes wrong while `checkpoint` is restored -> a ConfigError that names it."""
    try:
        yield
    except (ConfigError, DataError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever torch's and Lightning's readers of it meet
        callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        if not checkpoint or any(isinstance(callback, Restored) and callback.done for callback in callbacks):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{checkpoint}: does not fit the config.yaml of its run ({reason}). Put back the one that it was written "
            f"with, or start a new run with weights={checkpoint}"
        ) from None


class StepRandomness(L.Callback):
    """Dropout, MixUp and all else that draws from the global generators: keyed by (seed, batch, process).

    So a resumed run draws what the uninterrupted one does, whichever step it was stopped in. States of generators in
    the checkpoint would be those of the first process alone, and of a moment in the middle of a step after Ctrl-C.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._seed_next_batch(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._seed_next_batch(trainer)  # validation may have drawn

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._seed_next_batch(trainer)  # here and not where it starts: the batch is mixed and moved before that

    def _seed_next_batch(self, trainer: L.Trainer) -> None:
        key = (self.seed, trainer.fit_loop.total_batch_idx + 1, trainer.global_rank)
        for_torch, for_numpy, for_python = np.random.SeedSequence(key).generate_state(3).tolist()
        torch.manual_seed(for_torch)
        np.random.seed(for_numpy)
        random.seed(for_python)


class ResumedRate(L.Callback):
    """The first step after `resume= epochs=<more>` is taken at the longer schedule's rate, like those that follow.

    The optimizer's state brings the rate that the old schedule ended at. With the same schedule nothing changes.
    """

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for config in trainer.lr_scheduler_configs:
            schedule: Any = config.scheduler  # a LambdaLR, see optim.per_step
            for group, rate, factor in zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas):
                group["lr"] = rate * factor(schedule.last_epoch)  # which counts steps


class Checkpoints(Checkpoint):
    """`last.ckpt` after every epoch and at intervals within, `best.ckpt` after the last one with the highest val/score.

    Only ever between two steps. What stops a run within one (a loss that is not finite, a full memory) leaves the
    checkpoint before it: batch norm has seen the batch already. So does what stops it during validation, when the
    averaged weights are in the module. Ctrl-C, SIGTERM and closed output wait for the step to end, of several processes
    for the same step in all.

    Args:
        minutes: from one `last.ckpt` to the next within an epoch; 0 saves after epochs alone.
        steps: optimizer steps from one to the next, beside `minutes`; None for no such interval.
    """

    def __init__(self, folder: Path, *, minutes: float, steps: int | None):
        if minutes < 0:
            raise ConfigError(f"trainer.save_every={minutes}: expected minutes, or 0 to save after epochs alone")
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise ConfigError(f"trainer.save_every_steps={steps}: expected a whole number of at least 1, or null")
        self.folder, self.minutes, self.steps = folder, minutes, steps
        self.best_score: float | None = None
        self.resumable = False  # whether a step has been completed, and the epoch goes on
        self.saved_step = self.last_step = 0
        self.validated = False
        self.asked_to_stop = 0  # by the signal of this number
        self._stop_listening: Callable[[], None] = lambda: None

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_score = state["best_score"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.saved_at = time.monotonic()
        self.saved_step = self.last_step = trainer.global_step
        self.alone = trainer.world_size == 1
        self._stop_listening = hear(self._ask_to_stop)  # here, and no sooner: Lightning has set handlers of its own

    def _ask_to_stop(self, number: int) -> None:
        if not self.asked_to_stop:
            self.asked_to_stop = number
            again = "; once more stops at once" if self.alone else ""
            say(f"stopping once this step, or the validation, is done and saved{again}")
        elif self.alone:  # several hear it from each other too, and are ended if it takes too long
            raise Stopped(number)

    def on_train_batch_start(self, *_: Any) -> None:
        self.resumable = False

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        stepped = trainer.global_step > self.last_step  # else it holds gradients, which no checkpoint has
        self.last_step = trainer.global_step
        self.resumable = stepped and not trainer.is_last_batch  # then the epoch's end saves
        if self.resumable:
            late = self.minutes > 0 and time.monotonic() - self.saved_at >= 60 * self.minutes
            asked, late = self._agreed(trainer, late)
            if asked or late or (self.steps and trainer.global_step - self.saved_step >= self.steps):
                self._save(trainer, "last")
            if asked:
                raise Stopped(asked)

    def _agreed(self, trainer: L.Trainer, late: bool) -> tuple[int, bool]:
        """What all processes do after this step: saving takes all of them, and only some may have been asked to stop.

        Args:
            late: whether it is time to save, by the clock of this process; the first one's counts.
        """
        if self.alone:
            return self.asked_to_stop, late
        said = [self.asked_to_stop, int(late and trainer.is_global_zero)]
        agreed = torch.tensor(said, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX)
        asked, late = agreed.tolist()
        return asked, bool(late)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.validated:
            score = float(trainer.callback_metrics["val/score"])
            score = -math.inf if math.isnan(score) else score
            if self.best_score is None or score >= self.best_score:  # of equal ones the longer trained
                self.best_score = score
                self._save(trainer, "best")  # before last.ckpt, which says that there is one with this score
        self.validated = False
        self._save(trainer, "last")
        if asked := self._agreed(trainer, False)[0]:
            raise Stopped(asked)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._stop_listening()
        # of several processes, the others would not come to save
        if self.resumable and self.alone and trainer.global_step > self.saved_step:
            self._save(trainer, "last")

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._stop_listening()

    def _save(self, trainer: L.Trainer, name: str) -> None:
        self.resumable = False  # where it cannot be written, it is not tried again
        module: Any = trainer.lightning_module
        module.watch.settle()  # what a loss that is not finite has spoilt is not kept
        trainer.save_checkpoint(self.folder / f"{name}.ckpt", weights_only=False)
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step
