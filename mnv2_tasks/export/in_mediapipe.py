"""A file run by MediaPipe itself, in a process of its own: what its library does may never come back."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mnv2_tasks.contracts import Frames
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export import mediapipe_process
from mnv2_tasks.export.mediapipe_process import receive, send
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.runtimes.exported import Exported

LIMIT = 120  # seconds until a picture has its result; the first one waits for the libraries too


@contextmanager
def run_in_mediapipe(exported: Exported) -> Iterator["InMediaPipe"]:
    """The task that a file is for, as long as that is needed."""
    ((task, about),) = exported.tasks.items()
    command = [sys.executable, "-P", mediapipe_process.__file__, str(exported.path), about.kind]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
        try:
            yield InMediaPipe(process, said, task, about)
        finally:
            process.kill()
            process.communicate()


class InMediaPipe:
    """Used like the network that the file was made from: `tasks`, `device`, `predict`."""

    device = torch.device("cpu")

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes], task: str, about: Any):
        self.process, self.said = process, said
        self.tasks: dict[str, Any] = {task: about}

    def predict(self, images: Tensor, frames: Frames) -> dict[str, Any]:
        """As `Network.predict`.

        Raises:
            ConfigError: MediaPipe refuses the file, ends, or takes longer than `LIMIT`.
        """
        ((task, about),) = self.tasks.items()
        results = [self._run(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
        outputs = [pad_sequence([*map(torch.from_numpy, column)], batch_first=True) for column in zip(*results)]
        if about.kind == "detection":  # MediaPipe leaves out what is beyond their number
            outputs.append(torch.tensor([len(scores) for _, scores, _ in results]))
        return {task: KINDS[about.kind].from_exported(outputs, frames)}

    def predict_task(self, task: str, images: Tensor, frames: Frames) -> Any:
        return self.predict(images, frames)[task]

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        began, limit = time.monotonic(), threading.Timer(LIMIT, self.process.kill)
        limit.start()
        try:
            assert self.process.stdin and self.process.stdout
            send([image], self.process.stdin)
            results = receive(self.process.stdout)
        except BrokenPipeError:
            results = None
        finally:
            limit.cancel()
        if results is None:
            late = time.monotonic() - began >= LIMIT
            raise ConfigError(f"MediaPipe does not run the file: {f'no result in {LIMIT} s' if late else self._last()}")
        return results

    def _last(self) -> str:
        """What the process said last."""
        self.process.wait()
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else f"its process ended with {self.process.returncode}"
