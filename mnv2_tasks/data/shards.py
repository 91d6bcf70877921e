"""Tar shards in webdataset's layout: a data set of a few large files, read as fast from network and spinning disks.

`pack` in packing.py writes them: `train-000000.tar` ... with the files as they are, `train.npz` with all annotations
and the place of each file, and `index.json`. The annotations are read from there, so that a sample is one read of its
picture's bytes; that they are members of the shards too serves other readers of webdataset's layout.
"""

import io
import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mnv2_tasks.data.images.file_bytes import is_remote, read_remote
from mnv2_tasks.data.reading.file_source import FileSource, Packed
from mnv2_tasks.data.reading.records import Records, Texts
from mnv2_tasks.data.reading.root import data_root, listing
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import counted

INDEX = "index.json"
FORMAT = "mnv2_tasks shards 1"
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
            loaded[split] = _unpacked(place, list(files), _content(f"{place}/{split}.npz"))
        return loaded[split]

    number = sum(len(files) for files in index["splits"].values())
    return FileSource(
        kind=kind,
        class_names=index["class_names"],
        read=lambda split: (load(split)[0], []),
        found=f"{index['found']}, in {counted(number, 'shard')}",
        on_bad="refuse",
        category_ids=index["category_ids"],
        packed=lambda split: load(split)[1],
    )


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
        index = json.loads(_content(f"{place}/{INDEX}"))
    except FileNotFoundError:
        raise ConfigError(
            f"data=shards: {place} holds no {INDEX}. Shards are made by "
            f"`python tools/data.py pack data=<data> data.root=<folder> out={place}`\n  found: {listing(Path(place))}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"data=shards: {place}/{INDEX} is damaged ({error}). Copy it again") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ConfigError(f"data=shards: {place}/{INDEX} was not written by this version's `pack`; pack again")
    return index


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


def _unpacked(place: str, names: list[str], content: bytes) -> tuple[Records, Packed]:
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    at = {name: arrays.pop(name) for name in PLACES}
    sizes = arrays.pop("verified_sizes")
    values: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
    for name in (field.name for field in fields(Records) if field.name not in values):
        values[name] = Texts()
        values[name].content, values[name].ends = arrays[f"{name}.content"], arrays[f"{name}.ends"]
    records = Records(**values)

    def members(texts: Texts, start: np.ndarray, size: np.ndarray) -> Texts:
        rows = zip(at["shard"].tolist(), start.tolist(), size.tolist(), texts)
        return Texts(f"{place}/{names[shard]}:{first}+{length}/{name}" for shard, first, length, name in rows)

    records = replace(
        records,
        files=members(records.files, at["start"], at["size"]),
        masks=members(records.masks, at["mask_start"], at["mask_size"]) if len(records.masks) else records.masks,
    )
    order = np.lexsort((at["start"], at["shard"]))
    return records, Packed(sizes, np.split(order, np.searchsorted(at["shard"][order], range(1, len(names)))))
