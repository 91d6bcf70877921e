"""A data set in files -> tar shards in webdataset's layout, see shards.py."""

import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from mnv2_tasks.data.download.fetch import require_space
from mnv2_tasks.data.images.file_bytes import content_of, size_of
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data.shards import FORMAT, INDEX, PLACES, to_arrays
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.whole_files import made_whole, write_text, written_whole

SHARD = 1 << 27  # bytes: about a thousand pictures of ImageNet


def pack(
    source: FileSource, splits: Sequence[str], out: Path, *, shard_bytes: int = SHARD
) -> dict[str, dict[str, int]]:
    """Write the usable samples of these splits into a new folder, which is there when it is complete.

    Training samples are dealt to the shards at random, so that a few shards hold every class; their indices stay
    those of the data set. Validation samples keep their order.

    Returns:
        {split: {name of the shard: bytes}}

    Raises:
        ConfigError: webdataset is missing, the folder is there already, or the disk is too small.
        DataError: the data set refuses what is bad in it.
    """
    if find_spec("webdataset") is None:
        raise ConfigError('packing needs webdataset: pip install -e ".[streaming]"')
    if os.path.lexists(out):
        raise ConfigError(f"out={out}: is there already; shards are written into a new folder")
    source.prepare(splits)
    needed = sum(size_of(file) for split in splits for file in _files(source.verified(split)[0]))
    require_space(out, needed + needed // 50, "packing")
    with made_whole(out) as folder:
        written = {split: _pack_split(source, split, folder, shard_bytes) for split in splits}
        index = {
            "format": FORMAT,
            "kind": source.kind,
            "class_names": source.class_names,
            "category_ids": source.category_ids,
            "found": source.found,
            "mask_values": source.values,
            "later_on_top": source.later_on_top,
            "splits": written,
        }
        write_text(folder / INDEX, json.dumps(index, indent=1))
    return written


def _files(records: Records) -> Iterable[str]:
    yield from records.files
    yield from records.masks


def _pack_split(source: FileSource, split: str, folder: Path, shard_bytes: int) -> dict[str, int]:
    from webdataset.writer import ShardWriter

    records, sizes = source.verified(split)
    places = {name: np.zeros(len(records), np.int64) for name in PLACES}
    sizes_of_shards: dict[str, int] = {}

    def note(path: str) -> None:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                index, _, kind = member.name.partition(".")
                if kind not in ("cls", "json"):
                    prefix = "mask_" if kind.startswith("mask.") else ""
                    places["shard"][int(index)] = len(sizes_of_shards)
                    places[f"{prefix}start"][int(index)] = member.offset_data
                    places[f"{prefix}size"][int(index)] = member.size
        sizes_of_shards[os.path.basename(path)] = os.path.getsize(path)

    order = np.random.default_rng(0).permutation(len(records)) if split == "train" else np.arange(len(records))
    pattern = str(folder / f"{split}-%06d.tar")
    with ShardWriter(
        pattern, maxcount=len(records), maxsize=shard_bytes, post=note, verbose=0, encoder=False, mtime=0
    ) as writer:
        for index in track(order.tolist(), f"packing {split}", disable=not os.isatty(1)):
            writer.write({"__key__": f"{index:09d}", **_members(records, index, source.kind)})
    arrays: dict[str, Any] = {**to_arrays(records), **places, "verified_sizes": sizes}
    arrays["peak"] = np.array(source.peaks[split], np.int64)
    with written_whole(folder / f"{split}.npz") as file:
        np.savez(file, **arrays)
    return sizes_of_shards


def _members(records: Records, index: int, kind: str) -> dict[str, bytes]:
    """{ending: content}; the files as they are."""
    file = records.files[index]
    members: dict[str, Any] = {_ending(file): content_of(file)}
    if kind == "classification":
        members["cls"] = str(int(records.labels[index])).encode()
    if kind == "detection":
        rows = records.boxes_of(index)
        annotations = {
            "boxes": records.boxes[rows].tolist(),
            "labels": records.box_labels[rows].tolist(),
            "crowd": records.crowd[rows].tolist(),
        }
        members["json"] = json.dumps(annotations).encode()
    if len(records.masks):
        members[f"mask.{_ending(records.masks[index])}"] = content_of(records.masks[index])
    return members


def _ending(file: str) -> str:
    return Path(file).suffix.lower().removeprefix(".")
