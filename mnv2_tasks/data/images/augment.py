"""Augmentation presets: what happens at random to a training picture, its boxes and its mask, up to the network's size.

Functions rather than YAML, because albumentations only warns about an argument it does not know.
"""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
import albumentations as A  # noqa: E402
import cv2  # noqa: E402

from mnv2_tasks.contracts import IGNORE, Sample  # noqa: E402
from mnv2_tasks.data.images.darknet import DarknetCrop, DarknetPlace, HSVScale  # noqa: E402
from mnv2_tasks.data.images.fit import GREY  # noqa: E402
from mnv2_tasks.data.images.policies import Policy  # noqa: E402
from mnv2_tasks.data.images.ssd_crop import SSDCrop  # noqa: E402
from mnv2_tasks.data.images.tf_crop import TFColours, TFDetectionCrop, random_part  # noqa: E402
from mnv2_tasks.data.images.transforms import transform_of  # noqa: E402
from mnv2_tasks.errors import ConfigError  # noqa: E402
from mnv2_tasks.importing import imported  # noqa: E402

Fill = tuple[int, int, int]
Preset = Callable[[int, Fill], Sequence[A.BasicTransform]]


class RandomResizedCrop(A.RandomResizedCrop):
    """The crop of Szegedy et al. 2015, with as many pixels averaged as its size asks for.

    cv2.INTER_AREA, which `area_for_downscale` takes for every crop that shrinks, costs five times as much as
    INTER_LINEAR, half as much as decoding the picture; INTER_LINEAR skips pixels from a shrinkage of two on.
    """

    def apply(self, img: np.ndarray, crop_coords: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        left, top, right, bottom = crop_coords
        height, width = self.size
        skips = max((bottom - top) / height, (right - left) / width) > 2
        method = cv2.INTER_AREA if skips else cv2.INTER_LINEAR
        return cv2.resize(img[top:bottom, left:right], (width, height), interpolation=method)


class TFResizedCrop(RandomResizedCrop):
    """The crop that TF slim trains its classifiers with: the same, but sides are as likely, not areas."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        size, least = params["shape"][:2], 0.1  # its default share of the object, which here is the picture
        part = random_part(self.py_random, size, np.zeros((0, 4)), covered=least, ratios=self.ratio, areas=self.scale)
        return {"crop_coords": part}


class StepScale(A.RandomScale):
    """By one of seven factors, a quarter apart."""

    def get_params(self) -> dict[str, Any]:
        return {"scale": self.py_random.randint(2, 8) / 4}


def none(size: int, fill: Fill) -> list[A.BasicTransform]:
    return [A.Resize(size, size)]


def light(size: int, fill: Fill) -> list[A.BasicTransform]:
    """For scenes that are drawn afresh every epoch, turned, stretched and coloured at random already."""
    return [
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        A.Resize(size, size),
    ]


def imagenet(size: int, fill: Fill) -> list[A.BasicTransform]:
    """A crop, as in torchvision's reference script, and a flip."""
    return [
        RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
        A.HorizontalFlip(p=0.5),
    ]


def inception(size: int, fill: Fill) -> list[A.BasicTransform]:
    """Crop, flip and colours as TF slim trains (research/slim/preprocessing/inception_preprocessing.py, fast mode)."""
    return [TFResizedCrop((size, size), scale=(0.05, 1.0), ratio=(0.75, 1.33)), A.HorizontalFlip(p=0.5), TFColours()]


def imagenet_trivial(size: int, fill: Fill) -> list[A.BasicTransform]:
    """torchvision's second recipe: TrivialAugment, and a tenth of the pictures with an erased rectangle."""
    return [*imagenet(size, fill), Policy("trivial", fill=fill), A.Erasing(fill=fill, p=0.1)]


def imagenet_rand(size: int, fill: Fill) -> list[A.BasicTransform]:
    """As the EfficientNets are trained: two operations of RandAugment, and a fifth with a rectangle of noise."""
    return [*imagenet(size, fill), Policy("rand", fill=fill), A.Erasing(fill="random", p=0.2)]


def ssd_crop(size: int, fill: Fill) -> list[A.BasicTransform]:
    """SSD's crops and a flip, without colours and zoom: torchvision's `ssdlite`."""
    return [SSDCrop(zoom_out=1.0, fill=fill), A.HorizontalFlip(p=0.5), A.Resize(size, size)]


def ssd_crop_tf(size: int, fill: Fill) -> list[A.BasicTransform]:
    """Flip and crop of TF's SSDLite: an object may be cut to the share that the crop must hold of one."""
    return [A.HorizontalFlip(p=0.5), TFDetectionCrop(), A.Resize(size, size)]


def ssd(size: int, fill: Fill) -> list[A.BasicTransform]:
    """Colours, zoom out or crop, flip (SSD paper, sections 2.2 and 3.6)."""
    return [
        A.ColorJitter(brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.5),
        SSDCrop(zoom_out=4.0, fill=fill),
        A.HorizontalFlip(p=0.5),
        A.Resize(size, size),
    ]


def darknet(size: int, fill: Fill) -> list[A.BasicTransform]:
    """YOLOv2's since March 2017: another aspect ratio at a random place in grey, flip, colours."""
    place = DarknetPlace(jitter=0.3, fill=(GREY, GREY, GREY))
    return [place, A.HorizontalFlip(p=0.5), A.Resize(size, size), HSVScale(hue=0.1, saturation=1.5, exposure=1.5)]


def darknet_2016(size: int, fill: Fill) -> list[A.BasicTransform]:
    """YOLOv2's of the paper: edges moved, flip, squeezed into the square, colours."""
    crop = DarknetCrop(jitter=0.2)
    return [crop, A.HorizontalFlip(p=0.5), A.Resize(size, size), HSVScale(hue=0.1, saturation=1.5, exposure=1.5)]


def deeplab(size: int, fill: Fill) -> list[A.BasicTransform]:
    """Scale by 0.5 to 2, crop, flip; what lies outside the picture has no class."""
    return [
        A.RandomScale((-0.5, 1.0), p=1.0),
        A.PadIfNeeded(size, size, fill=fill, fill_mask=IGNORE, position="random"),
        A.RandomCrop(size, size),
        A.HorizontalFlip(p=0.5),
    ]


def deeplab_tf(size: int, fill: Fill) -> list[A.BasicTransform]:
    """The same as TF's DeepLab trains: one of seven scales, and the canvas grows to the right and downwards."""
    return [
        StepScale(p=1.0),
        A.PadIfNeeded(size, size, fill=fill, fill_mask=IGNORE, position="top_left"),
        A.RandomCrop(size, size),
        A.HorizontalFlip(p=0.5),
    ]


PRESETS: dict[str, Preset] = {
    "none": none,
    "light": light,
    "imagenet": imagenet,
    "inception": inception,
    "imagenet_trivial": imagenet_trivial,
    "imagenet_rand": imagenet_rand,
    "ssd": ssd,
    "ssd_crop": ssd_crop,
    "ssd_crop_tf": ssd_crop_tf,
    "darknet": darknet,
    "darknet_2016": darknet_2016,
    "deeplab": deeplab,
    "deeplab_tf": deeplab_tf,
}
IN_PIXELS = {"deeplab", "deeplab_tf"}  # cut out a part of so many pixels, not a share of the picture
CLASSIFICATION_ONLY = {"imagenet_trivial", "imagenet_rand"}  # move pixels, and neither boxes nor masks


def find_preset(preset: str, key: str = "data.augmentation") -> Preset:
    """Ours by its name, the user's own by its path, such as own.augment.faded.

    Raises:
        ConfigError: there is none.
    """
    if preset in PRESETS:
        return PRESETS[preset]
    if "." in preset:
        return imported(preset, key)
    raise ConfigError(
        f"{key}={preset}: is unknown; there are {', '.join(PRESETS)}, functions of your own: module.function, and "
        f"lists of albumentations' transforms"
    )


def make_transforms(augmentation: str | Sequence[Any], kind: str, size: int, fill: Fill) -> list[Any]:
    """What a preset consists of, or a list of presets and of albumentations' transforms, see `transform_of`.

    Args:
        kind: "classification", "detection" or "segmentation".
        size, fill: see `Augment`.

    Raises:
        ConfigError: something of it there is not, or it spoils the annotations of this kind of task.
    """
    key = f"data.augmentation.{kind}"
    if isinstance(augmentation, str):
        _check_moves(augmentation, kind, key)
        return [*find_preset(augmentation, key)(size, fill)]
    made: list[Any] = []
    for number, step in enumerate(augmentation):
        if isinstance(step, str) and step in PRESETS:
            _check_moves(step, kind, key)
            made += PRESETS[step](size, fill)
        else:
            made.append(transform_of(step, kind, f"{key}[{number}]"))
    return [*made, A.Resize(size, size)]


def _check_moves(preset: str, kind: str, key: str) -> None:
    if preset in CLASSIFICATION_ONLY and kind != "classification":
        fit = [name for name in PRESETS if name not in CLASSIFICATION_ONLY]
        raise ConfigError(
            f"{key}={preset}: moves the picture without its boxes and masks, it is for "
            f"classification alone; for {kind} there are {', '.join(fit)}"
        )


class Augment:
    """What happens to a training sample, drawn from the key given with it and from nothing else.

    So a sample looks the same in every worker process and after a resumed run. (Compose(seed=) gives each of its
    transforms the same stream: their decisions would be perfectly correlated.)

    Args:
        augmentation, kind: see `make_transforms`.
        size: side of the network's square input, in pixels.
        fill: RGB of what lies outside the picture.

    Attributes:
        least: pixels of a picture's shorter side beyond which more would hardly be seen: the smallest crops, a third
            of a side, come from two thirds of the input's pixels. None: every pixel may count.
    """

    def __init__(self, augmentation: str | Sequence[Any], size: int, fill: list[float], kind: str = "classification"):
        first = augmentation if isinstance(augmentation, str) else next(iter(augmentation), None)
        shares = isinstance(first, str) and first in PRESETS and first not in IN_PIXELS
        self.least = 2 * size if shares else None
        boxes = A.BboxParams("pascal_voc", label_fields=["box_labels"], clip=True, min_area=1)
        red, green, blue = (round(value) for value in fill)
        made = make_transforms(augmentation, kind, size, (red, green, blue))
        self.compose = A.Compose(made, bbox_params=boxes, mask_interpolation=0)

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
