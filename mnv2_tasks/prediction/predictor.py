"""Images in, results of every task out."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.build import build_fit, load_network
from mnv2_tasks.contracts import Frames, Model
from mnv2_tasks.data.images.fit import Fit, Fitted
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.compiled import CompiledNetwork, check_compiler
from mnv2_tasks.network.devices import FLOAT32, autocast_type, choose_device, num_helpers
from mnv2_tasks.network.fold import act_in_place, fold_batch_norms
from mnv2_tasks.network.network import Network
from mnv2_tasks.network.split_plan import FLOAT_BYTES, check_split, split_as_asked
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.prediction.sources import Input
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.weights.find import find_weights

FRAME = 1600  # longest side that is looked at; beyond, class maps take seconds and are merely smoother


class FittedPicture(NamedTuple):
    """A picture on its way into the network."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    fitted: Fitted
    frame_size: tuple[int, int]  # (height, width) in which results are computed: its own, up to FRAME pixels


def fit_picture(image: np.ndarray, fit: Fit) -> FittedPicture:
    scale = min(1.0, FRAME / max(image.shape))
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    seen = image
    if fit.mode == "pad":  # the other fits make one input of any size
        seen = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return FittedPicture(image, fit(seen), (height, width))


def predict_images(network: Model, images: Sequence[np.ndarray], fit: Fit) -> list[dict[str, Any]]:
    """Results of each image by task name, on the CPU and in its own pixels, from one pass through the backbone.

    Args:
        images: each (H, W, 3) uint8 RGB, of any size.
        fit: how they become the network's input. Inputs of several sizes take a pass each.

    Returns:
        For each image {task: (K,) probabilities, Detections, or a (H, W) uint8 class map}.
    """
    return predict_fitted(network, [fit_picture(image, fit) for image in images])


def predict_fitted(
    network: Model, pictures: Sequence[FittedPicture], computed_in: torch.dtype | None = None
) -> list[dict[str, Any]]:
    """As `predict_images`.

    Args:
        computed_in: bfloat16 or float16, where that is precise enough; None: float32.
    """
    if len({picture.fitted.image.shape for picture in pictures}) > 1:
        return [result for picture in pictures for result in predict_fitted(network, [picture], computed_in)]
    inputs, contents, offsets = zip(*(picture.fitted for picture in pictures))
    sizes = [picture.frame_size for picture in pictures]
    frames = Frames(inputs[0].shape[:2], *map(torch.tensor, (contents, sizes, offsets)))
    lower = torch.autocast(network.device.type, computed_in, enabled=computed_in is not None)
    with torch.inference_mode(), lower:
        results = network.predict(images_tensor(np.stack(inputs)).to(network.device), frames)
    return [
        {
            name: KINDS[network.tasks[name].kind].resized(of_task[i], picture.frame_size, picture.image.shape[:2])
            for name, of_task in results.items()
        }
        for i, picture in enumerate(pictures)
    ]


class Unread(NamedTuple):
    """A picture that could not be read."""

    name: str
    error: DataError


