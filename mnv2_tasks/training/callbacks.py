"""What a run shows and writes while it trains, and that it trains compiled."""

import csv
import io
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

from mnv2_tasks.network.compiled import parts_to_compile
from mnv2_tasks.network.devices import num_cores
from mnv2_tasks.network.process_memory import peak_memory
from mnv2_tasks.whole_files import written_whole
from mnv2_tasks.wording import duration

log = logging.getLogger(__name__)

LOSS_EVERY = 10  # steps from one loss in the progress bar to the next
LEFT_OUT = ("/AR", "/mIoU_union")  # of the line that an epoch leaves in the log; metrics.csv has them
MOVED = 0.002  # difference between a score's validation while training and the one at the end that is told
STARVED = 0.2  # share of an epoch's training spent waiting for images, from which a hint is due


class ProgressBar(RichProgressBar):
    """Lightning's, without the version number of the logger.

    The loss is read every few steps: `log(prog_bar=True)` has every step wait for it, even where no bar is shown.
    """

    loss: dict[str, float] = {}  # noqa: RUF012 - replaced, never changed

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        shown = {name: value for name, value in super().get_metrics(trainer, module).items() if name != "v_num"}
        return shown | self.loss

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % LOSS_EVERY == 0:
            self.loss = {"loss": float(outputs["logged"]["train/loss"])}
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)


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
        batch = sum(loader.batch_size for loader in _loaders(trainer))
        images = batch * trainer.world_size * trainer.accumulate_grad_batches
        parts = [f"{steps} steps of {images} images"]
        done = trainer.global_step - self.first_step
        if done:
            left = ((trainer.max_epochs or 0) - trainer.current_epoch) * steps * (now - self.started) / done
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

    `wait_share` is the part of an epoch's training in which the next batch was not there yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self.sums: dict[str, Tensor] = {}  # of the epoch's training losses
        self.batches = 0
        self.hinted = False

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.batches = state["sums"], state["batches"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._start_clock()  # here too, because a run resumed within an epoch does not start that epoch

    def _start_clock(self) -> None:
        self.started, self.images = time.perf_counter(), 0
        self.trained: float | None = None  # when the epoch's validation began, if it had one
        self.ready = self.started  # for the next batch
        self.waits: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.ready = time.perf_counter()  # not before: a checkpoint was written meanwhile

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batches: Any, batch_index: int) -> None:
        self.waits.append(time.perf_counter() - self.ready)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batches: Any, batch_index: int) -> None:
        self.images += sum(len(batch.images) for batch in batches.values()) * trainer.world_size
        self.batches += 1
        for key, value in outputs["logged"].items():
            self.sums[key] = self.sums.get(key, 0) + value.float()
        self.ready = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        now = time.perf_counter()
        means = {key: value / self.batches for key, value in self.sums.items()}
        values = {key: float(trainer.strategy.reduce(mean, reduce_op="mean")) for key, mean in means.items()}
        if self.trained:  # else the last validation's are still there
            values |= {key: float(v) for key, v in trainer.callback_metrics.items() if key.startswith("val/")}
        seconds = now - self.started  # validation included
        training = (self.trained or now) - self.started
        memory = peak_memory()
        waited = sum(self.waits) / training
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(seconds, 2),
            "images_per_second": round(self.images / training, 1),
            "wait_share": round(waited, 3),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "memory_mib": None if memory is None else memory // 2**20,  # an empty column on Windows
            **dict(sorted(values.items())),
        }
        hint = None if self.hinted else _feeding(trainer, sum(self.waits[1:]) / (training - sum(self.waits[:1])))
        self._start_clock()
        self.sums, self.batches = {}, 0
        if not trainer.is_global_zero:
            return
        log.info(
            "epoch %d/%d  %s  lr %.2g  %.0f images/s  %.0f %% waiting  %.0f s",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            "  ".join(
                f"{key} {value:.4g}" for key, value in sorted(values.items()) if not any(n in key for n in LEFT_OUT)
            ),
            row["lr"],
            row["images_per_second"],
            100 * waited,
            seconds,
        )
        if hint:
            self.hinted = True
            log.info("%s", hint)
        self._append(row)

    def _append(self, row: dict[str, Any]) -> None:
        before = self._before(row["epoch"])
        columns = list(dict.fromkeys([*row, *(key for old in before for key in old)]))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows([*before, row])
        with written_whole(self.path) as file:
            file.write(text.getvalue().encode())

    def _before(self, epoch: int) -> list[dict[str, str]]:
        """The rows of earlier epochs; a table that cannot be read is put aside."""
        if not self.path.exists():
            return []
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                return [old for old in csv.DictReader(file, strict=True) if int(old["epoch"]) < epoch]
        except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
            aside = self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
            log.warning("%s: cannot be read (%s); put aside as %s, and begun anew", self.path, error, aside.name)
            return []


