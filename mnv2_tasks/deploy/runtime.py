"""A file that was exported, run in the runtime that it was written for."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mnv2_tasks.deploy.formats import format_module, format_of
from mnv2_tasks.errors import ConfigError


class Exported:
    """Pixels in, results out.

    Args:
        path: what tools/export.py wrote.
        threads: to compute with; None: all.

    Raises:
        ConfigError: the runtime is not installed, or the file is damaged or not ours.
    """

    def __init__(self, path: Path, threads: int | None = None):
        name = format_of(path)
        if name is None:
            raise ConfigError(f"{path}: no format of an exported network has the suffix {path.suffix!r}")
        module = format_module(name)
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        try:
            self.session = module.Session(path, threads)
            metadata = self.session.metadata
        except Exception as error:  # each runtime has errors of its own for a file that it cannot read
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(f"{path}: cannot be run, it is damaged or no {name} file ({reason})") from error
        if "passport" not in metadata:
            raise ConfigError(f"{path}: was not written by tools/export.py, its metadata has no passport")
        self.path, self.metadata = path, metadata
        self.passport: dict[str, Any] = json.loads(metadata["passport"])
        self.output_names: list[str] = json.loads(metadata["outputs"])

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """(B, H, W, 3) uint8 RGB, fitted to the network's input -> {output: array}, see `graph.Graph`."""
        return dict(zip(self.output_names, self.session(np.ascontiguousarray(images))))
