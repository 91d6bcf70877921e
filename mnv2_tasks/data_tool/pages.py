"""Pages of annotated pictures, and a chart of the classes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mnv2_tasks.contracts import DataSource, Sample
from mnv2_tasks.data.images.decode import check_image
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data_tool.examine import Split, read_records, sample_of
from mnv2_tasks.drawing.canvas import AS_WRITTEN, MAX_SIDE, scaled_size
from mnv2_tasks.drawing.fonts import families
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import sheet
from mnv2_tasks.errors import DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.loading.samplers import spread_evenly
from mnv2_tasks.whole_files import written_whole
from mnv2_tasks.wording import shortened

COLUMNS = 4
SHORT, LONG = 480, 720  # pixels of the sides of a picture on a page
NAMED = 100  # more classes than this fit no axis
SKEWED = 20  # times as many of one class as of another: a linear axis would show the one only


def write_samples(source: DataSource, split: str, count: int, path: Path, records: Records | None = None) -> int:
    """A page of pictures spread evenly over a split; returns how many. Unreadable ones are passed over.

    Args:
        records: of the split, where they have been read already.

    Raises:
        DataError: none of them can be read.
    """
    if isinstance(source, FileSource):
        records = read_records(source, split) if records is None else records
        pick, length = partial(sample_of, source, records), len(records)
        if split not in source.peaks:
            source.peaks[split] = max((_peak(records.files[i]) for i in spread_evenly(length, count)), default=0)
    else:
        pick, length = partial(source.sample, split, 0), source.length(split)
    if not length:
        raise DataError(f"{split}: there are no images to show")
    pictures, unread = [], None
    for index in spread_evenly(length, count):
        try:
            sample = pick(index)
        except DataError as error:
            unread = error
            continue
        pictures.append(_reduced(KINDS[source.kind].draw_annotations(_resized(sample), source.class_names)))
    if not pictures:
        raise unread or DataError(f"{split}: no image could be read")
    write_picture(path, sheet(pictures, COLUMNS))
    return len(pictures)


def _peak(file: str) -> int:
    try:
        return check_image(file).peak
    except DataError:
        return 0


def _resized(sample: Sample) -> Sample:
    """With a shorter side of SHORT, less if it is a strip: letters on it keep their size, however large the photo."""
    height, width = sample.image.shape[:2]
    scale = min(SHORT / min(height, width), MAX_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return sample._replace(
        image=cv2.resize(sample.image, size, interpolation=method),
        boxes=None if sample.boxes is None else sample.boxes * np.tile([size[0] / width, size[1] / height], 2),
        mask=None if sample.mask is None else cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST),
    )


def _reduced(picture: np.ndarray) -> np.ndarray:
    scale = LONG / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return cv2.resize(picture, scaled_size(picture, scale), interpolation=cv2.INTER_AREA)


@rc_context(AS_WRITTEN)
def plot_classes(splits: Sequence[Split], class_names: list[str], what: str, path: Path) -> None:
    """A bar for each class and split, most frequent first: the share of all `what`, so that splits can be compared.

    Args:
        what: is counted: "images", "boxes" or "pixels".
    """
    rcParams.update(families(class_names))
    shares = [split.counts.amount / max(split.counts.amount.sum(), 1) for split in splits]
    order = np.argsort(-shares[0], kind="stable")
    named = len(order) <= NAMED
    height = min(max(2.5, 1.2 + 0.09 * (1 + len(splits)) * len(order)), 40) if named else 7
    figure = Figure(figsize=(9, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(splits)
    for i, (split, share) in enumerate(zip(splits, shares)):
        places = np.arange(len(order)) + (i - (len(splits) - 1) / 2) * thickness
        label = f"{split.name}: {split.counts.amount.sum():,} {what}"
        if named:
            axes.barh(places, share[order], thickness, label=label, color=f"C{i}")
        else:
            axes.plot(share[order], ".", markersize=3, label=label, color=f"C{i}")
    if named:
        value_axis = axes.xaxis
        axes.set_yticks(np.arange(len(order)), [shortened(class_names[i], 28) for i in order], fontsize=8)
        axes.set_ylim(len(order) - 0.4, -0.6)  # the most frequent at the top
        axes.set_xlabel(f"share of the split's {what}")
    else:
        value_axis = axes.yaxis
        axes.set_xlabel(f"{len(order):,} classes, most frequent in {splits[0].name} first (names: classes.csv)")
        axes.set_ylabel(f"share of the split's {what}")
    there = np.concatenate(shares)
    there = there[there > 0]
    if len(there) and there.max() > SKEWED * there.min():
        (axes.set_xscale if named else axes.set_yscale)("log")
        value_axis.label.set_text(f"{value_axis.label.get_text()} (logarithmic: none is no bar)")
    value_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="x" if named else "y", which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right" if named else "upper right", frameon=True)
    with written_whole(path) as file:
        figure.savefig(file, format="png")
