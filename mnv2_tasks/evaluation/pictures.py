"""plots/ and samples/: what a score does not show, for people to look at."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mnv2_tasks.contracts import DataSource, Model, Task
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.evaluation.label_statistics import label_statistics
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.metrics.names import prefix_of
from mnv2_tasks.prediction.sample_sheet import save_samples, save_worst

log = logging.getLogger(__name__)


def write_pictures(
    model: Model,
    tasks: Mapping[str, Task],
    sources: Mapping[str, DataSource],
    fit: Fit,
    folder: Path,
    *,
    splits: Sequence[str],
) -> None:
    """Never fails: what cannot be drawn is told, and the other results stand without it.

    Args:
        model: what made the predictions; it makes those of the samples anew.
        tasks: whose metrics have collected and computed the predictions of val.
        splits: whose labels are counted, read already.
    """
    for name, task in tasks.items():
        source, prefix = sources[name], prefix_of(name, tasks)
        with _or_told(f"plots of the labels of {name}"):
            _plot_labels(source, splits, folder / "plots" / prefix)
        with _or_told(f"plots and samples of {name}"):
            found = KINDS[task.kind].diagnosis(task.metric, task.class_names)
            _write_charts(found.charts, folder / "plots" / prefix, task.class_names)
            samples = folder / "samples" / prefix
            for path, save in ((samples / "validation.png", save_samples), (samples / "worst.png", save_worst)):
                with _or_told(path):
                    save(model, name, source, fit, found, path)


def _plot_labels(source: DataSource, splits: Sequence[str], folder: Path) -> None:
    from mnv2_tasks.drawing.charts import box_places
    from mnv2_tasks.drawing.class_shares import class_shares

    found = {split: label_statistics(source, split) for split in splits}
    told = {
        split + (f", {of.images:,} of {length:,} images" if of.images < (length := source.length(split)) else ""): of
        for split, of in found.items()
    }
    amounts, (what,) = {split: of.amounts for split, of in told.items()}, {of.what for of in told.values()}
    charts = {"labels": partial(class_shares, amounts, source.class_names, what)}
    if what == "boxes":
        charts["boxes"] = partial(box_places, {split: of.boxes for split, of in told.items()})
    _write_charts(charts, folder, source.class_names)


def _write_charts(charts: Mapping, folder: Path, class_names: Sequence[str]) -> None:
    from mnv2_tasks.drawing.charts import write_chart  # matplotlib, where something is drawn

    for chart, draw in charts.items():
        with _or_told(folder / f"{chart}.png"):
            write_chart(folder / f"{chart}.png", draw, class_names)


@contextmanager
def _or_told(what: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever it is, the scores are more than their pictures
        log.warning("no %s: %s: %s", what, type(error).__name__, error)
