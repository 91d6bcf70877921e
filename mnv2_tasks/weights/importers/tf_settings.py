"""The settings and class names that travel with TensorFlow's weights once they have our names."""

import torch
from torch import Tensor

from mnv2_tasks.data.class_lists import VOC_SEGMENTATION, coco_categories, imagenet_names
from mnv2_tasks.weights.importers.complete import EVALUATION_CROP, SIZE_IN_NAME
from mnv2_tasks.weights.importers.family import TF_INPUT
from mnv2_tasks.weights.importers.imported import Imported
from mnv2_tasks.weights.importers.width import width_overrides

# 1 - decay. The Object Detection API trains the whole network at 0.9997, the others the backbone at 0.997
MOMENTUM = {"classification": 0.003, "ssdlite": 0.0003, "mobile_deeplabv3": 0.003, "deeplabv3": 0.003}
SIZE = {"classification": 224, "ssdlite": 300, "mobile_deeplabv3": 513, "deeplabv3": 513}


def with_settings(
    state: dict[str, Tensor],
    *,
    family: str,
    task: str,
    num_classes: int,
    source: str,
    left_out: dict[str, str],
    size: int | None = None,
    pixels: list[str] = TF_INPUT,
) -> Imported:
    """Weights under our names -> everything that an importer returns.

    Args:
        state: {our name: tensor}, without the counters of batches that torch's batch norm keeps.
        num_classes: of the head, without a background that the importer took out.
        source: the file, for messages and for the size that Google writes into names.
        size: side of the input in pixels, where the file says it; else that of the name or of the publication.
        pixels: overrides of the normalisation.

    Raises:
        ConfigError: the backbone lacks a tensor, or has the channels of no width multiplier.
    """
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for name in state
        if name.endswith(".running_mean")
    }
    state = state | counters
    if size is None:
        in_name = SIZE_IN_NAME.search(source)
        size = int(in_name[1]) if in_name else SIZE[task]
    data, names = _classes(task, num_classes)
    overrides = [f"task={task}", f"data={data}", "backbone=mobilenet_v2", *width_overrides(state, source, "")]
    overrides += ["backbone.padding=same", "backbone.norm_eps=1e-3", f"backbone.norm_momentum={MOMENTUM[task]}"]
    overrides += [f"imgsz={size}", *pixels]
    if task == "classification":
        overrides += ["input.fit=centre_crop", f"input.resize={round(size / EVALUATION_CROP)}"]
    elif task == "ssdlite":
        overrides += ["input.fit=square", "tasks.ssdlite.head.padding=same", "tasks.ssdlite.scores=sigmoid"]
    else:
        overrides += ["input.fit=pad"]
    return Imported(family, state, overrides, {task: names}, left_out)


def _classes(task: str, number: int) -> tuple[str, list[str]]:
    """The data set whose list has so many classes, and their names; numbers for somebody's own."""
    data, names = {
        "classification": ("imagenet", imagenet_names()),
        "ssdlite": ("coco", list(coco_categories().values())),
    }.get(task, ("voc", VOC_SEGMENTATION))
    return (data, names) if number == len(names) else ("folder", [f"class {index}" for index in range(number)])
