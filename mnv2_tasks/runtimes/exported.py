"""A file that was exported, run in the runtime that it was written for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.contracts import Frames
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.plain_data import parse_json
from mnv2_tasks.runtimes.contents import FORMATS_HELD, kind_of, members
from mnv2_tasks.runtimes.formats import FORMATS, format_module, format_of, output_names
from mnv2_tasks.stored.argument_types import fits
from mnv2_tasks.stored.checked_passport import check_passport

PASSPORT = "passport.txt"  # of a .tflite that we wrote, see litert.py
LABELS = "labels.txt"  # of one for MediaPipe, too, see mediapipe.py


def is_exported(path: Path) -> bool:
    """Whether a file is for one of the runtimes: a .tflite may also be others' weights, with metadata of their own."""
    name = _format_held(path)
    return name is not None and (FORMATS[name].suffix != FORMATS["litert"].suffix or PASSPORT in members(path))


def _format_held(path: Path) -> str | None:
    """The format of what a file holds; what is damaged, or of a format of a user's own, has the one of its name."""
    kind, named = kind_of(path), format_of(path)
    if kind in ("", "empty") or named not in (None, *FORMATS_HELD.values()):
        return named
    if kind == "tflite" and {PASSPORT, LABELS} <= {*members(path)}:
        return "mediapipe"
    return FORMATS_HELD.get(kind)


class Exported:
    """An exported network, used like the one that it was made from: `tasks`, `device`, `predict`.

    Args:
        path: what tools/export.py wrote.
        threads: to compute with; None: all.
        trust: the file is the user's own: it may run code as it is loaded (torch's .pt2).

    Raises:
        ConfigError: the runtime is not installed, or the file is damaged, not ours or not to be trusted.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path, threads: int | None = None, *, trust: bool = False):
        name = _format_held(path)
        if name is None:
            raise ConfigError(f"{path}: is no exported network, by what it holds and by its suffix {path.suffix!r}")
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        if FORMATS[name].runs_code and not trust:
            raise ConfigError(
                f"{path}: torch unpickles such a file, which can run any code of its author's. "
                f"If you wrote it, say trust=true; else ask for the weights, or for an ONNX file"
            )
        module = format_module(name)
        try:
            self.session = module.Session(path, threads)
            self.metadata: dict[str, str] = self.session.metadata
        except Exception as error:  # each runtime has errors of its own for a file that it cannot read
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(f"{path}: cannot be run, it is damaged or no {name} file of ours ({reason})") from error
        if "passport" not in self.metadata:
            raise ConfigError(f"{path}: was not written by tools/export.py, its metadata has no passport")
        self.path, self.format = path, name
        self.passport: dict[str, Any] = check_passport(self.metadata["passport"], path, trust=trust)
        self.precision = str(self.metadata.get("precision"))
        kinds, names = (
            parse_json(self.metadata.get("tasks", "null"), f"{path}: its tasks"),
            self.passport["class_names"],
        )
        if not fits(kinds, dict[str, str]) or set(kinds) != set(names) or not set(kinds.values()) <= set(KINDS):
            raise ConfigError(f"{path}: its tasks: expected the kind of each of {', '.join(names)}")
        self.tasks: dict[str, Any] = {
            task: SimpleNamespace(kind=kind, class_names=names[task]) for task, kind in kinds.items()
        }
        self.output_names = output_names(kinds)  # by their order: former versions gave a single task's others

    def __str__(self) -> str:
        return f"{self.format} file, {self.precision}"

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """(B, H, W, 3) uint8 RGB, fitted to the network's input -> {output: array}, see `Kind.OUTPUTS`.

        Raises:
            ConfigError: an output is not finite.
        """
        outputs = dict(zip(self.output_names, self.session(np.ascontiguousarray(images))))
        for name, array in outputs.items():
            if not np.isfinite(array).all():
                raise ConfigError(
                    f"{self.path}: its output {name} is not finite (NaN or infinite). Export it anew, from "
                    f"weights that tools/eval.py can score"
                )
        return outputs

    def predict(self, images: Tensor, frames: Frames) -> dict[str, Any]:
        """As `Network.predict`."""
        arrays = self.run(images.permute(0, 2, 3, 1).cpu().numpy())
        results: dict[str, Any] = {}
        for task, about in self.tasks.items():
            names = output_names({task: about.kind})
            outputs = [torch.from_numpy(np.asarray(arrays[name])) for name in names]
            results[task] = KINDS[about.kind].from_exported(outputs, frames)
        return results

    def predict_task(self, task: str, images: Tensor, frames: Frames) -> Any:
        return self.predict(images, frames)[task]
