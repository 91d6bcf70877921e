"""A data set in files, behind the `DataSource` contract: what imagenet, coco, voc and folder have in common."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnv2_tasks.contracts import IGNORE, Sample
from mnv2_tasks.data.images import read_image, read_mask
from mnv2_tasks.data.outlines import outline_mask
from mnv2_tasks.data.problems import Problem, apply_policy, box_problems, check_policy, clip_boxes
from mnv2_tasks.data.records import Records
from mnv2_tasks.data.verify import verify_files
from mnv2_tasks.errors import ConfigError, DataError

log = logging.getLogger(__name__)


class FileSource:
    """Reads samples of one kind of task.

    Args:
        kind: "classification", "detection" or "segmentation".
        class_names: index i is label i; of segmentation, mask value i.
        read: split, "train" or "val" -> its records and the problems that reading its annotations showed.
        found: what was recognised, for people, such as "COCO json, 3 classes".
        category_ids: the data set's own number of each class, in label order; for COCO's results format.
        on_bad: "refuse" or "skip", see `problems.apply_policy`.
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
    ):
        check_policy(on_bad)
        self.kind, self.class_names = kind, list(class_names)
        self.category_ids = list(category_ids or range(1, len(self.class_names) + 1))
        self.found, self.on_bad = found, on_bad
        self.read = read
        self._splits: dict[str, Records] = {}
        self._sizes: dict[str, np.ndarray] = {}  # (n, 2) of each split, see verify_files
        self.skipped: list[str] = []  # a line for each split that lost something

    def __getstate__(self) -> dict[str, Any]:
        """What a loader process needs, where processes are spawned: the records, not their reader."""
        return {**self.__dict__, "read": None}

    def prepare(self, splits: Sequence[str]) -> None:
        """Read and verify these splits.

        Raises:
            DataError: something is bad and the policy is to refuse; a split is empty; images of val are in train.
        """
        for split in splits:
            self._records(split)
        if len(splits) > 1:
            self._check_leakage()

    def describe(self) -> str:
        """Such as "COCO json, 3 classes, 205 / 87 images"."""
        counts = " / ".join(f"{len(records):,}" for records in self._splits.values())
        empty = (
            sum(int((np.diff(r.starts) == 0).sum()) for r in self._splits.values()) if self.kind == "detection" else 0
        )
        return f"{self.found}, {counts} images" + (f" ({empty:,} without objects)" if empty else "")

    def length(self, split: str) -> int:
        return len(self._records(split))

    def largest(self, split: str) -> int:
        self._records(split)
        return int(self._sizes[split].max())

    def sample(self, split: str, epoch: int, index: int) -> Sample:
        """An image with its annotations; boxes of crowds are left out.

        Raises:
            DataError: the file has become unreadable since it was verified.
        """
        records = self._records(split)
        height, width = (int(side) for side in self._sizes[split][index])
        image = read_image(Path(records.files[index]), (height, width))
        sample = Sample(image=image, image_id=int(records.ids[index]))
        if self.kind == "classification":
            return sample._replace(label=int(records.labels[index]))
        rows = records.boxes_of(index)
        if self.kind == "segmentation":
            return sample._replace(mask=self.mask(records, index, (height, width)))
        real = ~records.crowd[rows]
        return sample._replace(
            boxes=records.boxes[rows][real].astype(np.float32), box_labels=records.box_labels[rows][real]
        )

    def mask(self, records: Records, index: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 class indices of an image, read from its file or drawn from the outlines of its objects."""
        if len(records.masks):
            return read_mask(Path(records.masks[index]))
        mask = np.zeros(size, np.uint8)
        covered = np.zeros(size, np.uint8)
        rows = records.boxes_of(index)
        for i in range(rows.start, rows.stop):
            inside = outline_mask(records.outlines[i], size)
            mask[inside] = IGNORE if records.crowd[i] else records.box_labels[i]
            covered += inside
        mask[covered > 1] = IGNORE  # whose pixel it is, the outlines do not say
        return mask

    def fingerprint(self) -> str:
        """Hash of the annotations and of the names and sizes of the files: equal data, equal string."""
        digest = hashlib.sha256(f"{self.kind} {self.class_names}".encode())
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
                digest.update(f"{Path(file).name} {Path(file).stat().st_size}\n".encode())
        return digest.hexdigest()

    def coco_ground_truth(self) -> dict[str, Any]:
        """The boxes of the validation split in COCO's format, with the data set's own ids."""
        records = self._records("val")
        images = [
            {"id": int(i), "height": int(h), "width": int(w), "file_name": Path(file).name}
            for i, (h, w), file in zip(records.ids, self._sizes["val"], records.files)
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
        return {"images": images, "annotations": annotations, "categories": categories}

    def problems(self, split: str) -> tuple[Records, list[Problem], np.ndarray]:
        """Everything that is wrong with a split: its records as read, the problems, and the sizes of the images."""
        records, found = self.read(split)
        if not len(records):
            raise ConfigError(f"{self.found}: the {split} split has no images")
        in_files, sizes = verify_files(records, class_names=self.class_names, split=split)
        found = [*found, *in_files]
        if self.kind == "detection":
            broken = {problem.image for problem in in_files}
            found += [p for p in box_problems(records, len(self.class_names), sizes) if p.image not in broken]
        return records, found, sizes

    def _records(self, split: str) -> Records:
        if split not in self._splits:
            records, found, sizes = self.problems(split)
            kept, line = apply_policy(records, found, self.on_bad, split)
            if line:
                self.skipped.append(line)
            if not len(kept):
                raise DataError(f"{self.found}: no image of the {split} split is usable")
            sizes = sizes[np.isin(records.ids, kept.ids)]
            clip_boxes(kept, sizes)
            self._splits[split], self._sizes[split] = kept, sizes
        return self._splits[split]

    def _check_leakage(self) -> None:
        """Refuse, or under `skip` drop from train, training images that are also validated on."""
        train, val = self._splits["train"], self._splits["val"]
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


def shared_images(train: Records, val: Records) -> list[tuple[int, int]]:
    """(index in train, index in val) of files with equal bytes; only files of equal length are read."""
    lengths: dict[int, list[int]] = {}
    for j, file in enumerate(val.files):
        lengths.setdefault(Path(file).stat().st_size, []).append(j)
    hashes: dict[str, str] = {}

    def content(file: str) -> str:
        if file not in hashes:
            hashes[file] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        return hashes[file]

    found = []
    for i, file in enumerate(train.files):
        for j in lengths.get(Path(file).stat().st_size, []):
            if content(file) == content(val.files[j]):
                found.append((i, j))
                break
    return found
