"""Distillation: a network learns, besides its labels, what a better one says of the same images."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.contracts import IGNORE, Batch, SSDOutput
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
        self.lessons = _lessons(teacher, student)  # {student's task: teacher's task}
        _check_anchors(teacher, student, self.lessons, imgsz)
        self.said: dict[str, Any] = {}  # what the student's heads returned last, which task.loss does not pass on
        for name in self.lessons:
            student.tasks[name].head.register_forward_hook(partial(self._listen, name))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Distillation":
        return self  # the averaged copy of a module needs no teacher of its own

    def _listen(self, name: str, head: nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():  # in training; a frozen head is in evaluation mode there, too
            self.said[name] = output

    def __call__(self, terms: dict[str, dict[str, Tensor]], batches: dict[str, Batch]) -> dict[str, dict[str, Tensor]]:
        """The loss terms of each task, those of its classes weighed against a further one, `distillation`.

        Args:
            terms: what the student's `loss` has just returned for these batches.
        """
        out = dict(terms)
        for name, taught_by in self.lessons.items():
            if name in batches:
                labels = {k: v if k in REGRESSION else (1 - self.alpha) * v for k, v in terms[name].items()}
                divergence = self._divergence(taught_by, self.said.pop(name), batches[name])
                out[name] = {**labels, "distillation": self.alpha * divergence}
        return out

    def _divergence(self, taught_by: str, said: Tensor | SSDOutput, batch: Batch) -> Tensor:
        if self.teacher.mean.device != batch.images.device:
            self.teacher.to(batch.images.device)
        with torch.no_grad():
            wanted = self.teacher.tasks[taught_by].head(self.teacher.features(batch.images))
        if isinstance(said, SSDOutput):
            wanted = wanted.class_logits.float()  # (B, A, K + 1)
            objects = (1 - wanted.softmax(2)[..., -1]).sum().clamp(min=1)  # as many anchors as the labels' loss counts
            return self._elementwise(said.class_logits, wanted, dim=2).sum() / objects
        if said.ndim == 2:  # (B, K)
            return self._elementwise(said, wanted, dim=1).mean()
        wanted = F.interpolate(wanted.float(), said.shape[2:], mode="bilinear", align_corners=True)
        cells = F.interpolate(batch.masks[:, None].float(), said.shape[2:], mode="nearest")[:, 0]
        counted = (cells != IGNORE).float()  # (B, h, w): not what lies outside the pictures
        return (self._elementwise(said, wanted, dim=1) * counted).sum() / counted.sum().clamp(min=1)

    def _elementwise(self, said: Tensor, wanted: Tensor, dim: int) -> Tensor:
        """Divergences, with the classes in `dim` summed."""
        ours, theirs = ((logits.float() / self.temperature).log_softmax(dim) for logits in (said, wanted))
        return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim) * self.temperature**2


def _lessons(teacher: Network, student: Network) -> dict[str, str]:
    lessons = {}
    for name, task in student.tasks.items():
        able = [other for other, theirs in teacher.tasks.items() if theirs.kind == task.kind]
        if len(able) > 1:
            raise ConfigError(f"distillation.teacher: has several tasks that could teach {name}: {', '.join(able)}")
        if able:
            _check_classes(teacher.tasks[able[0]].class_names, task.class_names, name)
            if "sigmoid" in (_scores(task), _scores(teacher.tasks[able[0]])):
                raise ConfigError(f"distillation: {name} and its teacher need tasks.{name}.scores=softmax")
            lessons[name] = able[0]
    if not lessons:
        raise ConfigError(
            f"distillation.teacher: is for {', '.join(teacher.tasks)}, "
            f"it can teach nothing of {', '.join(student.tasks)}"
        )
    return lessons


def _scores(task: nn.Module) -> str | None:
    return getattr(task, "postprocess", {}).get("scores")


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
def _check_anchors(teacher: Network, student: Network, lessons: dict[str, str], imgsz: int) -> None:
    detectors = [name for name in lessons if student.tasks[name].kind == "detection"]
    for name in detectors:
        anchors = []
        for network, task in ((student, name), (teacher, lessons[name])):
            was_training, image = network.training, torch.zeros(1, 3, imgsz, imgsz, device=network.mean.device)
            anchors.append(network.eval().tasks[task].head(network.features(image)).anchors)
            network.train(was_training)
        ours, theirs = anchors
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=1e-4):
            raise ConfigError(
                f"distillation.teacher: has {len(theirs)} anchors at {imgsz} px, {name} has {len(ours)}, or others. "
                f"Anchor by anchor they can be compared only if both heads lay out the same"
            )
