"""Distillation: a network learns, besides its labels, what a better one says of the same images."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mnv2_tasks.contracts import IGNORE, Batch, SegmentationBatch, SSDOutput, Task, YOLOv2Output
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.network import Network

REGRESSION = {"box"}  # loss terms that the teacher's classes do not replace


class Distillation:
    """Kullback-Leibler divergence of the student's class probabilities from the teacher's (Hinton et al. 2015).

    The teacher sees the very images of the student, mixed and erased alike, in evaluation mode and without gradients.
    It normalises them by its own mean and std. This is no nn.Module, so that a module which holds it has the teacher
    neither among its parameters nor in its checkpoints.

    Args:
        teacher: has exactly one task of the kind of each task that it teaches, with equal classes.
        student: the network that is trained.
        alpha: share of the teacher in the loss of the classes; 1 leaves the labels out. Boxes are learned as before.
        temperature: both sides' logits are divided by it, and the divergence is multiplied by its square.
        imgsz: side of the training images, in pixels.
    """

    def __init__(self, *, teacher: Network, student: Network, alpha: float, temperature: float, imgsz: int):
        if not 0 < alpha <= 1:
            raise ConfigError(f"distillation.alpha={alpha}: expected a share in (0, 1]")
        if temperature <= 0:
            raise ConfigError(f"distillation.temperature={temperature}: expected a positive number")
        self.teacher = teacher.eval().requires_grad_(False)
        self.alpha, self.temperature = alpha, temperature
        self.taught_tasks = _taught_tasks(teacher, student)  # {student's task: teacher's task}
        _check_anchors(teacher, student, self.taught_tasks, imgsz)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Distillation":
        return self  # the averaged copy of a module needs no teacher of its own

    def __call__(
        self, terms: dict[str, dict[str, Tensor]], outputs: dict[str, Any], batches: dict[str, Batch]
    ) -> dict[str, dict[str, Tensor]]:
        """The loss terms of each task, those of its classes weighed against a further one, `distillation`.

        Args:
            terms, outputs: what the student's `loss` and `outputs` returned for these batches.
        """
        weighed = dict(terms)
        for name, teacher_task in self.taught_tasks.items():
            if name in batches:
                labels = {k: v if k in REGRESSION else (1 - self.alpha) * v for k, v in terms[name].items()}
                divergence = self._divergence(teacher_task, outputs[name], batches[name])
                weighed[name] = {**labels, "distillation": self.alpha * divergence}
        return weighed

    def _divergence(self, teacher_task: str, student: Tensor | SSDOutput | YOLOv2Output, batch: Batch) -> Tensor:
        """Scalar; `student` is what the student's head returned."""
        if self.teacher.device != batch.images.device:
            self.teacher.to(batch.images.device)
        with torch.no_grad():
            teacher = self.teacher.output(teacher_task, batch.images)
        if not isinstance(student, Tensor):
            student_logits, teacher_logits = _with_background(student), _with_background(teacher)
            # as many anchors as the labels' loss counts
            objects = (1 - teacher_logits.softmax(2)[..., -1]).sum().clamp(min=1)
            return self._elementwise(student_logits, teacher_logits, dim=2).sum() / objects
        if student.ndim == 2:  # (B, K)
            return self._elementwise(student, teacher, dim=1).mean()
        teacher = F.interpolate(teacher.float(), student.shape[2:], mode="bilinear", align_corners=True)
        assert isinstance(batch, SegmentationBatch)
        cells = F.interpolate(batch.masks[:, None].float(), student.shape[2:], mode="nearest")[:, 0]
        counted = (cells != IGNORE).float()  # (B, h, w): not what lies outside the pictures
        return (self._elementwise(student, teacher, dim=1) * counted).sum() / counted.sum().clamp(min=1)

    def _elementwise(self, student_logits: Tensor, teacher_logits: Tensor, dim: int) -> Tensor:
        """Divergences, with the classes in `dim` summed."""
        student, teacher = (
            (logits.float() / self.temperature).log_softmax(dim) for logits in (student_logits, teacher_logits)
        )
        return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim) * self.temperature**2


def _with_background(output: SSDOutput | YOLOv2Output) -> Tensor:
    """(B, A, K + 1) float32 logits, of background last."""
    if isinstance(output, SSDOutput):
        return output.class_logits.float()
    objectness = output.objectness.float()[..., None]
    classes = F.logsigmoid(objectness) + output.class_logits.float().log_softmax(dim=-1)
    return torch.cat([classes, F.logsigmoid(-objectness)], dim=-1)


def _taught_tasks(teacher: Network, student: Network) -> dict[str, str]:
    taught_tasks = {}
    for name, task in student.tasks.items():
        able = [other for other, theirs in teacher.tasks.items() if theirs.kind == task.kind]
        if len(able) > 1:
            raise ConfigError(f"distillation.teacher: has several tasks that could teach {name}: {', '.join(able)}")
        if able:
            _check_classes(teacher.tasks[able[0]].class_names, task.class_names, name)
            if "sigmoid" in (_scores(task), _scores(teacher.tasks[able[0]])):
                raise ConfigError(f"distillation: {name} and its teacher need tasks.{name}.scores=softmax")
            taught_tasks[name] = able[0]
    if not taught_tasks:
        raise ConfigError(
            f"distillation.teacher: is for {', '.join(teacher.tasks)}, "
            f"it can teach nothing of {', '.join(student.tasks)}"
        )
    return taught_tasks


def _scores(task: Task) -> str | None:
    return getattr(task, "scores", None)


def _check_classes(theirs: list[str], ours: list[str], task: str) -> None:
    if theirs == ours:
        return
    first = next((pair for pair in zip(theirs, ours) if pair[0] != pair[1]), None)
    how = f"the first that differs: {first[0]!r}, here {first[1]!r}" if first else "one has more than the other"
    raise ConfigError(
        f"distillation.teacher: knows {len(theirs)} classes, {task} has {len(ours)}; {how}. "
        f"Teacher and student need the same classes in the same order"
    )


@torch.no_grad()
def _check_anchors(teacher: Network, student: Network, taught_tasks: dict[str, str], imgsz: int) -> None:
    detectors = [name for name in taught_tasks if student.tasks[name].kind == "detection"]
    for name in detectors:
        anchors = []
        for network, task in ((student, name), (teacher, taught_tasks[name])):
            was_training, image = network.training, torch.zeros(1, 3, imgsz, imgsz, device=network.device)
            anchors.append(network.eval().output(task, image).anchors)
            network.train(was_training)
        ours, theirs = anchors
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=1e-4):
            raise ConfigError(
                f"distillation.teacher: has {len(theirs)} anchors at {imgsz} px, {name} has {len(ours)}, or others. "
                f"Anchor by anchor they can be compared only if both heads lay out the same"
            )
