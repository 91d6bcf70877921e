"""quantise(network, images): float32 -> int8 after training, with what each layer costs and what was done about it."""

import tempfile
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.export.int8.correct_biases import biased, corrected_biases
from mnv2_tasks.export.int8.equalise import equalise
from mnv2_tasks.export.int8.layer_errors import layer_errors
from mnv2_tasks.export.int8.onnx_qdq import to_int8, with_biases
from mnv2_tasks.export.int8.report import Report, Trial, spelled
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.latency import measure_alternately
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.rounding import as_trained_rounded, head_outputs, input_ranges, rounded, sqnr
from mnv2_tasks.runtimes.formats import format_module, format_of
from mnv2_tasks.runtimes.onnx import to_onnx

SIMULATED = 16  # of the calibration images: as many to measure errors on, and others to choose by
MOST_IN_FLOAT = 0.5  # of the layers; a file beyond is hardly int8

Score = Callable[[Path], dict[str, float]]
Convert = Callable[[Path], Path]


def quantise(
    network: Network,
    calibration: np.ndarray,
    *,
    metadata: dict[str, str] | None = None,
    budget: float | None = None,
    score: Score | None = None,
    convert: Convert = lambda file: file,
    qat: bool = False,
) -> tuple[Any, Report]:
    """The network as an int8 `onnx.ModelProto`, and why it is as it is.

    Layers are equalised and biases corrected, each if it brings the results nearer to what the network was trained for:
    its own in float32 or, after `train_rounded`, those with that rounding. With a budget, the layers that harm the
    results most stay in float32: one, two, four and so on until every score is good enough, and then no more than that
    needs.

    Args:
        calibration: (N, H, W, 3) uint8, fitted to the network's input; not what `score` is measured on.
        metadata: goes into the model, and into the files that are scored.
        budget: what each score may lose; needs `score`.
        score: {task: what it scores} of a file, higher is better.
        convert: makes of a .onnx file the one that is scored and timed, beside it.
        qat: whether the network was trained by `train_rounded`.

    Raises:
        ConfigError: there is nothing to calibrate on, or the budget asks for half of the layers in float32 or more.
    """
    import onnx

    _check_calibration(calibration)
    fitted, held_out = (_some(calibration[start::2]) for start in (0, 1 % len(calibration)))
    plain = fold_batch_norms(network)
    aim = head_outputs(as_trained_rounded(network) if qat else plain, held_out)
    candidates = [
        _Candidate(candidate, fitted, held_out, aim, equalised=candidate is not plain, corrected=corrected)
        for candidate in (plain, equalise(plain, fitted))
        for corrected in (False, True)
    ]
    best = max(candidates, key=lambda candidate: candidate.sqnr)
    errors = layer_errors(best.network, fitted, best.ranges)
    exact = to_onnx(Graph(best.network), torch.from_numpy(np.concatenate([calibration[:1]] * 2)))
    for key, value in (metadata or {}).items():
        exact.metadata_props.add(key=key, value=value)

    with tempfile.TemporaryDirectory() as folder:
        search = _Search(exact, calibration, [error.name for error in errors], best.biases, convert, Path(folder))
        keep_float = search.names[: 0 if score is None or budget is None else search.within(budget, score)]
        report = Report(
            layers=errors,
            keep_float=keep_float,
            sqnr={candidate.title: candidate.sqnr for candidate in candidates},
            chosen=best.title,
            exact_scores=search.exact_scores,
            trials=tuple(search.trials),
            slowdown=search.slowdown(len(keep_float)),
        )
        return onnx.load(search.file(len(keep_float))), report


def _check_calibration(images: np.ndarray) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ConfigError(f"calibration: expected (N, H, W, 3) uint8 images, not {images.shape} {images.dtype}")
    if not len(images):
        raise ConfigError("calibration: no images to measure ranges on, say calibration=<folder or glob>")


def _some(images: np.ndarray) -> torch.Tensor:
    """(B, 3, H, W), evenly spread over (N, H, W, 3)."""
    return torch.from_numpy(images[spread_evenly(len(images), SIMULATED)]).permute(0, 3, 1, 2).contiguous()


class _Candidate:
    """A way to int8, simulated: `sqnr` is that of the results if every layer is rounded, on images not fitted to."""

    def __init__(
        self,
        network: Network,
        fitted: torch.Tensor,
        held_out: torch.Tensor,
        aim: Sequence[torch.Tensor],
        *,
        equalised: bool,
        corrected: bool,
    ):
        self.network, self.fitted, self.corrected = network, fitted, corrected
        self.title = " and ".join(["equalised"] * equalised + ["corrected"] * corrected) or "as it is"
        self.ranges = input_ranges(network, fitted)
        names = list(self.ranges)
        biases = self.biases(names)
        with rounded(network, self.ranges, names), biased(network, biases):
            self.sqnr = sqnr(aim, head_outputs(network, held_out))

    def biases(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """{layer: bias} where it changes if these layers are int8."""
        return corrected_biases(self.network, self.fitted, self.ranges, names) if self.corrected else {}


class _Search:
    """How many of the layers, the most harmful first, must stay in float32; files lie in a folder.

    Args:
        exact: the float32 model.
        biases: of the layers that change theirs, for the names of those in int8.
    """

    def __init__(
        self,
        exact: Any,
        calibration: np.ndarray,
        names: list[str],
        biases: Callable[[Collection[str]], dict[str, torch.Tensor]],
        convert: Convert,
        folder: Path,
    ):
        self.exact, self.calibration, self.names, self.folder = exact, calibration, names, folder
        self.biases, self.convert = biases, convert
        self.exact_scores: dict[str, float] = {}
        self.trials: list[Trial] = []

    def file(self, count: int) -> Path:
        """With the first `count` layers in float32."""
        path = self.folder / f"{count}.onnx"
        if not path.exists():
            model = with_biases(self.exact, self.biases(self.names[count:]))
            to_int8(model, self.calibration, path, keep_float=self.names[:count], ranges=self.folder / "ranges")
        return path

    def within(self, budget: float, score: Score) -> int:
        """The least number that loses no more than the budget."""
        (self.folder / "exact.onnx").write_bytes(self.exact.SerializeToString())
        self.exact_scores = score(self.convert(self.folder / "exact.onnx"))

        def passes(count: int) -> bool:
            self.trials.append(Trial(count, score(self.convert(self.file(count)))))
            scores = self.trials[-1].scores
            return all(exact - scores[task] <= budget for task, exact in self.exact_scores.items())

        most = int(len(self.names) * MOST_IN_FLOAT)
        failed, count = -1, 0
        while not passes(count):
            if count == most:
                raise ConfigError(
                    f"int8 loses more than {budget:g} even with {most} of {len(self.names)} layers in float32: "
                    f"{spelled(self.exact_scores)} become {spelled(self.trials[-1].scores)}. Allow more, calibrate on "
                    f"images that are more like those it will see, or use precision=fp16"
                )
            failed, count = count, min(max(1, 2 * count), most)
        while count - failed > 1:
            middle = (failed + count) // 2
            failed, count = (failed, middle) if passes(middle) else (middle, count)
        return count

    def slowdown(self, count: int) -> float:
        """Latency with the first `count` layers in float32 over that without."""
        if count == 0:
            return 1.0
        files = [self.convert(self.file(n)) for n in (count, 0)]
        module = format_module(format_of(files[0]) or "onnx")
        mixed, whole = (partial(module.Session(file, 1), self.calibration[:1]) for file in files)
        times = measure_alternately({"mixed": mixed, "whole": whole}, repeats=15)
        return times["mixed"].p50 / times["whole"].p50
