"""Images in, results of every task out; a picture, and the masks, of each left in a folder."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from mnv2_tasks.build import load_network
from mnv2_tasks.contracts import Frames, Model
from mnv2_tasks.data.images.decode import check_image, read_image
from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.compiled import CompiledNetwork, check_compiler
from mnv2_tasks.network.devices import choose_device
from mnv2_tasks.prediction.inputs import find_images
from mnv2_tasks.prediction.results import draw_results
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.weights.weight_files import find_weights

DEMO = "shapes"  # the source that needs no files
DEMO_SCENES, DEMO_SIZE = 8, 320
FRAME = 1600  # longest side that is looked at; beyond, class maps take seconds and are merely smoother


class Input(NamedTuple):
    name: str
    read: Callable[[int], np.ndarray]  # white of 16-bit pictures -> (H, W, 3) uint8 RGB; raises DataError


class Outcome(NamedTuple):
    """What became of one input: without `entry` and `picture` if it could not be read."""

    name: str
    line: str  # "bus.jpg 640x480: 4 person, 1 bus", or what is wrong with the file
    entry: dict[str, Any] | None = None  # of results.json
    picture: np.ndarray | None = None  # (H, W, 3) uint8 RGB


def find_inputs(source: str) -> list[Input]:
    """The images that `source` names (see `find_images`), or validation scenes of the embedded data."""
    if source == DEMO:
        return [Input(f"{DEMO}_{i}", partial(_scene, i)) for i in range(DEMO_SCENES)]
    return [Input(str(path), partial(_photo, path)) for path in find_images(source)]


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


class Predictor:
    """Runs a network over inputs and leaves a picture, and the masks, of each in a folder.

    Args:
        fit: how images become the network's input.
        min_score: boxes below it are neither drawn nor written.
        out: see `make_folder`.
    """

    def __init__(self, *, network: Model, fit: Fit, min_score: float, out: str | None):
        if not 0 <= min_score <= 1:
            raise ConfigError(f"min_score={min_score}: expected a number in [0, 1]")
        self.network, self.fit, self.min_score = network, fit, min_score
        self.out = make_folder(out, Path("runs/predict"))
        self.seconds = {"reading": 0.0, "network": 0.0, "drawing": 0.0}  # spent so far
        self.taken: set[str] = set()  # stems of the files written, in lower case

    def __call__(self, inputs: Sequence[Input]) -> list[Outcome]:
        """Outcomes of one batch, in its order."""
        began = time.perf_counter()
        images: dict[int, np.ndarray] = {}
        broken: dict[int, DataError] = {}
        for index, item in enumerate(inputs):
            try:
                images[index] = item.read(self.fit.white)
            except DataError as error:
                broken[index] = error
        read = time.perf_counter()
        results = predict_images(self.network, list(images.values()), self.fit) if images else []
        predicted = time.perf_counter()
        done = {
            index: self._write(inputs[index].name, image, of_image)
            for (index, image), of_image in zip(images.items(), results)
        }
        for part, spent in zip(self.seconds, (read - began, predicted - read, time.perf_counter() - predicted)):
            self.seconds[part] += spent
        return [
            Outcome(item.name, str(broken[index])) if index in broken else done[index]
            for index, item in enumerate(inputs)
        ]

    def _write(self, name: str, image: np.ndarray, results: dict[str, Any]) -> Outcome:
        tasks: dict[str, Any] = dict(self.network.tasks.items())
        stem = self._free_stem(Path(name).stem)
        picture = draw_results(image, results, tasks, min_score=self.min_score)
        write_picture(self.out / f"{stem}.jpg", picture)
        entry = {"file": name, "picture": f"{stem}.jpg", "width": image.shape[1], "height": image.shape[0]}
        phrases = []
        for task, result in results.items():
            kind = KINDS[tasks[task].kind]
            entry[task] = kind.as_json(result, tasks[task].class_names, self.min_score)
            if files := kind.write_files(result, self.out, f"{stem}_{task}"):
                entry[task] |= files
            words = kind.in_words(entry[task])
            phrases.append(words if len(results) == 1 else f"{task} {words}")
        line = f"{Path(name).name} {image.shape[1]}x{image.shape[0]}: {'; '.join(phrases)}"
        return Outcome(name, line, entry, picture)

    def _free_stem(self, stem: str) -> str:
        """cat, then cat-2: inputs from several folders, or of several formats, may share a name."""
        stems = [stem, *(f"{stem}-{n}" for n in range(2, len(self.taken) + 3))]
        free = next(s for s in stems if s.lower() not in self.taken)
        self.taken.add(free.lower())
        return free


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


def _photo(path: Path, white: int = FULL) -> np.ndarray:
    check_image(path)
    return read_image(path, white=white)


def _scene(index: int, white: int = FULL) -> np.ndarray:
    return draw_scene(0, "val", index, DEMO_SIZE).image
