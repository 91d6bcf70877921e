"""Lightning's loop around the step, with logger, progress bar and checkpoints: which numbers it reads, and when.

Counted on the CPU, where reads wait for nothing; on a GPU each one of a tensor there would.
"""

import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mnv2_tasks.config.compose import compose
from mnv2_tasks.training.callbacks import LOSS_EVERY
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.train import train

aten = torch.ops.aten
COPIES = {torch.Tensor.cpu, torch.Tensor.tolist, torch.Tensor.numpy}
LOADING = {"loaders.py", "collate.py", "samplers.py"}  # in this process here; else in others, and before the device
FLAG = "finite.py, settle"  # whether the loss of the step before was finite: a copy that is there already
STEPS, SAVE_EVERY = 24, 7


class Reads:
    """{number of the step: [file and function of ours or Lightning's that reads]}"""

    def __init__(self):
        self.step, self.found = 0, defaultdict(list)

    def add(self):
        frame = sys._getframe(2)
        names = []
        while frame:
            code = frame.f_code
            if any(part in code.co_filename for part in ("mnv2_tasks", "lightning")):
                names.append((Path(code.co_filename).name, code.co_name))
            frame = frame.f_back
        if not any(file in LOADING for file, _ in names):
            self.found[self.step].append(", ".join(names[0]))


class Scalars(TorchDispatchMode):
    def __init__(self, reads):
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.equal):
            self.reads.add()
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    def __init__(self, reads):
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in COPIES:
            self.reads.add()
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "multitask"])
def test_within_an_epoch_values_are_read_only_when_they_are_shown_or_kept(task, tiny, monkeypatch):
    reads = Reads()
    training_step = TasksModule.training_step

    def counted(module, batches, index):
        reads.step = index + 1
        return training_step(module, batches, index)

    monkeypatch.setattr(TasksModule, "training_step", counted)
    monkeypatch.setattr("mnv2_tasks.network.finite.AT_ONCE", set())  # as on a GPU
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # where a progress bar is shown
    more = [f"data.source.train_size={4 * STEPS}", f"trainer.save_every_steps={SAVE_EVERY}", "trainer.save_every=0"]
    config = compose("train", [f"task={task}", *tiny, "logger=csv", *more])
    with Copies(reads), Scalars(reads):
        train(config)
    for step in range(2, STEPS):  # the first step sets up, the epoch ends after the last
        # of the step before; and of its own, which the next need not read, before a checkpoint is written
        expected = [FLAG] * (((step - 1) % SAVE_EVERY != 0) + (step % SAVE_EVERY == 0))
        if (step - 1) % LOSS_EVERY == 0:
            expected.append("callbacks.py, on_train_batch_end")
        assert sorted(reads.found[step]) == sorted(expected), step
