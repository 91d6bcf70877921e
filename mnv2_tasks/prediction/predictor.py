"""Images in, results of every task out."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from mnv2_tasks.build import load_network
from mnv2_tasks.contracts import Frames, Model
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.compiled import CompiledNetwork, check_compiler
from mnv2_tasks.network.devices import choose_device
from mnv2_tasks.prediction.results import Result
from mnv2_tasks.prediction.sources import Input
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.weights.weight_files import find_weights

FRAME = 1600  # longest side that is looked at; beyond, class maps take seconds and are merely smoother


def predict_images(network: Model, images: Sequence[np.ndarray], fit: Fit) -> list[dict[str, Any]]:
    """Results of each image by task name, on the CPU and in its own pixels, from one pass through the backbone.

    Args:
        images: each (H, W, 3) uint8 RGB, of any size.
        fit: how they become the network's input. Inputs of several sizes take a pass each.

    Returns:
        For each image {task: (K,) probabilities, Detections, or a (H, W) uint8 class map}.
    """
    if fit.mode == "pad" and len({image.shape for image in images}) > 1:
        return [result for image in images for result in predict_images(network, [image], fit)]
    originals, sizes = [image.shape[:2] for image in images], [_frame_size(image) for image in images]
    if fit.mode == "pad":  # the other fits make one input of any size
        images = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image, size in zip(images, sizes)]
    fitted = [fit(image) for image in images]
    inputs, contents, offsets = zip(*fitted)
    inputs = np.stack(inputs)
    frames = Frames(inputs.shape[1:3], *map(torch.tensor, (contents, sizes, offsets)))
    with torch.inference_mode():
        results = network.predict(images_tensor(inputs).to(network.device), frames)
    return [
        {
            name: KINDS[network.tasks[name].kind].resized(of_task[i], sizes[i], originals[i])
            for name, of_task in results.items()
        }
        for i in range(len(images))
    ]


def _frame_size(image: np.ndarray) -> tuple[int, int]:
    """(height, width) in which results are computed: the image's own, up to FRAME pixels."""
    scale = min(1.0, FRAME / max(image.shape))
    return max(1, round(scale * image.shape[0])), max(1, round(scale * image.shape[1]))


class Unread(NamedTuple):
    """A picture that could not be read."""

    name: str
    error: DataError


class Predictor:
    """A network that pictures are given to, by several threads at once if need be.

    Each thread reads its own pictures; the network takes one batch at a time, because neither the runtimes' sessions
    nor torch.compile are made for several.

    Args:
        fit: how images become the network's input.
    """

    def __init__(self, network: Model, fit: Fit):
        self.network, self.fit = network, fit
        self.seconds = {"reading": 0.0, "network": 0.0}  # spent so far, in all threads together
        self._alone = threading.Lock()

    def results(self, inputs: Iterable[Input], *, batch: int, min_score: float) -> Iterator[Result | Unread]:
        """What was found in each, in order; a batch is read when its first result is asked for.

        Args:
            batch: images per pass through the network.
            min_score: boxes below it are left out.

        Raises:
            ConfigError: a value is out of range.
        """
        if batch < 1:
            raise ConfigError(f"batch={batch}: expected at least 1")
        if not 0 <= min_score <= 1:
            raise ConfigError(f"min_score={min_score}: expected a number in [0, 1]")
        return self._results(iter(inputs), batch, min_score)

    def _results(self, inputs: Iterator[Input], batch: int, min_score: float) -> Iterator[Result | Unread]:
        while items := self._read(islice(inputs, batch)):
            images = [item for _, item in items if isinstance(item, np.ndarray)]
            found = iter(self._predict(images))
            for name, item in items:
                if isinstance(item, DataError):
                    yield Unread(name, item)
                else:
                    yield Result(name, item, self.network.tasks, next(found), min_score)

    def _read(self, inputs: Iterable[Input]) -> list[tuple[str, np.ndarray | DataError]]:
        items: list[tuple[str, np.ndarray | DataError]] = []
        for name, read in inputs:
            began = time.perf_counter()
            try:
                items.append((name, read(self.fit.white)))
            except DataError as error:
                items.append((name, error))
            self.seconds["reading"] += time.perf_counter() - began
        return items

    def _predict(self, images: list[np.ndarray]) -> list[dict[str, Any]]:
        if not images:
            return []
        with self._alone:
            began = time.perf_counter()
            results = predict_images(self.network, images, self.fit)
            self.seconds["network"] += time.perf_counter() - began
        return results


def load_model(
    weights: str, device: str, *, compiled: bool = False, trust: bool = False
) -> tuple[Model, dict[str, Any]]:
    """What predicts, on that device, and its passport.

    Args:
        weights: of a network, or what tools/export.py wrote.
        compiled: takes a minute or more at the first image, and less for each.
        trust: the file is the user's own: it may name any class, and run code as it is loaded.
    """
    path = find_weights(weights)
    if not is_exported(path):
        keep_freed_memory()
        target = choose_device(device)
        network, passport = load_network(weights, trust=trust)
        network.to(target).to(memory_format=torch.channels_last)
        if compiled:
            check_compiler(target.type)
            network = CompiledNetwork(network)
        return network, passport
    if compiled:
        raise ConfigError("compile=true: an exported network is compiled already. Use compile=false")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device={device}: an exported network runs on the CPU. Use device=cpu")
    exported = Exported(path, trust=trust)
    return exported, exported.passport
