"""A data set in files, behind the `DataSource` contract: what imagenet, coco, voc and folder have in common."""

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track
from scipy.sparse import csr_array

from mnv2_tasks.contracts import IGNORE, Sample
from mnv2_tasks.data.images.decode import read_image
from mnv2_tasks.data.images.deep import FULL, white_above
from mnv2_tasks.data.images.file_bytes import content_of, is_remote, size_of
from mnv2_tasks.data.images.mask_values import INDICES, MaskValues
from mnv2_tasks.data.reading.class_counts import class_counts
from mnv2_tasks.data.reading.class_names import check_class_names
from mnv2_tasks.data.reading.file_stamps import stamps
from mnv2_tasks.data.reading.nothing_to_learn import nothing_to_learn
from mnv2_tasks.data.reading.picture_cache import Masks, PictureCache
from mnv2_tasks.data.reading.problems import (
    SLACK,
    Problem,
    apply_policy,
    box_problems,
    check_policy,
    clip_boxes,
    first_alike,
)
from mnv2_tasks.data.reading.records import Records
from mnv2_tasks.data.reading.verify import check_depth, verify_files
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.wording import counted, first_few, visible

log = logging.getLogger(__name__)

DARK, BLACK = 63, 15  # largest values of pictures of 8 bits that people are told of: where all have no more, and of one


class Packed(NamedTuple):
    sizes: np.ndarray  # (n, 2) int32 height and width in whose pixels the annotations are
    peak: int  # the largest value of pictures of 16 bits, see verify_files
    shards: list[np.ndarray]  # (n_i,) int64 indices of the samples of each shard, as they lie in it


