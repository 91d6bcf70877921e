"""torchvision's reference pipelines: its scripts' presets and, for detection, the transform within its model.

From references/{classification,detection,segmentation}/presets.py of torchvision, with our sizes.
"""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import transforms, tv_tensors
from torchvision.io import ImageReadMode, decode_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.reading.file_source import FileSource

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Batch = Callable[[list[int]], Any]  # indices -> what goes into the network


def classification(source: FileSource, size: int) -> Batch:
    to_float = [transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float)]
    crop = [transforms.RandomResizedCrop(size, antialias=True), transforms.RandomHorizontalFlip()]
    return _classified(source, _picture, transforms.Compose([*crop, *to_float, transforms.Normalize(MEAN, STD)]))


def classification_tensors(source: FileSource, size: int) -> Batch:
    """`--backend tensor --use-v2`"""
    crop = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    preset = v2.Compose([*crop, v2.ToDtype(torch.float, scale=True), v2.Normalize(MEAN, STD)])
    return _classified(source, lambda file: decode_image(file, ImageReadMode.RGB), preset)


def _classified(source: FileSource, read: Callable[[str], Any], preset: Callable[[Any], Tensor]) -> Batch:
    records, _ = source.verified("train")
    return lambda indices: default_collate([(preset(read(records.files[i])), int(records.labels[i])) for i in indices])


def detection(source: FileSource, size: int) -> Batch:
    """The preset `ssdlite`; its model normalises and resizes."""
    pictures = detection_pictures(source)
    model = GeneralizedRCNNTransform(size, size, MEAN, STD, size_divisible=1, fixed_size=(size, size))
    return lambda indices: model(*pictures(indices))


def detection_pictures(source: FileSource) -> Batch:
    """([(3, H, W) float in [0, 1]], [{"boxes": xyxy pixels, "labels": in [0, K)}]), augmented."""
    records, _ = source.verified("train")
    augment = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(), v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)]
    boxes_format = v2.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.XYXY)
    preset = v2.Compose([*augment, boxes_format, v2.SanitizeBoundingBoxes(), v2.ToPureTensor()])

    def sample(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        picture, rows = _picture(records.files[index]), records.boxes_of(index)
        settings: Any = {"format": "XYXY", "canvas_size": (picture.height, picture.width)}
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(records.boxes[rows]).float(), **settings)
        return preset(picture, {"boxes": boxes, "labels": torch.from_numpy(records.box_labels[rows])})

    return lambda indices: [list(column) for column in zip(*map(sample, indices))]


def segmentation(source: FileSource, size: int) -> Batch:
    """Scaled by 0.5 to 2 as ours; the reference scales a base size by as much."""
    records, sizes = source.verified("train")
    shorter, grey = int(sizes.min()), [round(255 * mean) for mean in MEAN]
    fill: dict[Any, Any] = {tv_tensors.Image: grey, Image.Image: tuple(grey), tv_tensors.Mask: IGNORE}
    dtypes: dict[Any, Any] = {tv_tensors.Image: torch.float, tv_tensors.Mask: torch.int64, "others": None}
    crop = [v2.RandomHorizontalFlip(), v2.RandomCrop(size, pad_if_needed=True, fill=fill)]
    to_float = [v2.PILToTensor(), v2.ToImage(), v2.ToDtype(dtypes, scale=True), v2.Normalize(MEAN, STD)]
    preset = v2.Compose([v2.RandomResize(shorter // 2, 2 * shorter), *crop, *to_float, v2.ToPureTensor()])

    def sample(index: int) -> Any:
        mask = tv_tensors.Mask(v2.functional.pil_to_tensor(Image.open(records.masks[index])))
        return preset(_picture(records.files[index]), mask)

    return lambda indices: default_collate([sample(i) for i in indices])


def _picture(file: str) -> Image.Image:
    with open(file, "rb") as opened:
        return Image.open(opened).convert("RGB")


REFERENCES: dict[str, dict[str, Callable[[FileSource, int], Batch]]] = {
    "classification": {"torchvision, Pillow": classification, "torchvision, tensors": classification_tensors},
    "detection": {"torchvision, v2 on Pillow": detection},
    "segmentation": {"torchvision, v2 on Pillow": segmentation},
}