class Predictor:
    """A network that pictures are given to, by several threads at once if need be.

    Pictures are read by threads of each call's own; the network takes one batch at a time, because neither the
    runtimes' sessions nor torch.compile are made for several.

    Args:
        fit: how images become the network's input.
        computed_in: as of `predict_fitted`.
    """

    def __init__(self, network: Model, fit: Fit, computed_in: torch.dtype | None = None):
        self.network, self.fit, self.computed_in = network, fit, computed_in
        self.seconds = {"reading": 0.0, "network": 0.0}  # spent so far, in all threads together
        self._alone, self._counting = threading.Lock(), threading.Lock()

    def results(
        self, inputs: Iterable[Input], *, batch: int, least: Mapping[str, np.ndarray]
    ) -> Iterator[Result | Unread]:
        """What was found in each, in order. While the network computes a batch, the next one is read, if it is files.

        Args:
            batch: images per pass through the network.
            least: {task: scores below which boxes are left out}, see `least_scores`.

        Raises:
            ConfigError: `batch` is out of range.
        """
        if batch < 1:
            raise ConfigError(f"batch={batch}: expected at least 1")
        return self._results(iter(inputs), batch, least)

    def _results(
        self, inputs: Iterator[Input], batch: int, least: Mapping[str, np.ndarray]
    ) -> Iterator[Result | Unread]:
        readers = ThreadPoolExecutor(num_helpers())
        try:
            present = self._begin(readers, islice(inputs, batch))
            while present:
                held = any(source.held for source, _ in present)
                following = [] if held else self._begin(readers, islice(inputs, batch))
                items = [(source.name, reading.result()) for source, reading in present]
                found = iter(self._predict([item for _, item in items if isinstance(item, FittedPicture)]))
                for name, item in items:
                    if isinstance(item, FittedPicture):
                        yield Result(name, item.image, self.network.tasks, next(found), least)
                    else:
                        yield Unread(name, item)
                present = following or self._begin(readers, islice(inputs, batch))
        finally:
            readers.shutdown(cancel_futures=True)

    def _begin(
        self, readers: Executor, inputs: Iterable[Input]
    ) -> list[tuple[Input, Future[FittedPicture | DataError]]]:
        begun = []
        for source in inputs:
            begun.append((source, readers.submit(self._read, source.read)))
            if source.held:
                begun[-1][1].result()
        return begun

    def _read(self, read: Callable[[int], np.ndarray]) -> FittedPicture | DataError:
        began = time.perf_counter()
        try:
            return fit_picture(read(self.fit.white), self.fit)
        except DataError as error:
            return error
        finally:
            spent = time.perf_counter() - began
            with self._counting:
                self.seconds["reading"] += spent

    def _predict(self, pictures: list[FittedPicture]) -> list[dict[str, Any]]:
        if not pictures:
            return []
        with self._alone:
            began = time.perf_counter()
            results = predict_fitted(self.network, pictures, self.computed_in)
            self.seconds["network"] += time.perf_counter() - began
        return results


def for_prediction(network: Network) -> Network:
    """A copy that computes the same with less work, and cannot be trained."""
    folded = fold_batch_norms(network).to(memory_format=torch.channels_last)
    act_in_place(folded)
    return folded


def load_model(
    weights: str,
    device: str,
    *,
    compiled: bool = False,
    trust: bool = False,
    split: int | str = 1,
    memory: int | str | None = None,
    value_bytes: int = FLOAT_BYTES,
) -> tuple[Model, dict[str, Any]]:
    """What predicts, on that device, and its passport.

    Args:
        weights: of a network, or what tools/export.py wrote.
        compiled: takes a minute or more at the first image, and less for each.
        trust: the file is the user's own: it may name any class, and run code as it is loaded.
        split, memory, value_bytes: see `split_plan`; split=1 leaves the network whole.
    """
    check_split(split, memory)
    path = find_weights(weights)
    if not is_exported(path):
        keep_freed_memory()
        target = choose_device(device)
        network, passport = load_network(weights, trust=trust)
        network = split_as_asked(network, split, memory, size=passport["config"]["imgsz"], value_bytes=value_bytes)
        network.to(target)
        if not compiled:
            return for_prediction(network), passport
        check_compiler(target.type)
        return CompiledNetwork(network), passport
    if compiled:
        raise ConfigError("compile=true: an exported network is compiled already. Use compile=false")
    if split != 1:
        raise ConfigError(f"split={split}: an exported network is as it was written. Say split= to tools/export.py")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device={device}: an exported network runs on the CPU. Use device=cpu")
    exported = Exported(path, trust=trust)
    return exported, exported.passport


def load_predictor(
    weights: str,
    device: str,
    *,
    compiled: bool,
    precision: str,
    trust: bool,
    split: int | str = 1,
    memory: int | str | None = None,
) -> tuple[Predictor, dict[str, Any]]:
    """What predicts, and the passport of its weights.

    Args:
        precision: one of network/devices.SCORED_IN.
        weights, device, compiled, trust, split, memory: as of `load_model`.
    """
    computed_in = autocast_type(precision)
    network, passport = load_model(
        weights,
        device,
        compiled=compiled,
        trust=trust,
        split=split,
        memory=memory,
        value_bytes=computed_in.itemsize if computed_in else FLOAT_BYTES,
    )
    if computed_in and isinstance(network, Exported):
        raise ConfigError(f"precision={precision}: an exported network has its own. Use precision={FLOAT32}")
    return Predictor(network, build_fit(DictConfig(passport["config"])), computed_in), passport
