"""What a run shows and writes while it trains."""

import csv
import io
import logging
import math
import resource
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

from mnv2_tasks.duration import duration
from mnv2_tasks.run_folder import written_whole

log = logging.getLogger(__name__)


class ProgressBar(RichProgressBar):
    """Lightning's, without the version number of the logger."""

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, module).items() if name != "v_num"}


class EpochPlan(L.Callback):
    """Says before each epoch how much it is, how fast training has been so far, and how long the rest will take.

    Speed and time left count what this process has seen; a resumed run begins to measure anew.
    """

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started, self.first_step = time.perf_counter(), trainer.global_step
        self.trained_seconds, self.images = 0.0, 0
        self.resumed_training = self.started  # a run resumed within an epoch does not start that epoch

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        now = time.perf_counter()
        batches = int(trainer.num_training_batches)
        steps = math.ceil(batches / trainer.accumulate_grad_batches)
        loaders = trainer.train_dataloader.values()
        images = sum(loader.batch_size for loader in loaders) * trainer.world_size * trainer.accumulate_grad_batches
        parts = [f"{steps} steps of {images} images"]
        done = trainer.global_step - self.first_step
        if done:
            left = (trainer.max_epochs - trainer.current_epoch) * steps * (now - self.started) / done
            parts += [f"{self.images / self.trained_seconds:.0f} images/s so far", f"{duration(left)} left"]
        if trainer.is_global_zero:
            log.info("epoch %d/%d: %s", trainer.current_epoch + 1, trainer.max_epochs, "; ".join(parts))
        self.resumed_training = now

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batches: Any, batch_index: int) -> None:
        self.images += sum(len(batch.images) for batch in batches.values()) * trainer.world_size
        if trainer.is_last_batch:
            self.trained_seconds += time.perf_counter() - self.resumed_training


class EpochLog(L.Callback):
    """One line per epoch in the log, and one row in metrics.csv.

    Lightning's CSVLogger writes training and validation of an epoch into separate rows and deletes the file when a
    run is resumed; its means over an epoch forget what was before that. Ours travel with the checkpoint (of several
    processes, the first one's).
    """

    def __init__(self, path: Path):
        self.path = path
        self.sums: dict[str, Tensor] = {}  # of the epoch's training losses
        self.batches = 0

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.batches = state["sums"], state["batches"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._start_clock()  # here too, because a run resumed within an epoch does not start that epoch

    def _start_clock(self) -> None:
        self.started, self.images = time.perf_counter(), 0
        self.trained: float | None = None  # when the epoch's validation began, if it had one

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batches: Any, batch_index: int) -> None:
        self.images += sum(len(batch.images) for batch in batches.values()) * trainer.world_size
        self.batches += 1
        for key, value in outputs["logged"].items():
            self.sums[key] = self.sums.get(key, 0) + value.float()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        now = time.perf_counter()
        means = {key: value / self.batches for key, value in self.sums.items()}
        values = {key: float(trainer.strategy.reduce(mean, reduce_op="mean")) for key, mean in means.items()}
        if self.trained:  # else the last validation's are still there
            values |= {key: float(v) for key, v in trainer.callback_metrics.items() if key.startswith("val/")}
        seconds = now - self.started  # validation included
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(seconds, 2),
            "images_per_second": round(self.images / ((self.trained or now) - self.started), 1),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            **dict(sorted(values.items())),
        }
        self._start_clock()
        self.sums, self.batches = {}, 0
        if not trainer.is_global_zero:
            return
        log.info(
            "epoch %d/%d  %s  lr %.2g  %.0f images/s  %.0f s",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            "  ".join(f"{key} {value:.4g}" for key, value in sorted(values.items()) if "/AR" not in key),
            row["lr"],
            row["images_per_second"],
            seconds,
        )
        self._append(row)

    def _append(self, row: dict[str, Any]) -> None:
        before = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                before = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
        columns = list(dict.fromkeys([*row, *(key for old in before for key in old)]))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows([*before, row])
        with written_whole(self.path) as file:
            file.write(text.getvalue().encode())