class FileSource:
    """Reads samples of one kind of task.

    Args:
        kind: "classification", "detection" or "segmentation".
        class_names: index i is label i; of segmentation, mask value i.
        read: split, "train" or "val" -> its records and the problems that reading its annotations showed.
        found: what was recognised, for people, such as "COCO json, 3 classes".
        category_ids: the data set's own number of each class, in label order; for COCO's results format.
        on_bad: "refuse" or "skip", see `problems.apply_policy`.
        values: what the pixels of mask files, or the labels of outlines, say.
        later_on_top: of outlines that overlap, the later one has the pixel; else it has no class.
        packed: split -> how it was packed into shards, once it had been verified; None: it lies in files of its own.
        server_split: what a server, which alone has the annotations of the validation split, calls that; None: it has
            some here.
    """

    def __init__(
        self,
        *,
        kind: str,
        class_names: Sequence[str],
        read: Callable[[str], tuple[Records, list[Problem]]],
        found: str,
        on_bad: str,
        category_ids: Sequence[int] | None = None,
        values: MaskValues = INDICES,
        later_on_top: bool = False,
        packed: Callable[[str], Packed] | None = None,
        server_split: str | None = None,
    ):
        check_policy(on_bad)
        check_class_names(class_names, found)
        self.kind, self.class_names = kind, list(class_names)
        self.category_ids = list(category_ids or range(1, len(self.class_names) + 1))
        self.found, self.on_bad = visible(found), on_bad
        self.read, self.packed = read, packed
        self.server_split = server_split
        self.values, self.later_on_top = values, later_on_top
        self.verify = "auto"  # how closely files are looked at before a run, see `verify_files`
        self.white: int | None = None  # of 16-bit pictures, as the weights want it; None: as the verified ones need it
        self.peaks: dict[str, int] = {}  # the largest value of 16-bit pictures of each split, 0 without any
        self.cache: PictureCache | None = None  # filled with the pictures of the training split
        self._splits: dict[str, Records] = {}
        self._sizes: dict[str, np.ndarray] = {}  # (n, 2) of each split, see verify_files
        self.notes: dict[str, list[str]] = {}  # what people should know of how the pictures of a split are read
        self.skipped: list[str] = []  # a line for each split that lost something
        self.cut: dict[str, int] = {}  # split -> boxes that reached out of their image by a pixel or two
        self.again: dict[str, int] = {}  # split -> boxes that are given twice

    def __getstate__(self) -> dict[str, Any]:
        """What a loader process needs, where processes are spawned: the records, not their readers."""
        return {**self.__dict__, "read": None, "packed": None}

    def prepare(self, splits: Sequence[str]) -> None:
        """Read and verify these splits.

        Raises:
            DataError: something is bad and the policy is to refuse; a split is empty, or has no object or one
                class alone; images of val are in train.
        """
        for split in splits:
            self.verified(split)
        if len(splits) > 1 and self.packed is None:
            self._check_leakage()

    def describe(self) -> str:
        """Such as "COCO json, 3 classes, 205 / 87 images"."""
        counts = " / ".join(f"{len(records):,}" for records in self._splits.values())
        said = f"{self.found}, {counts} images" + (self._boxes_told() if self.kind == "detection" else "")
        notes = [note for split in self._splits for note in self.notes.get(split, [])]
        return "; ".join([said, *notes, *self._unlearned(), *self.scale()])

    def _unlearned(self) -> list[str]:
        """Classes that a score counts, and nothing teaches; nothing where there are none."""
        if self.kind == "segmentation" or not {"train", "val"} <= self._splits.keys():
            return []
        both = [self._splits[split] for split in ("train", "val")]
        of = [
            records.labels if self.kind == "classification" else records.box_labels[~records.crowd] for records in both
        ]
        train, val = (set(labels.tolist()) for labels in of)
        names = [self.class_names[label] for label in sorted(val - train)]
        return [f"val has images of {counted(len(names), 'class')} that train has none of: {first_few(names)}"] * bool(
            names
        )

    def _boxes_told(self) -> str:
        """What people should know of the boxes; nothing where there is nothing to tell."""
        if self.server_split:
            return " (without annotations)"
        empty = sum(int((np.diff(records.starts) == 0).sum()) for records in self._splits.values())
        told = [f"{empty:,} without objects"] if empty else []
        for split, records in self._splits.items():
            if crowds := int(records.crowd.sum()):
                told.append(
                    f"{crowds:,} of {counted(len(records.boxes), 'box')} in {split} crowds or difficult, "
                    f"neither trained on nor scored"
                )
        if again := sum(self.again.values()):
            told.append(f"{counted(again, 'box')} given again with the same class and corners, and taken once")
        if cut := sum(self.cut.values()):
            told.append(f"{counted(cut, 'box')} cut by up to {SLACK:g} pixels at the edge of the image")
        return f" ({'; '.join(told)})" if told else ""

    def scale(self) -> list[str]:
        """What is white in 16-bit pictures, for people; nothing where there are none."""
        return (
            [f"white of all 16-bit images is {self.white_used():,} (input.white)"] if any(self.peaks.values()) else []
        )

    def white_used(self) -> int:
        return white_above(max(self.peaks.values(), default=0)) if self.white is None else self.white

    def length(self, split: str) -> int:
        return len(self.verified(split)[0])

    def image_ids(self, split: str) -> np.ndarray:
        return self.verified(split)[0].ids

    def file_name(self, split: str, image_id: int) -> str:
        """Without its folder, as it may be shown."""
        records = self.verified(split)[0]
        return visible(Path(records.files[int(np.flatnonzero(records.ids == image_id)[0])]).name)

    def largest(self, split: str) -> int:
        return int(self.verified(split)[1].max())

    def shards(self, split: str) -> list[np.ndarray] | None:
        return self.packed(split).shards if self.packed else None

    def sample(self, split: str, epoch: int, index: int, least: int | None = None) -> Sample:
        """An image with its annotations; boxes of crowds are left out. With a mask it keeps its size.

        Raises:
            DataError: the file cannot be decoded, and was not when it was verified, or has changed since.
        """
        try:
            return self._sample(split, index, least)
        except DataError as error:
            number = int(self.verified(split)[0].ids[index])
            raise DataError(
                f"{error}\nThis is image {number} of {split}. `python tools/data.py check` with the same data=... "
                f"data.root=... finds all such files; data.verify=full refuses them before a run, or with "
                f"data.on_bad=skip leaves them out"
            ) from None

    def _sample(self, split: str, index: int, least: int | None) -> Sample:
        records, sizes = self.verified(split)
        height, width = sizes[index].tolist()
        least = self._reducible(least)
        cache = self.cache if split == "train" and self.cache and least == self.cache.least else None
        if cache:
            image = cache.picture(index)
        else:
            image = read_image(records.files[index], (height, width), least=least, white=self.white_used())
        sample = Sample(image=image, image_id=int(records.ids[index]))
        if self.kind == "classification":
            return sample._replace(label=int(records.labels[index]))
        rows = records.boxes_of(index)
        if self.kind == "segmentation":
            mask = cache.mask(index) if cache else self.mask(records, index, (height, width))
            return sample._replace(mask=mask)
        real = ~records.crowd[rows]
        boxes = records.boxes[rows][real].astype(np.float32)
        if image.shape[:2] != (height, width):
            boxes *= np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
        return sample._replace(boxes=boxes, box_labels=records.box_labels[rows][real])

    def picture_cache(self, least: int | None) -> PictureCache:
        """An empty one for the training pictures, as `sample` gives them for this `least`."""
        records, sizes = self.verified("train")
        least = self._reducible(least)
        masks = self._masks(records, sizes) if self.kind == "segmentation" else None
        return PictureCache(records.files, sizes, least=least, white=self.white_used(), name=self.kind, masks=masks)

    def _masks(self, records: Records, sizes: np.ndarray) -> Masks:
        def read(index: int) -> np.ndarray:
            height, width = sizes[index].tolist()
            return self.mask(records, index, (height, width))

        def states() -> Iterator[bytes]:
            how = f"{self.later_on_top} {self.values}\n".encode()
            if len(records.masks):
                yield from (how + stamp for stamp in stamps(records.masks))
                return
            for rows in map(records.boxes_of, range(len(records))):
                drawn = "".join(records.outlines[i] + " " for i in range(rows.start, rows.stop)).encode()
                yield how + drawn + records.box_labels[rows].tobytes() + records.crowd[rows].tobytes()

        return Masks(read, states)

    def _reducible(self, least: int | None) -> int | None:
        return None if self.kind == "segmentation" else least

    def mask(self, records: Records, index: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 class indices of an image, read from its file or drawn from the outlines of its objects."""
        if len(records.masks):
            return self.values.read(records.masks[index])
        from mnv2_tasks.data.reading.outlines import outline_mask  # libraries that runs without outlines do not load

        mask = np.zeros(size, np.uint8)
        covered = np.zeros(size, np.uint8)
        rows = records.boxes_of(index)
        for i in range(rows.start, rows.stop):
            inside = outline_mask(records.outlines[i], size)
            mask[inside] = IGNORE if records.crowd[i] else records.box_labels[i]
            covered += inside
        if not self.later_on_top:
            mask[covered > 1] = IGNORE  # whose pixel it is, the outlines do not say
        return self.values.classes_of(mask)

    def class_counts(self, split: str, indices: Sequence[int] | None = None) -> csr_array:
        """See `DataSource`; crowds are left out. Masks are read for it."""
        records, sizes = self.verified(split)
        wanted = range(len(records)) if indices is None else indices
        if self.kind == "segmentation":
            read = track(wanted, "counting pixels of classes", transient=True, disable=not sys.stdout.isatty())
            masks = (self.mask(records, index, (int(sizes[index, 0]), int(sizes[index, 1]))) for index in read)
            return class_counts(masks, len(self.class_names))
        if self.kind == "classification":
            images, labels = np.arange(len(records)), records.labels
        else:
            images, labels = records.image_of_box()[~records.crowd], records.box_labels[~records.crowd]
        shape = (len(records), len(self.class_names))
        return csr_array((np.ones(len(labels), np.int64), (images, labels)), shape=shape)[np.asarray(wanted)]

    def fingerprint(self) -> str:
        """Hash of the annotations and of the names and sizes of the files: equal data, equal string."""
        digest = hashlib.sha256(f"{self.kind} {self.class_names}".encode())
        if self.later_on_top or self.values != INDICES:
            digest.update(f"{self.later_on_top} {self.values}".encode())
        for split, records in sorted(self._splits.items()):
            digest.update(split.encode())
            for array in (
                records.ids,
                records.labels,
                records.starts,
                records.boxes,
                records.box_labels,
                records.crowd,
                records.outlines.content,
            ):
                digest.update(array.tobytes())
            for file in (*records.files, *records.masks):
                digest.update(os.fsencode(f"{Path(file).name} {size_of(file)}\n"))
        return digest.hexdigest()

    def coco_ground_truth(self) -> dict[str, Any]:
        """The boxes of the validation split in COCO's format, with the data set's own ids; none that a server has."""
        records, sizes = self.verified("val")
        images = [
            {"id": int(i), "height": int(h), "width": int(w), "file_name": visible(Path(file).name)}
            for i, (h, w), file in zip(records.ids, sizes, records.files)
        ]
        x0, y0, x1, y1 = records.boxes.T
        rows = zip(
            records.ids[records.image_of_box()].tolist(),
            records.box_labels.tolist(),
            np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).tolist(),
            records.areas.tolist(),
            records.crowd.tolist(),
        )
        annotations = [
            {
                "id": number,  # numbered anew: pycocotools takes an annotation with id 0 for a miss
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image_id, label, box, area, crowd) in enumerate(rows, start=1)
        ]
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.class_names)]
        truth = {"images": images, "categories": categories}
        return truth if self.server_split else truth | {"annotations": annotations}

    def problems(self, split: str) -> tuple[Records, list[Problem], np.ndarray]:
        """Everything that is wrong with a split: its records as read, the problems, and the sizes of the images."""
        records, found, sizes = self._read(split, "full")
        if nothing := self._nothing_in(split, records, sizes):
            found = [*found, Problem(f"the {split} split", *nothing, None)]
        return records, found, sizes

    def _nothing_in(self, split: str, records: Records, sizes: np.ndarray) -> tuple[str, str] | None:
        if self.server_split:
            return None

        def mask(index: int) -> np.ndarray:
            height, width = sizes[index].tolist()
            return self.mask(records, index, (height, width))

        return nothing_to_learn(split, self.kind, records, self.class_names, mask)

    def _read(self, split: str, depth: str) -> tuple[Records, list[Problem], np.ndarray]:
        check_depth(depth)
        records, found = self.read(split)
        if not len(records):
            raise ConfigError(f"{self.found}: the {split} split has no images. Add some, or remove its folder or list")
        packed = self.packed(split) if self.packed else None
        if packed and is_remote(records.files[0]) and depth != "full":
            depth = "headers"  # a sample would copy every shard
        seen = verify_files(
            records,
            class_names=self.class_names,
            split=split,
            values=self.values,
            depth=depth,
            packed_sizes=packed.sizes if packed else None,
        )
        self.notes[split] = [
            *_stored_note(split, records, seen.as_stored & (packed is None)),
            *_shallow_note(split, records, seen.peaks),
            *_dark_note(split, records, seen.brightest, seen.decoded),
            *_decoded_note(split, seen.decoded),
        ]
        self.peaks[split] = packed.peak if packed else int(seen.peaks.max(initial=0))
        found = [*found, *seen.problems]
        if self.kind == "detection" or packed:
            broken = {problem.image for problem in seen.problems}
            found += [p for p in box_problems(records, self.class_names, seen.sizes) if p.image not in broken]
        return records, found, seen.sizes

    def verified(self, split: str) -> tuple[Records, np.ndarray]:
        """What is usable of a split, and (n, 2) int32 height and width of its pictures."""
        if split not in self._splits:
            records, found, sizes = self._read(split, self.verify)
            kept, line = apply_policy(records, found, self.on_bad, split)
            if line:
                self.skipped.append(line)
            sizes = sizes[np.isin(records.ids, kept.ids)]
            self._check_usable(split, kept, sizes)
            if self.kind == "detection":
                once = first_alike(kept) == np.arange(len(kept.boxes))
                kept, self.again[split] = kept.keep(np.ones(len(kept), bool), once), int((~once).sum())
            self.cut[split] = clip_boxes(kept, sizes)
            self._splits[split], self._sizes[split] = kept, sizes
        return self._splits[split], self._sizes[split]

    def _check_usable(self, split: str, kept: Records, sizes: np.ndarray) -> None:
        if not len(kept):
            raise DataError(f"{self.found}: no image of the {split} split is usable")
        if nothing := self._nothing_in(split, kept, sizes):
            raise DataError(f"{self.found}: nothing to learn from or to score in {split}: {'. '.join(nothing)}")

    def _check_leakage(self) -> None:
        """Refuse, or under `skip` drop from train, training images that are also validated on."""
        train, val = self._splits["train"], self._splits["val"]
        if len(train) == len(val) and set(train.files) == set(val.files):
            raise ConfigError(
                f"{self.found}: train and val are the same {counted(len(val), 'image')}: a score on images trained on "
                f"means nothing. Name other images for val, or none, with data=folder: a fifth validates then"
            )
        twins = shared_images(train, val)
        problems = [
            Problem(train.files[i], f"this training image is also in val, as {val.files[j]}",
                    "Remove it from one of the two: a score on images trained on means nothing", i)
            for i, j in twins
        ]  # fmt: skip
        kept, line = apply_policy(train, problems, self.on_bad, "train")
        if line:
            self.skipped.append(line)
            self._sizes["train"] = self._sizes["train"][np.isin(train.ids, kept.ids)]
            self._splits["train"] = kept
            self._check_usable("train", kept, self._sizes["train"])


def _stored_note(split: str, records: Records, as_stored: np.ndarray) -> list[str]:
    """That pictures are not turned upright, if some are not."""
    names = _names(records, as_stored)
    what = f"{counted(len(names), 'image')} of {split} not turned upright, as annotated in stored pixels"
    return [f"{what}: {first_few(names, 3)}"] if names else []


def _shallow_note(split: str, records: Records, peaks: np.ndarray) -> list[str]:
    """That 16-bit pictures use a fraction of their range, if some do."""
    shallow = np.where(peaks <= FULL // 2, peaks, 0)
    names = _names(records, shallow > 0)
    what = f"{counted(len(names), 'image')} of {split} with 16 bits and values up to {shallow.max(initial=0):,}"
    return [f"{what} of {FULL:,}: {first_few(names, 3)}"] if names else []


def _decoded_note(split: str, decoded: np.ndarray) -> list[str]:
    """That not all were decoded, if not."""
    if decoded.all():
        return []
    return [f"{decoded.sum():,} of {len(decoded):,} images of {split} decoded before the run (data.verify=full: all)"]


def _dark_note(split: str, records: Records, brightest: np.ndarray, decoded: np.ndarray) -> list[str]:
    """That 8-bit pictures are black or nearly so, or all of them dark: values from 0 to 1, or of 4 or 6 bits."""
    most = int(brightest[decoded].max(initial=0))
    names = _names(records, brightest <= (DARK if most <= DARK else BLACK))
    what = f"{counted(len(names), 'image')} of {split} all dark, with values up to {most} of 255"
    if most > DARK:
        what = f"{counted(len(names), 'image')} of {split} black or nearly so"
    return [f"{what}: {first_few(names, 3)}"] if names else []


def _names(records: Records, chosen: np.ndarray) -> list[str]:
    return [os.path.basename(records.files[index]) for index in np.flatnonzero(chosen).tolist()]


def shared_images(train: Records, val: Records) -> list[tuple[int, int]]:
    """(index in train, index in val) of files with equal bytes; only files of equal length are read."""
    lengths: dict[int, list[int]] = {}
    for j, file in enumerate(val.files):
        lengths.setdefault(size_of(file), []).append(j)
    hashes: dict[str, str] = {}

    def content(file: str) -> str:
        if file not in hashes:
            hashes[file] = hashlib.sha256(content_of(file)).hexdigest()
        return hashes[file]

    found = []
    for i, file in enumerate(train.files):
        for j in lengths.get(size_of(file), []):
            if content(file) == content(val.files[j]):
                found.append((i, j))
                break
    return found
