"""Each task learns four scenes by heart; planted faults show in the score."""

import pytest
import torch
from overfit import overfit

from mnv2_tasks.build import load_network
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.shapes import Shapes
from mnv2_tasks.loading.loaders import TasksData

PRIMARY = {
    "classification": "top1", "ssdlite": "AP", "ssd": "AP", "yolov2": "AP",
    "deeplabv3": "mIoU", "mobile_deeplabv3": "mIoU",
}  # fmt: skip


STEPS_TO_FIT_BOXES = 350  # until the boxes are tight; classes are right after 100


@pytest.mark.slow
@pytest.mark.parametrize("task", PRIMARY)
def test_task_overfits_four_images(task):
    steps = STEPS_TO_FIT_BOXES if PRIMARY[task] == "AP" else 150
    score = overfit(task, steps=steps)[task][PRIMARY[task]]
    assert score >= 0.75, f"{task}: {PRIMARY[task]} {score:.3f} on its own training images"


@pytest.mark.slow
def test_three_tasks_overfit_four_images_together():
    metrics = overfit("multitask")
    assert metrics["classification"]["top1"] == 1
    assert metrics["ssdlite"]["AP50"] >= 0.8
    assert metrics["mobile_deeplabv3"]["mIoU"] >= 0.8


def respoil(change):
    def spoil(batches):
        return {task: batch._replace(targets=change(batch.targets)) for task, batch in batches.items()}

    return spoil


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        respoil(lambda t: t._replace(labels=(t.labels + 1) % 8)),  # a shifted label
        respoil(lambda t: t._replace(boxes=(t.boxes * 0.75).clamp(0, 1))),  # mis-scaled boxes
        respoil(lambda t: t._replace(boxes=t.boxes[..., [1, 0, 3, 2]])),  # x and y exchanged
    ],
    ids=["shifted label", "mis-scaled box", "x and y exchanged"],
)
@pytest.mark.parametrize("task", ["ssdlite", "yolov2"])
def test_fault_in_the_targets_shows_in_ap(task, fault):
    assert overfit(task, steps=STEPS_TO_FIT_BOXES, spoil=fault)[task]["AP"] < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("task, key", [("ssdlite", "box_weight"), ("yolov2", "coord_scale")])
def test_missing_box_loss_shows_in_ap(task, key):
    assert overfit(task, f"tasks.{task}.loss.{key}=0.0", steps=STEPS_TO_FIT_BOXES)[task]["AP"] < 0.4


# ---------------------------------------------------------------- the shipped model on scenes it has never seen


@pytest.fixture(scope="module")
def seen():
    """(network, [(task name, batch, predictions)]) of the shipped multi-task model on 96 validation scenes."""
    network, passport = load_network("multitask_shapes")
    size = passport["config"]["imgsz"]
    sources = {
        name: Shapes(kind=task.kind, train_size=16, val_size=96, image_size=size, seed=0)
        for name, task in network.tasks.items()
    }
    fit = Fit(mode="square", size=size, resize=None, fill=[0, 0, 0])
    data = TasksData(sources=sources, augment=None, fit=fit, batch_size=16, workers=0, seed=0)
    network.tasks["ssdlite"].metric.__init__(sources["ssdlite"].coco_ground_truth())
    found = []
    with torch.no_grad():
        for name, loader in zip(sources, data.val_dataloader()):
            for batch in loader:
                found.append(
                    (name, batch, network.tasks[name].results(network.output(name, batch.images), batch.frames))
                )
    return network, found


def score(seen, task, change=lambda predictions: predictions):
    network, found = seen
    metric = network.tasks[task].metric
    metric.reset()
    for name, batch, predictions in found:
        if name == task:
            metric.update(change(predictions), batch)
    return metric.compute()


def test_shipped_model_knows_scenes_it_was_not_trained_on(seen):
    assert score(seen, "classification")["top1"] >= 0.85
    assert score(seen, "ssdlite")["AP50"] >= 0.65
    assert score(seen, "mobile_deeplabv3")["mIoU"] >= 0.65


@pytest.mark.parametrize(
    "change, at_most",
    [
        (lambda d: d._replace(labels=(d.labels + 1) % 8), 0.05),  # a shifted label
        (lambda d: d._replace(boxes=d.boxes * 1.1), 0.7),  # a mis-scaled box
        (lambda d: d._replace(boxes=d.boxes + 3), 0.8),  # boxes three pixels off
        (lambda d: d._replace(boxes=d.boxes[:, [1, 0, 3, 2]]), 0.3),  # x and y exchanged
        (lambda d: d._replace(scores=1 - d.scores), 0.7),  # the worst first
        (lambda d: type(d)(*(field[d.labels != 2] for field in d)), 0.93),  # a lost class
    ],
    ids=["shifted label", "mis-scaled box", "offset box", "x and y exchanged", "scores upside down", "lost class"],
)
def test_fault_in_the_detections_lowers_ap(seen, change, at_most):
    right = score(seen, "ssdlite")["AP"]
    assert score(seen, "ssdlite", lambda batch: [change(d) for d in batch])["AP"] <= at_most * right


@pytest.mark.parametrize(
    "change, at_most",
    [
        (lambda m: (m + 1) % 9, 0.05),  # a shifted label
        (lambda m: m.roll(4, dims=1), 0.9),  # a mask four pixels off
        (lambda m: m.masked_fill(m == 3, 0), 0.93),  # a lost class
    ],
    ids=["shifted label", "offset mask", "lost class"],
)
def test_fault_in_the_masks_lowers_mean_iou(seen, change, at_most):
    right = score(seen, "mobile_deeplabv3")["mIoU"]
    assert score(seen, "mobile_deeplabv3", lambda masks: [change(m) for m in masks])["mIoU"] <= at_most * right


def test_shifted_label_lowers_accuracy(seen):
    assert score(seen, "classification", lambda p: p.roll(1, dims=1))["top1"] < 0.1
