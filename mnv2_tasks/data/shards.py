"""Tar shards in webdataset's layout: a data set of a few large files, read as fast from network and spinning disks.

`pack` in packing.py writes them: `train-000000.tar` ... with the files as they are, `train.npz` with all annotations
and the place of each file, and `index.json`. The annotations are read from there, so that a sample is one read of its
picture's bytes; that they are members of the shards too serves other readers of webdataset's layout.
"""

import io
import os
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.images.file_bytes import is_remote, read_remote
from mnv2_tasks.data.images.limits import MOST_PIXELS
from mnv2_tasks.data.images.mask_values import FORMS, INDICES, MaskValues
from mnv2_tasks.data.reading.class_names import check_class_names
from mnv2_tasks.data.reading.file_source import FileSource, Packed
from mnv2_tasks.data.reading.npz_files import read_arrays
from mnv2_tasks.data.reading.records import Records, Texts
from mnv2_tasks.data.reading.root import data_root, listing
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import parse_json, read_json
from mnv2_tasks.wording import brief, counted

INDEX = "index.json"
FORMAT = "mnv2_tasks shards 1"
SHARD_NAME = re.compile(r"\w[\w.-]{0,99}\.tar", re.ASCII)
SEPARATORS = np.frombuffer(b"/\\\0\n", np.uint8)
PLACES = ("shard", "start", "size", "mask_start", "mask_size")  # of each file in its shard, in bytes


def shards(*, root: str | None, kind: str) -> FileSource:
    """What `tools/data.py pack` wrote: the samples, labels and ids of the data set that it packed.

    Args:
        root: the folder that it wrote, or its URL.

    Raises:
        ConfigError: it was packed for another kind of task, is not there, or is incomplete.
    """
    place = str(root) if root and is_remote(str(root)) else str(data_root(root, "shards"))
    index = _index(place)
    if index["kind"] != kind:
        raise ConfigError(f"data=shards: {place} was packed for {index['kind']}, this task is {kind}")
    loaded: dict[str, tuple[Records, Packed]] = {}

    def load(split: str) -> tuple[Records, Packed]:
        if split not in loaded:
            if split not in index["splits"]:
                raise ConfigError(f"data=shards: {place} has no {split} split, only {', '.join(index['splits'])}")
            files = index["splits"][split]
            if not is_remote(place):
                _check(place, files)
            file = f"{place}/{split}.npz"
            loaded[split] = _unpacked(place, list(files), _content(file), file, len(index["class_names"]))
        return loaded[split]

    number = sum(len(files) for files in index["splits"].values())
    return FileSource(
        kind=kind,
        class_names=index["class_names"],
        read=lambda split: (load(split)[0], []),
        found=f"{index['found']}, in {counted(number, 'shard')}",
        on_bad="refuse",
        category_ids=index["category_ids"],
        values=_mask_values(index),
        later_on_top=index.get("later_on_top", False),
        packed=lambda split: load(split)[1],
    )


