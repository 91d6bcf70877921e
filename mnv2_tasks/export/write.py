"""A network -> the file of a format, which nobody has run yet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mnv2_tasks.boxes.suppression import suppress
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.export.int8.report import Report
from mnv2_tasks.export.nms import suppress_looped, suppress_scanned, suppress_unrolled
from mnv2_tasks.export.quantise import Score, quantise
from mnv2_tasks.network.network import Network
from mnv2_tasks.runtimes import onnx
from mnv2_tasks.runtimes.formats import format_module

# how boxes are chosen where a runtime cannot run `suppress`, an operator of ours that onnx.py translates
SUPPRESS = {
    "executorch": suppress_scanned,
    "litert": suppress_unrolled,
    "mediapipe": suppress_unrolled,
    "torch": suppress_looped,
}
JUDGED = ("onnx", "openvino")  # whose int8 files leave layers in float32 until they lose no more than a budget


def least_metadata(network: Network, passport: Mapping[str, Any], precision: str) -> dict[str, str]:
    """What runtimes/exported.py needs of a file."""
    kinds = {name: task.kind for name, task in network.tasks.items()}
    return {"passport": json.dumps(passport), "tasks": json.dumps(kinds), "precision": precision}


def write(
    network: Network,
    format: str,
    example: torch.Tensor,
    metadata: dict[str, str],
    path: Path,
    precision: str,
    *,
    budget: float | None = None,
    score: Score | None = None,
    qat: bool = False,
) -> Report | None:
    """Write `path`, and say what int8 cost where that was judged.

    Args:
        example: (B, H, W, 3) uint8, B > 1; of int8, all calibration images.
        budget, score, qat: of int8, see `quantise`.

    Raises:
        ConfigError: a package is missing, or int8 is not to be had within the budget.
    """
    module = format_module(format, to_write=True)
    if precision != "int8" or format not in JUDGED:
        module.write(Graph(network, SUPPRESS.get(format, suppress)), example, metadata, path, precision)
        return None

    def converted(source: Path) -> Path:
        """The .onnx file itself, or what is made of it beside it."""
        target = source.with_suffix(path.suffix)
        if target != source:
            module.convert(source, metadata, target, precision)
        return target

    model, report = quantise(
        network, example.numpy(), metadata=metadata, budget=budget, score=score, convert=converted, qat=qat
    )
    source = path.with_suffix(".onnx")
    try:
        onnx.save(model, metadata, source)
        converted(source)
    finally:
        if source != path:
            source.unlink(missing_ok=True)
    return report
