"""Training as torchvision's references do it (references/classification/train.py and its siblings)."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.bench.peaks import device
from mnv2_tasks.bench.turns import Lap
from mnv2_tasks.errors import ConfigError

Step = tuple[nn.Module, Callable[[], Tensor]]  # what is trained, and the loss of one batch


def loop(make: Callable[[Any], Step], contest: Any, turns: Iterator[Lap]) -> None:
    model, loss_of = make(contest)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.045, momentum=0.9, weight_decay=4e-5)
    for _ in turns:
        with autocast():
            loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def autocast() -> torch.autocast:
    return torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda")


def moved(value: Any) -> Any:
    """A batch on the device, however its tensors are nested."""
    if isinstance(value, Tensor):
        return value.to(device(), non_blocking=True)
    if isinstance(value, dict):
        return {key: moved(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(moved, value))
    return [moved(part) for part in value] if isinstance(value, list) else value


def five_boxes(count: int, classes: int) -> tuple[list[Tensor], list[Tensor]]:
    """For each image (5, 4) float32 xyxy fractions, and (5,) int64 labels."""
    corners = torch.rand(count, 5, 2) * 0.6
    boxes = torch.cat([corners, corners + 0.1 + 0.3 * torch.rand(count, 5, 2)], dim=2)
    return list(boxes), list(torch.randint(0, classes, (count, 5)))


def stripes(count: int, size: int) -> Tensor:
    """(B, H, W) int64: ten classes."""
    return (torch.arange(size) * 10 // size).expand(count, size, size).contiguous()


def torchvision_classifier(contest: Any) -> Step:
    from torchvision.models import mobilenet_v2

    return _classifier(mobilenet_v2(num_classes=contest.classes), contest)


def timm_classifier(contest: Any) -> Step:
    try:
        import timm
    except ImportError:
        raise ConfigError('timm is not installed: pip install -e ".[timm]"') from None
    return _classifier(timm.create_model("mobilenetv2_100", num_classes=contest.classes), contest)


def _classifier(model: nn.Module, contest: Any) -> Step:
    model = model.to(device()).train()
    batch = torch.randn(contest.batch, 3, contest.size, contest.size), torch.randint(contest.classes, (contest.batch,))

    def loss() -> Tensor:
        images, labels = moved(list(batch))
        return F.cross_entropy(model(images), labels, label_smoothing=0.1)

    return model, loss


def torchvision_detector(contest: Any) -> Step:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=contest.classes + 1)
    model = model.to(device()).train()
    images = list(torch.rand(contest.batch, 3, contest.size, contest.size))
    targets = [
        {"boxes": boxes * contest.size, "labels": labels + 1}
        for boxes, labels in zip(*five_boxes(contest.batch, contest.classes))
    ]
    return model, lambda: torch.stack(list(model(moved(images), moved(targets)).values())).sum()


def torchvision_segmenter(contest: Any) -> Step:
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    model = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=contest.classes)
    model = model.to(device()).train()
    images, masks = torch.randn(contest.batch, 3, contest.size, contest.size), stripes(contest.batch, contest.size)

    def loss() -> Tensor:
        return F.cross_entropy(model(moved(images))["out"], moved(masks), ignore_index=255)

    return model, loss
