"""What Python programs call, and `mnv2_tasks` offers under its own name: the verbs of the command line."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from mnv2_tasks.build import load_with_passport, partial_of
from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import options_of
from mnv2_tasks.contracts import Backbone, FeatureSpec
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import mend_convolutions
from mnv2_tasks.network.devices import FLOAT32
from mnv2_tasks.network.network import normalise
from mnv2_tasks.prediction.least_scores import Thresholds, least_scores
from mnv2_tasks.prediction.only_shapes import say_if_only_shapes
from mnv2_tasks.prediction.predictor import Predictor, Unread, load_predictor
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.prediction.sources import Input, Picture, inputs_of, is_one
from mnv2_tasks.stored.run_files import read_scores
from mnv2_tasks.weights.find import find_weights, manifest
from mnv2_tasks.wording import counted, log_to_screen

MIN_SCORE, BATCH = 0.4, 16  # as in conf/predict.yaml


def load(
    weights: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = FLOAT32,
    trust: bool = False,
    compile: bool = False,
    split: int | Literal["auto"] = 1,
    memory: int | str | None = None,
) -> "LoadedModel":
    """A network that is ready to predict.

    Args:
        weights: a name of `list_weights()`, a path, a run folder, a file that `export` wrote; https://, with
            #sha256=<digits> behind, if you know them; or hf_hub:owner/name@revision.
        device: auto (an accelerator, if there is one), cpu, cuda, cuda:1 or mps.
        precision: 32-true, or bf16-mixed, 16-mixed, auto: less exact, and faster where the hardware computes so.
        trust: the file is your own: it may name any class, and run code as it is loaded.
        compile: torch.compile: a minute or more before the first picture, then faster.
        split: shares in which each bottleneck computes its inner tensor, for less memory and the same results: 1 is
            whole, 2 to 5 are useful; "auto": as few as `memory` needs, of each.
        memory: with split="auto", what the activations of an image may take: bytes, or such as "1500k" or "2MiB".

    Raises:
        ConfigError: there is no such file, it cannot be read, or not used on this device; or it cannot be split so.
    """
    named = os.fspath(weights)
    predictor, passport = load_predictor(
        named, device, compiled=compile, precision=precision, trust=trust, split=split, memory=memory
    )
    return LoadedModel(named, predictor, passport, trust=trust)


class LoadedModel:
    """A network with all that belongs to its weights. Several threads may predict with it at once."""

    def __init__(self, weights: str, predictor: Predictor, passport: Mapping[str, Any], *, trust: bool):
        self.weights, self.trust = weights, trust
        self._predictor, self._passport = predictor, passport
        tasks = predictor.network.tasks
        self.names: dict[str, list[str]] = {name: list(task.class_names) for name, task in tasks.items()}
        """{task: its classes}; index i is label i."""

    @overload
    def __call__(
        self,
        source: Picture,
        *,
        min_score: float = MIN_SCORE,
        classes: Iterable[str] | None = None,
        thresholds: Thresholds | None = None,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        source: Iterable[Picture],
        *,
        min_score: float = MIN_SCORE,
        classes: Iterable[str] | None = None,
        thresholds: Thresholds | None = None,
    ) -> list[Result]: ...

    def __call__(
        self,
        source: Any,
        *,
        min_score: float = MIN_SCORE,
        classes: Iterable[str] | None = None,
        thresholds: Thresholds | None = None,
    ) -> Result | list[Result]:
        """What is found in one picture, or in each of several.

        Args:
            source: a picture: a path, a URL, the bytes of a file, a PIL image, a uint8 RGB array (H, W, 3), (H, W, 4)
                or grey (H, W), a uint8 tensor (3, H, W); or a list or an iterator of such.
            min_score, classes, thresholds: which boxes are kept, as of `predict`.

        Raises:
            ConfigError: there is no such file, or it is something else.
            DataError: a picture cannot be read.
        """
        if not is_one(source):
            return self.predict(source, min_score=min_score, classes=classes, thresholds=thresholds)
        inputs = list(inputs_of(source))
        if len(inputs) != 1:
            named, given = (source, f"{str(source)!r}") if isinstance(source, str | os.PathLike) else ("picture", "it")
            raise ConfigError(f"{named}: are {counted(len(inputs), 'picture')}; say model.predict({given})")
        (outcome,) = self._outcomes(source, inputs, 1, min_score, classes, thresholds)
        return _result_or_raise(outcome)

    @overload
    def predict(
        self,
        source: Picture | Iterable[Picture],
        *,
        batch: int = BATCH,
        min_score: float = MIN_SCORE,
        classes: Iterable[str] | None = None,
        thresholds: Thresholds | None = None,
        stream: Literal[False] = False,
    ) -> list[Result]: ...

    @overload
    def predict(
        self,
        source: Picture | Iterable[Picture],
        *,
        batch: int = BATCH,
        min_score: float = MIN_SCORE,
        classes: Iterable[str] | None = None,
        thresholds: Thresholds | None = None,
        stream: Literal[True],
    ) -> Iterator[Result]: ...

    def predict(
        self,
        source: Any,
        *,
        batch: int = BATCH,
        min_score: float = MIN_SCORE,
        classes: Iterable[str] | None = None,
        thresholds: Thresholds | None = None,
        stream: bool = False,
    ) -> list[Result] | Iterator[Result]:
        """What is found in each picture of a source, in order.

        Args:
            source: as of a call; or a folder with all below it, a glob such as "photos/*.jpg", or a file of several
                pages or frames, each of which is a picture.
            batch: pictures per pass through the network.
            min_score: boxes that score less are left out, 0 to 1.
            classes: names; boxes of other classes are left out. Masks and probabilities keep all classes.
            thresholds: {task: {class: score}}, or a file of it such as tools/eval.py writes: in place of `min_score`
                for the classes that it names.
            stream: return an iterator, which holds one batch at a time, in place of a list.

        Raises:
            ConfigError: nothing is there, or a value is out of range.
            DataError: a picture cannot be read; those before it were yielded, if they are streamed.
        """
        outcomes = self._outcomes(source, inputs_of(source), batch, min_score, classes, thresholds)
        results = map(_result_or_raise, outcomes)
        return results if stream else list(results)

    def _outcomes(
        self, source: object, inputs: Iterable[Input], batch: int, min_score: float, classes: Any, thresholds: Any
    ) -> Iterator[Result | Unread]:
        say_if_only_shapes(self.weights, self._passport, source)
        tasks = self._predictor.network.tasks
        least = least_scores(tasks, min_score=min_score, classes=classes, thresholds=thresholds)
        return self._predictor.results(inputs, batch=batch, least=least)

    def evaluate(
        self, *, data: str | None = None, root: str | os.PathLike[str] | None = None, **settings: Any
    ) -> dict[str, Any]:
        """Its scores on a data set, as tools/eval.py has them: {"AP": ...}, {"mIoU": ...}, {"top1": ...} and more.

        Args:
            data: coco, voc, imagenet, folder or the like; None: what it was trained on.
            root: the folder of the data.
            settings: other keys of tools/eval.py, such as batch=8, or **{"data.val": "test"}.
        """
        from mnv2_tasks.evaluation.evaluate import evaluate  # Lightning, which prediction does not need

        log_to_screen()
        words = {"weights": self.weights, "trust": self.trust, **_data(data, root), **settings}
        return evaluate(compose("eval", _overrides(words)))

    def export(self, format: str, *, out: str | os.PathLike[str] | None = None, **settings: Any) -> Path:
        """Write it into one file, which `load` takes, and run that beside PyTorch before it takes its name.

        Args:
            format: onnx, openvino, executorch, litert, mediapipe, torch, or web: a folder with a page for browsers.
            out: the file, or the folder; None: in the next free runs/export/<n>/.
            settings: other keys of tools/export.py, such as precision="int8".

        Returns:
            The file; of web, and of several tasks for MediaPipe, the folder.
        """
        from mnv2_tasks.export.export import export

        log_to_screen()
        words = {"weights": self.weights, "trust": self.trust, "format": format, "out": out, **settings}
        return export(compose("export", _overrides(words)))

    def __repr__(self) -> str:
        tasks = ", ".join(f"{task} ({counted(len(names), 'class')})" for task, names in self.names.items())
        return f"LoadedModel({self.weights}: {tasks}; on {self._predictor.network.device})"


class Run:
    """What training leaves in its folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def metrics(self) -> dict[str, Any]:
        """The scores of the best epoch on the validation split."""
        return read_scores(self.folder / "metrics.json")

    def model(self, *, device: str = "auto", trust: bool = False) -> LoadedModel:
        """Its best weights; see `load`."""
        return load(self.folder, device=device, trust=trust)

    def __repr__(self) -> str:
        return f"Run({self.folder})"


