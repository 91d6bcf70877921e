"""Ours and others' networks, with random weights, and noise to learn from.

Others' are what people would use instead, as their references train and call them: channels first, eager, on images
normalised beforehand. Training is that of torchvision's references (references/classification/train.py and its
siblings): float32 on a CPU, bf16 autocast on a GPU.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torchvision.models import mobilenet_v2
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from mnv2_tasks.bench.peaks import device
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import IGNORE, Batch, Sample
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.collate import Item, collate
from mnv2_tasks.network.network import Network

SIZES = {"classification": 224, "ssdlite": 320, "mobile_deeplabv3": 513, "multitask": 513}  # pixels of a side
CLASSES = {"classification": 1000, "ssdlite": 80, "mobile_deeplabv3": 21}
KIND = {
    "classification": "classification",
    "ssdlite": "detection",
    "yolov2": "detection",
    "mobile_deeplabv3": "segmentation",
}


def our_config(task: str, size: int, *overrides: str, width: float = 1.0) -> DictConfig:
    return compose("train", [f"task={task}", f"imgsz={size}", f"width={width}", "weights=none", *overrides])


def our_network(config: DictConfig, classes: Mapping[str, int] = CLASSES) -> Network:
    """Of so many classes, {task: number}; its weights are random, and always the same."""
    torch.manual_seed(0)
    return build_network(config, {task: [f"class {i}" for i in range(classes[task])] for task in config.tasks})


def noise(count: int, size: int, classes: int, objects: int = 5) -> list[Sample]:
    """Images with what any kind of task learns from: a label, so many boxes, and ten stripes of classes."""
    rng = np.random.default_rng(0)
    stripes = np.tile(np.arange(size) * 10 // size % classes, (size, 1)).astype(np.uint8)
    samples = []
    for number in range(count):
        corners, sides = rng.uniform(0, 0.8, (objects, 2)), rng.uniform(0.05, 0.2, (objects, 2))
        samples.append(
            Sample(
                image=rng.integers(0, 256, (size, size, 3), np.uint8),
                image_id=number,
                label=int(rng.integers(classes)),
                boxes=(size * np.hstack([corners, corners + sides])).astype(np.float32),
                box_labels=rng.integers(classes, size=objects),
                mask=stripes,
            )
        )
    return samples


def our_batch(task: str, samples: Sequence[Sample]) -> Any:
    """A batch of the task's kind, whose images have the network's input size to begin with."""
    return collate(KIND[task], [Item(sample, *[sample.image.shape[:2]] * 2) for sample in samples])


def our_loss(network: Network, task: str, batch: Batch) -> Tensor:
    terms = network.loss(network.outputs({task: batch}), {task: batch})[task]
    return torch.stack(list(terms.values())).sum()


def timm_classifier() -> nn.Module:
    return optional("timm", extra="timm").create_model("mobilenetv2_100")


def transformers_classifier() -> nn.Module:
    library = optional("transformers", extra="test")
    settings = library.MobileNetV2Config(num_labels=CLASSES["classification"], tf_padding=False)
    return library.MobileNetV2ForImageClassification(settings)


def optional(library: str, *, extra: str | None = None) -> Any:
    """
    Args:
        extra: of this project, that brings it; None: only its own package does.
    """
    try:
        return import_module(library)
    except ImportError:
        command = f'-e ".[{extra}]"' if extra else library
        raise ConfigError(f"{library} is not installed: pip install {command}") from None


def torchvision_detector() -> nn.Module:
    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES["ssdlite"] + 1)


def torchvision_segmenter() -> nn.Module:
    return deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES["mobile_deeplabv3"])


PEERS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "classification": {
        "torchvision mobilenet_v2": mobilenet_v2,
        "timm mobilenetv2_100": timm_classifier,
        "Hugging Face MobileNetV2": transformers_classifier,
    },
    "ssdlite": {"torchvision ssdlite320_mobilenet_v3_large": torchvision_detector},
    "mobile_deeplabv3": {"torchvision deeplabv3_mobilenet_v3_large": torchvision_segmenter},
    "multitask": {},
}
OTHER_NETWORKS = (*PEERS["ssdlite"], *PEERS["mobile_deeplabv3"])  # whose multiply-adds are not ours


def their_prediction(task: str, make: Callable[[], nn.Module], size: int, batch: int) -> Callable[[], Any]:
    """A call from normalised pixels to boxes, class maps or logits."""
    model = make().to(device()).eval()
    if task == "ssdlite":
        pictures = list(torch.rand(batch, 3, size, size, device=device()))
        return lambda: model(pictures)
    images = torch.randn(batch, 3, size, size, device=device())
    return (lambda: model(images)["out"].argmax(1)) if task == "mobile_deeplabv3" else (lambda: model(images))


def train_theirs(task: str, make: Callable[[], nn.Module], size: int, batch: int, turns: Iterable[None]) -> None:
    """A contestant: the references' loop, a step in each turn."""
    model = make().to(device()).train()
    data = their_batch(task, noise(batch, size, CLASSES[task]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.045, momentum=0.9, weight_decay=4e-5)
    for _ in turns:
        with torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"):
            loss = their_loss(task, model, *moved(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def their_batch(task: str, samples: Sequence[Sample]) -> tuple[Any, Any]:
    """Images and targets as the references' networks take them. Their detectors' class 0 is the background."""
    images = torch.stack([torch.from_numpy(sample.image).permute(2, 0, 1) / 255 for sample in samples]).contiguous()
    if task == "ssdlite":
        targets = [{"boxes": torch.tensor(s.boxes), "labels": torch.tensor(s.box_labels) + 1} for s in samples]
        return list(images), targets
    if task == "mobile_deeplabv3":
        return images, torch.from_numpy(np.stack([s.mask for s in samples if s.mask is not None])).long()
    return images, torch.tensor([sample.label for sample in samples])


def their_loss(task: str, model: nn.Module, images: Any, targets: Any) -> Tensor:
    if task == "ssdlite":
        return torch.stack(list(model(images, targets).values())).sum()
    if task == "mobile_deeplabv3":
        return F.cross_entropy(model(images)["out"], targets, ignore_index=IGNORE)
    return F.cross_entropy(model(images), targets, label_smoothing=0.1)


def moved(batch: Any) -> Any:
    """Its tensors on the device, however they are nested."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device(), non_blocking=True), batch)