def moved_scores(path: Path, scores: Mapping[str, float | None]) -> list[str]:
    """A line for each score that is not what the best epoch's validation said, in the precision of training.

    Args:
        path: metrics.csv.
        scores: {key: value} of the best checkpoint.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        best = max(reversed(rows), key=lambda row: float(row["val/score"] or "-inf"))  # as `Checkpoints` has it
        pairs = {key: (float(best[f"val/{key}"] or "nan"), value) for key, value in scores.items() if value is not None}
    except (OSError, csv.Error, KeyError, TypeError, ValueError):  # lost or damaged, which the curves say
        return []
    moved = {key: pair for key, pair in pairs.items() if abs(pair[0] - pair[1]) > MOVED}
    return [
        f"{key}: {value:.4f}, and {before:.4f} in the validation while it trained"
        for key, (before, value) in moved.items()
    ]


def _loaders(trainer: L.Trainer) -> list[Any]:
    loaders: Any = trainer.train_dataloader
    return list(loaders.values())


def _feeding(trainer: L.Trainer, waited: float) -> str | None:
    """What would keep the steps from waiting, where they wait much.

    Args:
        waited: share of the training time, once the loaders were running.
    """
    if waited < STARVED:
        return None
    loaders = _loaders(trainer)
    workers, cores = loaders[0].num_workers, num_cores()
    # loaders bring a batch in the time of waiting and step together; without workers, the waiting is all their work
    needed = math.ceil(workers / (1 - waited) if workers else waited / (1 - waited))
    on_cpu = trainer.strategy.root_device.type == "cpu"
    free = cores - torch.get_num_threads() if on_cpu else cores
    hint = f"hint: the steps waited {waited:.0%} of the time for their images; "
    if needed * len(loaders) <= free:
        return f"{hint}workers={needed} would feed them"
    if on_cpu:
        return None  # more loaders would take from the steps what they bring
    return f"{hint}it takes workers={needed} to feed them, and this machine has {cores} cores"


class CompiledTraining(L.Callback):
    """Compiles the parts where they stand, so that the names in checkpoints stay as they are.

    Training has one input size and compiles once. Validation may have many, and runs uncompiled: its scores are those
    of tools/eval.py to the last bit.

    Args:
        mode: of torch.compile, such as "reduce-overhead", which records CUDA graphs.
    """

    def __init__(self, mode: str | None = None):
        self.mode = mode

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        log.info("compile: the first step of each task takes its time, on CPUs a minute or more")
        for part in parts_to_compile(module.network):
            part.compile(mode=self.mode)
        torch.compiler.set_stance("default")

    def on_validation_start(self, trainer: L.Trainer, module: Any) -> None:
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        torch.compiler.set_stance("default")

    def teardown(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        for part in parts_to_compile(module.network):
            part._compiled_call_impl = None  # what `compile` sets; nothing public takes it back
        torch.compiler.set_stance("default")

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        self.teardown(trainer, module, "fit")
