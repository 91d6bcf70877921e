"""What a run shows and writes while it trains."""

import csv
import logging
import resource
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

log = logging.getLogger(__name__)


class ProgressBar(RichProgressBar):
    """Lightning's, without the version number of the logger."""

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, module).items() if name != "v_num"}


class EpochLog(L.Callback):
    """One line per epoch in the log, and one row in metrics.csv.

    Lightning's CSVLogger writes training and validation of an epoch into separate rows and deletes the file when a
    run is resumed.
    """

    def __init__(self, path: Path):
        self.path = path

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._start_epoch()  # here too, because a run resumed within an epoch does not start that epoch

    def _start_epoch(self) -> None:
        self.started, self.images = time.perf_counter(), 0
        self.trained: float | None = None  # when the epoch's validation began, if it had one

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batches: Any, batch_index: int) -> None:
        self.images += sum(len(batch.images) for batch in batches.values()) * trainer.world_size

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        now = time.perf_counter()
        wanted = ("train/", "val/") if self.trained else ("train/",)  # else the last validation's are still there
        values = {key: float(v) for key, v in trainer.callback_metrics.items() if key.startswith(wanted)}
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
        self._start_epoch()
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
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows([*before, row])
