"""A data set in files -> tar shards in webdataset's layout, see shards.py."""

import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

from mnv2_tasks.data.download.fetch import require_space
from mnv2_tasks.data.images.file_bytes import content_of, size_of
from mnv2_tasks.data.images.fit import check_side
from mnv2_tasks.data.images.mask_values import INDICES
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.data.reading.records import Records, Texts
from mnv2_tasks.data.reduced import reduced_mask, reduced_picture, reduced_records, reduced_size
from mnv2_tasks.data.shards import FORMAT, INDEX, PLACES, to_arrays
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.whole_files import made_whole, write_text, written_whole

SHARD = 1 << 27  # bytes: about a thousand pictures of ImageNet


AT_ONCE = 64  # samples that are made, in threads, before they are written


class Written(NamedTuple):
    """Of one split."""

    shards: dict[str, int]  # {name: bytes}
    reduced: int  # pictures that were made smaller
    deep: int  # pictures that were not, for they have 16 bits


def pack(
    source: FileSource, splits: Sequence[str], out: Path, *, size: int | None = None, shard_bytes: int = SHARD
) -> dict[str, Written]:
    """Write the usable samples of these splits into a new folder, which is there when it is complete.

    Training samples are dealt to the shards at random, so that a few shards hold every class; their indices stay
    those of the data set. Validation samples keep their order.

    Args:
        size: pixels of the shorter side that pictures are reduced to, see reduced.py; None: files stay as they are.

    Raises:
        ConfigError: webdataset is missing, the folder is there already, or the disk is too small.
        DataError: the data set refuses what is bad in it.
    """
    if find_spec("webdataset") is None:
        raise ConfigError('packing needs webdataset: pip install -e ".[streaming]"')
    if size is not None:
        check_side("size", size)
    if os.path.lexists(out):
        raise ConfigError(f"out={out}: is there already; shards are written into a new folder")
    source.verify = "full"  # what reads shards relies on it
    source.prepare(splits)
    needed = sum(_bytes_needed(*source.verified(split), size) for split in splits)
    require_space(out, needed + needed // 50, "packing")
    with made_whole(out) as folder:
        written = {split: _pack_split(source, split, folder, size, shard_bytes) for split in splits}
        index = {
            "format": FORMAT,
            "kind": source.kind,
            "class_names": source.class_names,
            "category_ids": source.category_ids,
            "found": source.found + (f", reduced to {size} pixels on the shorter side" if size else ""),
            "mask_values": INDICES if size else source.values,
            "later_on_top": source.later_on_top,
            "splits": {split: of_split.shards for split, of_split in written.items()},
        }
        write_text(folder / INDEX, json.dumps(index, indent=1))
    return written


def _bytes_needed(records: Records, sizes: np.ndarray, size: int | None) -> int:
    """At most, but for pictures that take more as JPEG of this quality than twice what they took."""
    if size is None:
        return sum(size_of(file) for file in _files(records))
    shares = np.minimum(2 * np.minimum(size / sizes.min(axis=1), 1) ** 2, 1).tolist()
    pictures = sum(share * size_of(file) for share, file in zip(shares, records.files))
    return int(pictures + sum(size_of(file) for file in records.masks))


def _files(records: Records) -> Iterable[str]:
    yield from records.files
    yield from records.masks


def _pack_split(source: FileSource, split: str, folder: Path, size: int | None, shard_bytes: int) -> Written:
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
    pattern, after = str(folder / f"{split}-%06d.tar"), sizes.copy()
    with ShardWriter(
        pattern, maxcount=len(records), maxsize=shard_bytes, post=note, verbose=0, encoder=False, mtime=0
    ) as writer:
        samples = _samples(source, split, order.tolist(), size)
        for index, members, size_after in track(
            samples, f"packing {split}", total=len(records), disable=not os.isatty(1)
        ):
            after[index] = size_after
            writer.write({"__key__": f"{index:09d}", **members})
    reduced = (after != sizes).any(axis=1)
    arrays: dict[str, Any] = {**to_arrays(_packed(source, records, sizes, after, size)), **places}
    arrays |= {"verified_sizes": after, "peak": np.array(source.peaks[split], np.int64)}
    with written_whole(folder / f"{split}.npz") as file:
        np.savez(file, **arrays)
    deep = 0 if size is None else int(((sizes.min(axis=1) > size) & ~reduced).sum())
    return Written(sizes_of_shards, int(reduced.sum()), deep)


def _packed(source: FileSource, records: Records, before: np.ndarray, after: np.ndarray, size: int | None) -> Records:
    """The records of what was written."""
    if size is None:
        return records
    if source.kind == "segmentation":  # all masks are files of class indices now, those drawn from outlines too
        records = records.keep(np.ones(len(records), bool), np.zeros(len(records.boxes), bool))
        records = replace(records, masks=Texts(Path(file).stem + ".png" for file in records.masks or records.files))
    changed = (after != before).any(axis=1).tolist()
    names = (Path(file).stem + ".jpg" if other else file for file, other in zip(records.files, changed))
    return reduced_records(replace(records, files=Texts(names)), before, after)


def _samples(
    source: FileSource, split: str, order: list[int], size: int | None
) -> Iterator[tuple[int, dict[str, bytes], tuple[int, int]]]:
    """(index, members, height and width of the picture) of each sample, in this order."""
    records, sizes = source.verified(split)

    def make(index: int) -> tuple[int, dict[str, bytes], tuple[int, int]]:
        before = (int(sizes[index][0]), int(sizes[index][1]))
        if size is None:
            return index, _members(records, index, source.kind), before
        return index, *_reduced_members(source, records, index, before, size)

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for start in range(0, len(order), AT_ONCE):
            yield from pool.map(make, order[start : start + AT_ONCE])
    finally:
        pool.shutdown(cancel_futures=True)


def _reduced_members(
    source: FileSource, records: Records, index: int, before: tuple[int, int], size: int
) -> tuple[dict[str, bytes], tuple[int, int]]:
    members = _members(records, index, source.kind)
    ending, content = next(iter(members.items()))
    picture, after = reduced_picture(content, records.files[index], before, size), before
    if picture is not None:
        after = reduced_size(before, size)
        del members[ending]
        members = {"jpg": picture, **members}
    if source.kind == "detection":
        members["json"] = _annotations(records, index, (after[1] / before[1], after[0] / before[0]))
    if source.kind == "segmentation":
        members = {ending: part for ending, part in members.items() if not ending.startswith("mask.")}
        members["mask.png"] = reduced_mask(source.mask(records, index, before), after)
    return members, after


def _members(records: Records, index: int, kind: str) -> dict[str, bytes]:
    """{ending: content}; the files as they are."""
    file = records.files[index]
    members: dict[str, Any] = {_ending(file): content_of(file)}
    if kind == "classification":
        members["cls"] = str(int(records.labels[index])).encode()
    if kind == "detection":
        members["json"] = _annotations(records, index, (1, 1))
    if len(records.masks):
        members[f"mask.{_ending(records.masks[index])}"] = content_of(records.masks[index])
    return members


def _annotations(records: Records, index: int, factors: tuple[float, float]) -> bytes:
    """As JSON, their pixels times these factors of width and height."""
    rows = records.boxes_of(index)
    annotations = {
        "boxes": (records.boxes[rows] * (factors * 2)).tolist(),
        "labels": records.box_labels[rows].tolist(),
        "crowd": records.crowd[rows].tolist(),
    }
    return json.dumps(annotations).encode()


def _ending(file: str) -> str:
    return Path(file).suffix.lower().removeprefix(".")