def train(
    task: str,
    *,
    data: str = "shapes",
    root: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    **settings: Any,
) -> Run:
    """Train a network, as tools/train.py does. It shows how far it is unless your program has set up logging.

    Args:
        task: of conf/task: classification, ssdlite, ssd, yolov2, mobile_deeplabv3, deeplabv3, multitask.
        data: folder, coco, voc, imagenet; or shapes, scenes that are drawn.
        root: the folder of the data.
        epochs: passes over the training images; None: as the recipe says.
        settings: other keys of tools/train.py, such as batch=16, or **{"trainer.devices": 2}.

    Raises:
        ConfigError, DataError: whatever would end the run later.
    """
    from mnv2_tasks.training.train import train as run  # Lightning

    log_to_screen()
    words = {"task": task, **_data(data, root), **({} if epochs is None else {"epochs": epochs}), **settings}
    return Run(run(compose("train", _overrides(words))))


class FeatureMaps(nn.Module):
    """A backbone as a part of your own network: pictures -> {tap: feature map}.

    Args:
        backbone: also an nn.Module.
        mean, std: per channel, of pixels in [0, 255]; they belong to the weights.
    """

    def __init__(self, backbone: Backbone, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        module: Any = backbone
        self.backbone: Any = module
        self.features: Mapping[str, FeatureSpec] = backbone.features
        """{tap: its channels, and its stride in pixels of the picture}, in depth order."""
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) RGB, uint8 or float in [0, 255] -> {tap: (B, channels, ceil(H / stride), ceil(W / stride))}."""
        return self.backbone(normalise(images, self.mean, self.std))


def backbone(
    name: str,
    *,
    taps: Sequence[str],
    weights: str | os.PathLike[str] = "none",
    output_stride: int = 32,
    trust: bool = False,
    **settings: Any,
) -> FeatureMaps:
    """A backbone alone, in evaluation mode on the CPU.

    Args:
        name: of `list_backbones()`.
        taps: the maps to return: c1 .. c5 (the last of nominal stride 2 .. 32), c4_expand, final.
        weights: "imagenet" (published for this backbone), another of what `load` takes, or "none": random.
        output_stride: 8, 16 or 32: beyond it strides become dilation.
        trust: see `load`.
        settings: other keys of conf/, such as width=0.5, or **{"backbone.padding": "same"}.

    Raises:
        ConfigError: there is no such backbone or tap, or the weights are another network's.
    """
    # a pair without a recipe, which would bring a width and the like of its own
    words = {"task": "classification", "data": "voc", "backbone": name, "weights": weights, "trust": trust}
    config = compose("train", _overrides(words | {"output_stride": output_stride} | settings))
    built: Any = partial_of(config.backbone)(taps=list(taps))
    mend_convolutions(built)
    if config.weights not in ("none", "auto"):
        _start_from(built, find_weights(str(config.weights), name), trust=trust)
    return FeatureMaps(built, config.input.mean, config.input.std).eval()


def list_weights() -> list[str]:
    """Names that `load` takes, from weights/manifest.yaml: what comes with the project, and what is downloaded."""
    return list(manifest())


def list_backbones() -> list[str]:
    """Names that `backbone` takes, and backbone= on the command line."""
    return options_of("backbone")


def _start_from(built: nn.Module, path: Path, *, trust: bool) -> None:
    state, own = load_with_passport(path, trust=trust).state, built.state_dict()
    theirs = {name: state.get(f"backbone.{name}") for name in own}
    wrong = [name for name, tensor in theirs.items() if tensor is None or tensor.shape != own[name].shape]
    if wrong:
        raise ConfigError(
            f"{path}: is of another network, width or expansion: of {len(own)} tensors {len(wrong)} are missing or "
            f"differ, such as {wrong[0]}"
        )
    built.load_state_dict(theirs)


def _result_or_raise(outcome: Result | Unread) -> Result:
    if isinstance(outcome, Unread):
        raise outcome.error
    return outcome


def _data(data: str | None, root: str | os.PathLike[str] | None) -> dict[str, Any]:
    words = {"data": data, "data.root": root}
    return {key: value for key, value in words.items() if value is not None}


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    """As they are typed on the command line."""
    return [f"{key}={_typed(value)}" for key, value in settings.items()]


def _typed(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_typed(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_typed, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
