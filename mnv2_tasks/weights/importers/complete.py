"""Renamed tensors -> `Imported`: the settings and class names that every importer adds once tensors have our names."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mnv2_tasks.data.class_lists import CITYSCAPES, VOC_OBJECTS, VOC_SEGMENTATION, coco_categories, imagenet_names
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.family import CLASSIFIER, Family, Imported
from mnv2_tasks.weights.importers.width import width_overrides

SIZE = {"classification": 224, "ssdlite": 300, "mobile_deeplabv3": 513, "deeplabv3": 513}  # as published
SIZE_IN_NAME = re.compile(r"mobilenet_v[12]_[\d.]+_(\d{2,3})(?!\d)")  # Google's, such as mobilenet_v2_0.75_160
EVALUATION_CROP = 0.875  # of the shorter side, in all of these projects


def complete(
    state: Mapping[str, Tensor],
    *,
    family: str,
    task: str,
    num_classes: int,
    source: str,
    overrides: list[str],
    left_out: dict[str, str],
    backbone: str = "mobilenet_v2",
    shapes: dict[str, torch.Size] | None = None,
    size: int | None = None,
    note: str = "",
    labels: list[str] | None = None,
) -> Imported:
    """Add the counters of batches, the settings and the class names.

    Args:
        state: {our name: tensor}.
        num_classes: of the head, without a background that the importer took out.
        source: the file, for messages and for the size that Google writes into names.
        overrides: settings of layers and input that travel with the weights.
        shapes: {our name: shape} of a backbone of one width; None: MobileNetV2's, whose channels tell the width.
        size: side of the input in pixels, where the file says it; else that of the name or of the publication.
        note: the end of the message when the shapes fit no network of ours.
        labels: names of the classes, where the file says them.

    Raises:
        ConfigError: the backbone is not one of ours in every shape.
    """
    state = with_counters(state)
    if size is None:
        in_name = SIZE_IN_NAME.search(source)
        size = int(in_name[1]) if in_name else SIZE[task]
    data, names = classes_of(task, num_classes)
    if labels is not None and not _nearly_equal(labels, names):
        data, names = "folder", labels
    if shapes is None:
        width = width_overrides(state, source, note)
    else:
        width = []  # among the overrides
        _check_shapes(state, shapes, f"{source}: the names are those of {family}", note)
    said = {override.partition("=")[0] for override in overrides}
    fit = [setting for setting in _fit(task, size) if setting.partition("=")[0] not in said]
    settings = [f"task={task}", f"data={data}", f"backbone={backbone}", *width, f"imgsz={size}", *fit]
    return Imported(family, state, settings + overrides, {task: names}, left_out)


def complete_family(
    family: Family, state: dict[str, Tensor], num_classes: int, source: str, left_out: dict[str, str]
) -> Imported:
    """`complete` with what a family says of its weights; TF's background class is dropped.

    Raises:
        ConfigError: the backbone is not one of ours in every shape.
    """
    if family.background_first and num_classes == 1001:
        state = state | {name: state[name][1:].clone() for name in (f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias")}
        left_out = left_out | {"classifier[0]": "the background class, which no image of ImageNet has"}
        num_classes = 1000
    return complete(
        state,
        family=family.name,
        task=family.task,
        num_classes=num_classes,
        source=source,
        overrides=family.overrides,
        left_out=left_out,
        backbone=family.backbone,
        shapes=family.shapes,
        note=family.note,
    )


def with_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """And the counters of batches, which old and converted files lack."""
    state = dict(state)
    for name in [name for name in state if name.endswith(".running_mean")]:
        state.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return state


def classes_of(task: str, number: int) -> tuple[str, list[str]]:
    """The data set whose list has so many classes, and their names; numbers for somebody's own."""
    if task in ("mobile_deeplabv3", "deeplabv3") and number == len(CITYSCAPES):
        return "folder", CITYSCAPES  # which is laid out as one
    data, names = {
        "classification": ("imagenet", imagenet_names()),
        "ssdlite": ("coco", list(coco_categories().values())),
        "yolov2": ("voc", VOC_OBJECTS) if number == len(VOC_OBJECTS) else ("coco", list(coco_categories().values())),
    }.get(task, ("voc", VOC_SEGMENTATION))
    return (data, names) if number == len(names) else ("folder", numbered_classes(number))


def numbered_classes(number: int) -> list[str]:
    """Of weights that do not say the names."""
    return [f"class {index}" for index in range(number)]


def _nearly_equal(labels: list[str], names: list[str]) -> bool:
    """Whether they are the known classes, of which lists spell a few otherwise: our data know them by our names."""
    equal = sum(label.casefold() == name.casefold() for label, name in zip(labels, names))
    return equal >= 0.9 * len(names)


def _fit(task: str, size: int) -> list[str]:
    """How an image becomes the input, where the importer does not say it."""
    if task == "classification":
        return ["input.fit=centre_crop", f"input.resize={round(size / EVALUATION_CROP)}"]
    return ["input.fit=pad"]


def _check_shapes(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], subject: str, note: str) -> None:
    wrong = [name for name, shape in shapes.items() if name not in state or state[name].shape != shape]
    if wrong:
        raise ConfigError(
            f"{subject}, but {len(wrong)} tensors are missing or of another shape, such as {wrong[0]}: "
            f"another network of its kind{note}"
        )
