"""One backbone and its tasks: the plain PyTorch module that trains, predicts and is exported."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnv2_tasks.contracts import Backbone, Batch, Frames, Task
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.finite import FiniteWatch, check_finite


@dataclass(frozen=True)
class Views:
    """How often a segmentation task sees an image: at each of the scales, and mirrored, too."""

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"scales={list(self.scales)}: expected factors on the input size, such as [0.5,1.0,1.5]")


ONE_VIEW = Views()


class Network(nn.Module):
    """uint8 pictures in, results of every task out, from a single pass through the backbone.

    Args:
        mean, std: per channel, of pixels in [0, 255]. They are buffers because they belong to the weights: a network
            trained on [-1, 1] inputs and one trained with ImageNet statistics are called alike.
    """

    def __init__(self, *, backbone: Backbone, tasks: dict[str, Task], mean: list[float], std: list[float]):
        super().__init__()
        if unusable := [name for name in tasks if hasattr(nn.ModuleDict, name)]:
            raise ConfigError(f"tasks.{unusable[0]}: torch has another use for this name; call the task otherwise")
        for key, values, least, what in (("mean", mean, -math.inf, "finite"), ("std", std, 0, "positive")):
            if len(values) != 3 or not all(least < value < math.inf for value in values):
                raise ConfigError(f"input.{key}={values}: expected three {what} numbers")
        self.frozen: set[str] = set()  # see `freeze`
        self.norms_frozen = False
        # all are nn.Modules, too, which a Protocol cannot say
        modules: Any = tasks
        held: Any = nn.ModuleDict(modules)
        self.backbone: Any = backbone
        self.tasks: Mapping[str, Task] = held
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def freeze(self, names: Sequence[str], *, norms: bool = False) -> None:
        """Keep the tensors of these parts as they are while the rest is trained, dropout and statistics included.

        Args:
            names: tasks, whose heads are meant; "backbone", or modules of it, such as "backbone.stem".
            norms: keep the statistics of the backbone's batch norms, whose scale and shift are still trained.
        """
        parts = ["backbone", *self.tasks, *(f"backbone.{name}" for name, _ in self.backbone.named_modules() if name)]
        unknown = [name for name in names if name not in parts]
        if unknown:
            within = f", and parts of the backbone such as {parts[1 + len(self.tasks)]}"
            raise ConfigError(f"freeze={unknown[0]}: no such part; there are backbone, {', '.join(self.tasks)}{within}")
        self.frozen, self.norms_frozen = set(names), norms
        for name in names:
            self._part(name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """Training mode, but for what is frozen."""
        super().train(mode)
        for part in map(self._part, self.frozen):
            part.eval()
        if self.norms_frozen:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _part(self, name: str) -> nn.Module:
        return self.get_submodule(f"tasks.{name}" if name in self.tasks else name)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) uint8, or float in [0, 255] -> the backbone's taps."""
        return self.backbone(normalise(images, self.mean, self.std))

    def forward(self, images: Tensor) -> dict[str, Any]:
        """What each head returns, by task name."""
        features = self.features(images)
        return {name: task.head(features) for name, task in self.tasks.items()}

    def output(self, task: str, images: Tensor) -> Any:
        """What the head of one task returns."""
        return self.tasks[task].head(self.features(images))

    def outputs(self, batches: dict[str, Batch]) -> dict[str, Any]:
        """What each head returns for its task's own batch, by task name."""
        return self.outputs_and_features(batches)[0]

    def outputs_and_features(self, batches: dict[str, Batch]) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """`outputs`, and the features that the head of each task read."""
        outputs, features = {}, {}
        for name, batch in batches.items():
            features[name] = self.features(batch.images)
            outputs[name] = self.tasks[name].head(features[name])
        return outputs, features

    def loss(self, outputs: dict[str, Any], batches: dict[str, Batch]) -> dict[str, dict[str, Tensor]]:
        """{task name: {term: scalar}} of these batches' `outputs`."""
        return {name: self.tasks[name].loss(output, batches[name]) for name, output in outputs.items()}

    def predict(self, images: Tensor, frames: Frames) -> dict[str, Any]:
        """Results of every task in the pixels of the original images, by task name.

        Raises:
            ConfigError: what the network computes is not finite; so does `predict_task`.
        """
        outputs = self(images)
        check_finite(outputs, self, lambda: self(images))
        return {name: self.tasks[name].results(output, frames) for name, output in outputs.items()}

    def predict_task(
        self, task: str, images: Tensor, frames: Frames, views: Views = ONE_VIEW, watch: FiniteWatch | None = None
    ) -> Any:
        """Results of one task, whose head alone runs; class maps from several views where those are asked for.

        Args:
            watch: raises later what is not finite, and the caller settles it; None: at once.
        """
        if self.tasks[task].kind == "segmentation" and views != ONE_VIEW:
            return self.predict_views(task, images, frames, scales=views.scales, flip=views.flip, watch=watch)
        return self.tasks[task].results(self._finite_output(task, images, watch), frames)

    def _finite_output(self, task: str, images: Tensor, watch: FiniteWatch | None) -> Any:
        output = self.output(task, images)
        check_finite({task: output}, self, lambda: self.output(task, images), watch)
        return output

    def predict_views(
        self,
        task: str,
        images: Tensor,
        frames: Frames,
        *,
        scales: Sequence[float],
        flip: bool,
        watch: FiniteWatch | None = None,
    ) -> list[Tensor]:
        """Class maps from the mean of the probabilities at several scales, each also mirrored (DeepLabv3, section 4.1).

        Memory is that of the largest view, however many there are: the sum grows in place, and nothing of one view
        is kept for the next. Sizes are TF DeepLab's, scale * (side - 1) + 1.

        Args:
            task: a segmentation task.
        """
        segmenter: Any = self.tasks[task]
        total = torch.zeros(len(images), len(segmenter.class_names), *frames.input_size, device=images.device)
        for scale in scales:
            scaled = [round(scale * (side - 1)) + 1 for side in frames.input_size]
            for mirrored in (False, True) if flip else (False,):
                total += self._probabilities_of_view(task, images, frames, scaled, watch, mirrored=mirrored)
        return segmenter.class_maps(total, frames)

    def _probabilities_of_view(
        self, task: str, images: Tensor, frames: Frames, scaled: list[int], watch: FiniteWatch | None, *, mirrored: bool
    ) -> Tensor:
        view = F.interpolate(images.float(), size=scaled, mode="bilinear", align_corners=True)
        segmenter: Any = self.tasks[task]
        output = self._finite_output(task, view.flip(3) if mirrored else view, watch)
        probabilities = segmenter.probabilities(output, frames.input_size)
        return probabilities.flip(3) if mirrored else probabilities


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, 3, H, W) pixels in [0, 255] of any type -> float32 (pixels - mean) / std, channels last.

    Args:
        mean, std: (1, 3, 1, 1), of such pixels; wider numbers than float32 make the result as wide.
    """
    mean, std = (_row(values, images.shape[3]) for values in (mean, std))
    # with 3 channels a view can count as either layout; ask for the one that convolutions are fast in
    if torch.compiler.is_compiling():  # where operations in place gain nothing, and ExecuTorch has none
        return (images.float().contiguous(memory_format=torch.channels_last) - mean) / std
    wide = torch.promote_types(torch.float32, mean.dtype)
    return images.to(wide, memory_format=torch.channels_last, copy=True).sub_(mean).div_(std)


def _row(values: Tensor, width: int) -> Tensor:
    """A value for each pixel of a row instead of one for each channel: three at a time are several times slower."""
    # the rows are made as they lie in memory: at rows that are turned afterwards LiteRT's converter fails
    return (values.permute(0, 2, 3, 1) * values.new_ones(1, 1, width, 1)).permute(0, 3, 1, 2)
