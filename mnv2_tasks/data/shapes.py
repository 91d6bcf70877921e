"""The embedded data set: scenes drawn on the fly, so that every task runs on any machine, offline."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from mnv2_tasks.contracts import Sample
from mnv2_tasks.data.reading.class_counts import class_counts
from mnv2_tasks.data.scenes import CLASS_NAMES, draw_scene
from mnv2_tasks.errors import ConfigError


class Shapes:
    """A `DataSource` for every kind of task. Training draws new scenes in every epoch.

    Args:
        kind: of the task that it serves.
        train_size: scenes of one epoch.
        val_size: scenes of the validation split, always the same ones.
        image_size: side of the square scenes, in pixels.
        seed: another seed is another data set.
    """

    def __init__(self, *, kind: str, train_size: int, val_size: int, image_size: int, seed: int):
        for name, value, least in [
            ("train_size", train_size, 1), ("val_size", val_size, 1), ("image_size", image_size, 32)
        ]:  # fmt: skip
            if value < least:
                raise ConfigError(f"data.{name}={value}: expected at least {least}")
        self.kind = kind
        self.class_names = ["background", *CLASS_NAMES] if kind == "segmentation" else CLASS_NAMES
        self.sizes = {"train": train_size, "val": val_size}
        self.image_size, self.seed = image_size, seed

    def prepare(self, splits: Sequence[str]) -> None:
        """Scenes are drawn when they are asked for, and are never bad."""

    def describe(self) -> str:
        return f"drawn scenes, {len(CLASS_NAMES)} classes, {self.sizes['train']:,} / {self.sizes['val']:,} images"

    def largest(self, split: str) -> int:
        return self.image_size

    def length(self, split: str) -> int:
        return self.sizes[split]

    def image_ids(self, split: str) -> np.ndarray:
        return np.arange(self.sizes[split])

    def shards(self, split: str) -> None:
        """Scenes lie nowhere."""

    def sample(self, split: str, epoch: int, index: int, least: int | None = None) -> Sample:
        fresh = epoch * self.sizes[split] if split == "train" else 0
        return draw_scene(self.seed, split, fresh + index, self.image_size)

    def class_counts(self, split: str, indices: Sequence[int] | None = None) -> csr_array:
        """See `DataSource`; of training, the first epoch's scenes."""
        field = {"classification": "label", "detection": "box_labels", "segmentation": "mask"}[self.kind]
        drawn = range(self.length(split)) if indices is None else indices
        scenes = (self.sample(split, 0, index) for index in drawn)
        return class_counts((np.asarray(getattr(scene, field)) for scene in scenes), len(self.class_names))

    def fingerprint(self) -> str:
        """Hash of the first validation scenes: equal pixels, equal data set."""
        digest = hashlib.sha256()
        for index in range(min(8, self.length("val"))):
            digest.update(self.sample("val", 0, index).image.tobytes())
        return digest.hexdigest()

    def coco_ground_truth(self) -> dict[str, Any]:
        """The boxes of the validation split in COCO's format; category ids are labels + 1, area is the box's."""
        images, annotations = [], []
        for index in range(self.length("val")):
            sample = self.sample("val", 0, index)
            images.append({"id": sample.image_id, "width": self.image_size, "height": self.image_size})
            assert sample.boxes is not None and sample.box_labels is not None
            for (x0, y0, x1, y1), label in zip(sample.boxes.tolist(), sample.box_labels.tolist()):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": sample.image_id,
                        "category_id": label + 1,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASS_NAMES)]
        return {"images": images, "annotations": annotations, "categories": categories}