def packed_shards(folder: Path) -> list[str] | None:
    """Names of the shards that `pack` wrote into a folder, whether they are there or not; None where it did not.

    Raises:
        ConfigError: its index is damaged, so that nobody knows which are missing.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        index = read_json(path)
        if not isinstance(index, dict) or index.get("format") != FORMAT:  # another program's
            return None
        return [name for files in _index(str(folder))["splits"].values() for name in files]
    except ConfigError as error:
        if any(folder.glob("*.tar")):
            raise ConfigError(f"{error}. Copy it again, or name the shards: '{folder}/*.tar'") from None
        return None  # beside anything else


def to_arrays(records: Records) -> dict[str, np.ndarray]:
    """For `np.savez`; of paths only the names are kept."""
    arrays = {}
    for name in (field.name for field in fields(records)):
        value = getattr(records, name)
        if isinstance(value, Texts):
            value = value if name == "outlines" else Texts(Path(file).name for file in value)
            arrays[f"{name}.content"], arrays[f"{name}.ends"] = value.content, value.ends
        else:
            arrays[name] = value
    return arrays


def _index(place: str) -> dict[str, Any]:
    try:
        content = _content(f"{place}/{INDEX}")
    except FileNotFoundError:
        raise ConfigError(
            f"data=shards: {place} holds no {INDEX}. Shards are made by "
            f"`python tools/data.py pack data=<data> data.root=<folder> out={place}`\n  found: {listing(Path(place))}"
        ) from None
    index = parse_json(content, f"data=shards: {place}/{INDEX}")
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ConfigError(f"data=shards: {place}/{INDEX} was not written by this version's `pack`; pack again")
    for name, is_right in FIELDS.items():
        if not is_right(index.get(name)):
            raise ConfigError(
                f"data=shards: {place}/{INDEX} is damaged, {name} is {brief(index.get(name))}. Copy it again"
            )
    check_class_names(index["class_names"], f"data=shards: {place}/{INDEX}")
    return index


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(item) is kind for item in value)


def _are_splits(value: Any) -> bool:
    """{split: {name of the shard: bytes}}; a name is that of a file beside the index."""
    return isinstance(value, dict) and all(
        isinstance(files, dict)
        and all(SHARD_NAME.fullmatch(name) and type(size) is int and size >= 0 for name, size in files.items())
        for files in value.values()
    )


def _mask_values(index: dict[str, Any]) -> MaskValues:
    form, classes = index.get("mask_values", INDICES)
    return MaskValues(form, tuple((value, label) for value, label in classes))


def _are_mask_values(value: Any) -> bool:
    """None in those that were packed before 0.2."""
    if value is None:
        return True
    if not isinstance(value, list) or len(value) != 2 or value[0] not in FORMS or not isinstance(value[1], list):
        return False
    pairs = all(isinstance(row, list) and len(row) == 2 and all(type(n) is int for n in row) for row in value[1])
    return pairs and all(0 <= label <= IGNORE and 0 <= code < 1 << 24 for code, label in value[1])


FIELDS: dict[str, Callable[[Any], bool]] = {
    "kind": lambda value: isinstance(value, str),
    "class_names": _is_list_of(str),
    "category_ids": _is_list_of(int),
    "found": lambda value: isinstance(value, str),
    "splits": _are_splits,
    "mask_values": _are_mask_values,
    "later_on_top": lambda value: value in (None, False, True),
}


def _content(file: str) -> bytes:
    return read_remote(file) if is_remote(file) else Path(file).read_bytes()


def _check(place: str, files: dict[str, int]) -> None:
    """A shard that is missing or cut short would be found in the middle of an epoch."""
    for name, size in files.items():
        path = Path(place, name)
        found = os.stat(path).st_size if path.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes, it was written with {size:,}"
            raise ConfigError(f"data=shards: {path} {state}. Copy it again, or pack again")


def _unpacked(place: str, names: list[str], content: bytes, file: str, num_classes: int) -> tuple[Records, Packed]:
    arrays = read_arrays(io.BytesIO(content), f"data=shards: {file}", most_bytes=len(content))  # `pack` stores them
    try:
        at = {name: arrays.pop(name) for name in PLACES}
        sizes = arrays.pop("verified_sizes")
        peak = int(arrays.pop("peak", 0))  # packed before 0.2, 16-bit pictures have the white of their type
        values: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
        for name in (field.name for field in fields(Records) if field.name not in values):
            values[name] = Texts()
            values[name].content, values[name].ends = arrays[f"{name}.content"], arrays[f"{name}.ends"]
        records = Records(**values)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"data=shards: {file} is damaged, it lacks or adds {error}. Copy it again") from None
    if fault := _fault(records, at, sizes, len(names), num_classes):
        raise ConfigError(f"data=shards: {file} is damaged: {fault}. Copy it again, or pack again")

    def members(texts: Texts, start: np.ndarray, size: np.ndarray) -> Texts:
        rows = zip(at["shard"].tolist(), start.tolist(), size.tolist(), texts)
        return Texts(f"{place}/{names[shard]}:{first}+{length}/{name}" for shard, first, length, name in rows)

    records = replace(
        records,
        files=members(records.files, at["start"], at["size"]),
        masks=members(records.masks, at["mask_start"], at["mask_size"]) if len(records.masks) else records.masks,
    )
    order = np.lexsort((at["start"], at["shard"]))
    return records, Packed(sizes, peak, np.split(order, np.searchsorted(at["shard"][order], range(1, len(names)))))


def _fault(
    records: Records, at: dict[str, np.ndarray], sizes: np.ndarray, num_shards: int, num_classes: int
) -> str | None:
    """What no packing writes. (Names of files have no folders; whatever they say, a sample is read from its shard.)"""
    n, boxes = len(records.ids), len(records.boxes)
    shapes: dict[str, tuple[np.ndarray, type, list[tuple[int, ...]]]] = {
        "ids": (records.ids, np.int64, [(n,)]),
        "sizes": (records.sizes, np.int32, [(n, 2)]),
        "labels": (records.labels, np.int64, [(n,), (0,)]),
        "starts": (records.starts, np.int64, [(n + 1,)]),
        "boxes": (records.boxes, np.float64, [(boxes, 4)]),
        "box_labels": (records.box_labels, np.int64, [(boxes,)]),
        "box_ids": (records.box_ids, np.int64, [(boxes,)]),
        "areas": (records.areas, np.float64, [(boxes,)]),
        "crowd": (records.crowd, np.bool_, [(boxes,)]),
        "verified_sizes": (sizes, np.int32, [(n, 2)]),
        "files": (records.files.ends, np.int64, [(n,)]),
        "masks": (records.masks.ends, np.int64, [(n,), (0,)]),
        "outlines": (records.outlines.ends, np.int64, [(boxes,), (0,)]),
        **{name: (array, np.int64, [(n,)]) for name, array in at.items()},
    }
    for name, (array, kind, expected) in shapes.items():
        if array.dtype != kind or array.shape not in expected:
            return f"{name} is {array.dtype} of {array.shape}, expected {np.dtype(kind)} of {expected[0]}"
    for name, texts in (("files", records.files), ("masks", records.masks), ("outlines", records.outlines)):
        ends = np.concatenate([[0], texts.ends])
        if texts.content.dtype != np.uint8 or (np.diff(ends) < 0).any() or ends[-1] != len(texts.content):
            return f"{name} do not fill their text"
    if np.isin(np.concatenate([records.files.content, records.masks.content]), SEPARATORS).any():
        return "the name of a file leads into a folder"
    wrong = {
        "starts": records.starts[0] != 0 or (np.diff(records.starts) < 0).any() or records.starts[-1] != boxes,
        "labels": ((records.labels < 0) | (records.labels >= num_classes)).any(),
        "box_labels": ((records.box_labels < 0) | (records.box_labels >= num_classes)).any(),
        "ids": len(np.unique(records.ids)) != n,
        "shard": ((at["shard"] < 0) | (at["shard"] >= num_shards)).any(),
        "verified_sizes": (sizes < 1).any() or (sizes.astype(np.int64).prod(axis=1) > MOST_PIXELS).any(),
        **{name: (array < 0).any() for name, array in at.items() if name != "shard"},
    }
    return next((f"{name} hold what they cannot" for name, is_wrong in wrong.items() if is_wrong), None)
