"""Renamed tensors -> `Imported`: what every family needs after its tensors have our names."""

import re

import torch
from torch import Tensor

from mnv2_tasks.data.class_lists import VOC_SEGMENTATION, imagenet_names
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.family import CLASSIFIER, Family
from mnv2_tasks.weights.importers.imported import Imported
from mnv2_tasks.weights.importers.width import width_overrides

SIZE_IN_NAME = re.compile(r"mobilenet_v2_[\d.]+_(\d{2,3})(?!\d)")  # Google's, such as mobilenet_v2_0.75_160
EVALUATION_CROP = 0.875  # of the shorter side, in all of these projects


def complete(family: Family, state: dict[str, Tensor], num_classes: int, source: str) -> Imported:
    """Add the counters of batches, the settings and the class names; TF's background class is dropped.

    Args:
        state: {our name: tensor}.
        num_classes: outputs of their head.

    Raises:
        ConfigError: the backbone is not one of ours in every shape.
    """
    left_out = {}
    for name in [name for name in state if name.endswith(".running_mean")]:  # old and converted files count no batches
        state.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    if family.background_first and num_classes == 1001:
        for name in (f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"):
            state[name] = state[name][1:].clone()
        left_out["classifier[0]"] = "the background class, which no image of ImageNet has"
        num_classes = 1000
    data, names = _classes(family.task, num_classes)
    overrides = [f"task={family.task}", f"data={data}", f"backbone={family.backbone}"]
    if family.shapes is None:
        overrides += width_overrides(state, source, family.note)
    else:
        _check_shapes(family, state, source)
    overrides += _size(family.task, source) + family.overrides
    return Imported(family.name, state, overrides, {family.task: names}, left_out)


def _classes(task: str, number: int) -> tuple[str, list[str]]:
    """The data set that a head of so many classes belongs to, and their names."""
    if (task, number) == ("classification", 1000):
        return "imagenet", imagenet_names()
    if (task, number) == ("mobile_deeplabv3", len(VOC_SEGMENTATION)):
        return "voc", VOC_SEGMENTATION
    return "folder", [f"class {index}" for index in range(number)]


def _size(task: str, source: str) -> list[str]:
    in_name = SIZE_IN_NAME.search(source)
    if task == "mobile_deeplabv3":
        return [f"imgsz={in_name[1] if in_name else 513}", "input.fit=pad"]
    size = int(in_name[1]) if in_name else 224
    return [f"imgsz={size}", "input.fit=centre_crop", f"input.resize={round(size / EVALUATION_CROP)}"]


def _check_shapes(family: Family, state: dict[str, Tensor], source: str) -> None:
    assert family.shapes is not None
    wrong = [name for name, shape in family.shapes.items() if name not in state or state[name].shape != shape]
    if wrong:
        raise ConfigError(
            f"{source}: the names are those of {family.name}, but {len(wrong)} tensors are missing or of another "
            f"shape, such as {wrong[0]}: another network of its kind{family.note}"
        )
