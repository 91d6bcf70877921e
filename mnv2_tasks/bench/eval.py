"""what=eval: from predictions to numbers."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from mnv2_tasks.bench.eval_coco import coco
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import IGNORE, Frames, SegmentationBatch
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.metrics.mean_iou import MeanIoU
from mnv2_tasks.network.cost import LiveBytes
from mnv2_tasks.tasks.segmentation import SegmentationTask

SIDE, CLASSES = 513, 21
CELLS = 33  # of the logits: output stride 16
TASK = "mobile_deeplabv3"
SCALES = ([1.75], [1.0, 1.75], [0.75, 1.0, 1.25, 1.75], [0.5, 0.75, 1.0, 1.25, 1.5, 1.75])


def measure(config: DictConfig, out: Path) -> list[Table]:
    quick, repeats = config.quick, config.repeats
    return [
        coco(images=50 if quick else 5000, rounds=repeats or (1 if quick else 3)),
        segmentation(images=1 if quick else 4, rounds=repeats or (2 if quick else 15)),
        views(SCALES[:2] if quick else SCALES),
    ]


def segmentation(images: int, rounds: int) -> Table:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, CLASSES, (images, 1, 12, 12), generator=generator).float()
    masks = F.interpolate(coarse, size=(SIDE, SIDE))[:, 0].byte()
    masks[torch.rand(masks.shape, generator=generator) < 0.05] = IGNORE
    wrong = torch.randint(0, CLASSES, masks.shape, generator=generator)
    found = torch.where((torch.rand(masks.shape, generator=generator) < 0.2) | (masks == IGNORE), wrong, masks.long())
    sizes = torch.tensor([[SIDE, SIDE]] * images)
    frames = Frames((SIDE, SIDE), sizes, sizes)
    batch = SegmentationBatch(masks[:, None], masks, torch.arange(images), frames)
    logits = torch.randn(images, CLASSES, CELLS, CELLS, generator=generator)
    names = [str(i) for i in range(CLASSES)]
    task = SegmentationTask(head=torch.nn.Identity(), class_names=names)

    def ours() -> Tensor:
        metric = MeanIoU(names)
        metric.update(list(found), batch)
        return torch.from_numpy(metric.confusion)

    def torchmetrics(*, validate_args: bool) -> Tensor:
        metric = MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE, validate_args=validate_args)
        metric.update(found, masks.long())
        return metric.confmat

    def argmax() -> Tensor:
        return F.interpolate(logits, size=(SIDE, SIDE), mode="bilinear", align_corners=True).argmax(1)

    tables = [
        ("confusion", "ours", ours),
        ("confusion", "torchmetrics, validate_args=False", lambda: torchmetrics(validate_args=False)),
        ("confusion", "torchmetrics", lambda: torchmetrics(validate_args=True)),
        ("class map from logits", "ours", lambda: torch.stack(task.results(logits, frames))),
        ("class map from logits", "interpolate, argmax", argmax),
    ]
    taken, agree = _by_turns([call for *_, call in tables], rounds)
    own = {what: seconds for (what, by, _), seconds in zip(tables, taken) if by == "ours"}
    answers = {what: answer for (what, by, _), answer in zip(tables, agree) if by == "ours"}
    rows = []
    for (what, by, _), seconds, answer in zip(tables, taken, agree):
        ratio = statistics.median(theirs / mine for theirs, mine in zip(seconds, own[what]))
        same = (answer == answers[what]).double().mean().item()
        equal = "" if by == "ours" else "all" if same == 1 else f"{100 * same:.4f} %"
        rows.append([what, by, 1e3 * statistics.median(seconds) / images, None if by == "ours" else ratio, equal])
    return Table(
        f"Segmentation, {SIDE} x {SIDE} pixels, {CLASSES} classes, {images} images at once",
        ["what", "by", "ms/image", "ours is faster by", "equal to ours"],
        rows,
        [f"Medians of {rounds} rounds by turns. Ours also keeps each image's counts. Class maps may differ in ties."],
    )


def _by_turns(calls: Sequence[Callable[[], Tensor]], rounds: int) -> tuple[list[list[float]], list[Tensor]]:
    """Seconds of each call in each round, and what each returned."""
    answers = [call() for call in calls]  # also warms up
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, seconds in zip(calls, taken):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return taken, answers


def views(several: Sequence[list[float]]) -> Table:
    config = compose("train", [f"task={TASK}", f"imgsz={SIDE}"])
    network = build_network(config, {TASK: [str(i) for i in range(CLASSES)]}).eval().to("meta")
    images = torch.empty(1, 3, SIDE, SIDE, dtype=torch.uint8, device="meta")
    sizes = torch.tensor([[SIDE, SIDE]])
    rows = []
    for scales in several:
        live = LiveBytes([images, *network.parameters(), *network.buffers()])
        with torch.no_grad(), live:
            network.predict_views(TASK, images, Frames((SIDE, SIDE), sizes, sizes), scales=scales, flip=True)
        rows.append([f"{len(scales)}: {', '.join(map(str, scales))}", 2 * len(scales), live.peak / 2**20])
    return Table(
        f"Memory of several scales and mirrored views, {SIDE} x {SIDE} pixels, {CLASSES} classes",
        ["scales", "views", "peak of what is alive, MiB"],
        rows,
        [f"Counted, not sampled. The probabilities of one view are {4 * CLASSES * SIDE**2 / 2**20:.0f} MiB."],
    )
