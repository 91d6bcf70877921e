"""What was decided on the way to int8, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mnv2_tasks.drawing.table import Table
from mnv2_tasks.export.int8.layer_errors import LayerError


@dataclass(frozen=True)
class Trial:
    """A file that was scored."""

    float_layers: int
    scores: dict[str, float]  # by task


@dataclass(frozen=True)
class Report:
    """Of `quantise`.

    Args:
        layers: of the whole network, the most harmful first.
        keep_float: names of those that stayed in float32.
        sqnr: dB of the heads' results with all layers in int8, for each way that was tried.
        chosen: the way that was taken.
        exact_scores: of the float32 file by task; empty if nothing was scored.
        trials: every int8 file that was scored, in that order.
        slowdown: latency of the file over that of the one with all layers in int8; 1 if they are the same.
    """

    layers: list[LayerError]
    keep_float: list[str]
    sqnr: Mapping[str, float]
    chosen: str
    exact_scores: Mapping[str, float] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    slowdown: float = 1.0

    def table(self) -> Table:
        """To print, and to write beside the file."""
        columns = ["layer", "kind", "weights", "output", "results", "in"]
        rows = [
            [e.name, e.kind, e.weights, e.output, e.results, "float32" if e.name in self.keep_float else "int8"]
            for e in self.layers
        ]
        return Table("int8, layer by layer", columns, rows, self._notes())

    def _notes(self) -> list[str]:
        notes = [
            "Signal to quantisation noise in dB, 6 to a bit. Weights: of the rounded weights. Output: of what "
            "the layer makes of exact inputs. Results: of what the heads return if this layer alone is int8.",
            "All layers in int8: "
            + ", ".join(f"{way} {decibels:.1f} dB" for way, decibels in self.sqnr.items())
            + f". The file is {self.chosen}. Equalised: channels rescaled from layer to layer; corrected: biases that "
            "take back the shift that rounding gives each channel's mean.",
        ]
        if self.exact_scores:
            tried = ", ".join(f"{spelled(t.scores)} with {t.float_layers} layers in float32" for t in self.trials)
            notes.append(f"In float32 {spelled(self.exact_scores)}; in int8 {tried}.")
        if self.keep_float:
            notes.append(f"What stays in float32 makes the file take {self.slowdown:.2f} times as long.")
        return notes


def spelled(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {score:.4f}" for task, score in scores.items())
