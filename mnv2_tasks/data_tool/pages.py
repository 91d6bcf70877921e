"""Pages of annotated pictures, and a chart of the classes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mnv2_tasks.contracts import DataSource, Sample
from mnv2_tasks.data.images.decode import check_image
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data_tool.examine import Split, read_records, sample_of
from mnv2_tasks.drawing.canvas import MAX_SIDE, scaled_size
from mnv2_tasks.drawing.charts import write_chart
from mnv2_tasks.drawing.class_shares import class_shares
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import sheet
from mnv2_tasks.errors import DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.loading.samplers import spread_evenly

COLUMNS = 4
SHORT, LONG = 480, 720  # pixels of the sides of a picture on a page


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


def plot_classes(splits: Sequence[Split], class_names: list[str], what: str, path: Path) -> None:
    """Each class's share of `what`, in each split; more classes than fit have their names in classes.csv."""
    amounts = {split.name: split.counts.amount for split in splits}
    write_chart(path, partial(class_shares, amounts, class_names, what, "classes.csv"), class_names)
