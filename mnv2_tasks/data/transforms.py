"""Albumentations presets: what happens to a picture, its boxes and its mask before the network sees it.

Functions rather than YAML, because albumentations only warns about an argument it does not know.
"""

import os
import random

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
import albumentations as A  # noqa: E402

from mnv2_tasks.contracts import Sample  # noqa: E402

NOTHING: list[A.BasicTransform] = []
# for scenes that are drawn afresh every epoch, turned, stretched and coloured at random already
LIGHT: list[A.BasicTransform] = [
    A.HorizontalFlip(p=0.5),
    A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
]
PRESETS = {"none": NOTHING, "light": LIGHT}


class Transform:
    """A preset, then a resize to the square that the network is built for.

    Randomness comes from the key given with each sample and from nothing else, so a sample looks the same in every
    worker process and after a resumed run. (Compose(seed=) gives each of its transforms the same stream: their
    decisions would be perfectly correlated.)

    Args:
        preset: a name in PRESETS.
        size: side of the square, in pixels.
    """

    def __init__(self, preset: str, size: int):
        boxes = A.BboxParams("pascal_voc", label_fields=["box_labels"], clip=True, min_area=1)
        self.compose = A.Compose([*PRESETS[preset], A.Resize(size, size)], bbox_params=boxes, mask_interpolation=0)

    def __call__(self, sample: Sample, key: tuple[int, ...]) -> Sample:
        rng = np.random.default_rng(key)
        self.compose.set_random_state(rng, random.Random(int(rng.integers(2**32))))
        has_boxes = sample.boxes is not None
        fields = {
            "image": sample.image,
            "bboxes": sample.boxes if has_boxes else np.zeros((0, 4), np.float32),
            "box_labels": sample.box_labels if has_boxes else [],
            **({"mask": sample.mask} if sample.mask is not None else {}),
        }
        out = self.compose(**fields)
        return sample._replace(
            image=out["image"],
            boxes=np.asarray(out["bboxes"], np.float32).reshape(-1, 4) if has_boxes else None,
            box_labels=np.asarray(out["box_labels"], np.int64) if has_boxes else None,
            mask=out.get("mask"),
        )
