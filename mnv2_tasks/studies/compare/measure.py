"""What a run's network costs: counted, and measured on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.build import build_fit, load_network
from mnv2_tasks.contracts import Frames, Model
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.cost import Cost, model_cost
from mnv2_tasks.network.latency import Latency, measure_alternately
from mnv2_tasks.network.network import Network
from mnv2_tasks.runtimes.exported import Exported

PAUSE = 0.005  # seconds between two runtimes, in which the threads of the one before come to rest


@dataclass
class MeasuredNetwork:
    """A run's network, ready to predict."""

    network: Network
    passport: dict[str, Any]
    fit: Fit
    cost: Cost
    latency: Latency | None = None  # of one image, from the network's input to results in the image's pixels
    exported_latency: Latency | None = None  # the same of its exported file


def rebuild_network(weights: Path, *, trust: bool = False) -> MeasuredNetwork:
    network, passport = load_network(str(weights), trust=trust)
    fit = build_fit(DictConfig(passport["config"]))
    cost = model_cost(network, fit.size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return MeasuredNetwork(network.to(device).to(memory_format=torch.channels_last), passport, fit, cost)


def measure_latency(
    networks: Sequence[MeasuredNetwork | None], files: Sequence[Exported | None], image: np.ndarray, repeats: int
) -> None:
    """Time all networks and their files in turns on one image. Post-processing is included, reading is not.

    Args:
        files: that of each network; None, of either, is not timed.
        image: (H, W, 3) uint8 RGB.
    """
    calls = {}
    for index, (measured, file) in enumerate(zip(networks, files, strict=True)):
        if measured is None:
            continue
        calls[f"network {index}"] = predicting(measured.network, measured.fit, image)
        if file is not None:
            calls[f"file {index}"] = predicting(file, measured.fit, image)
    latencies = measure_alternately(calls, repeats=repeats, pause=PAUSE)
    for index, measured in enumerate(networks):
        if measured is not None:
            measured.latency, measured.exported_latency = latencies[f"network {index}"], latencies.get(f"file {index}")


def predicting(model: Model, fit: Fit, image: np.ndarray) -> Callable[[], Any]:
    """A call from the network's input to results, of one image."""
    picture, content, offset = fit(image)
    frames = Frames(picture.shape[:2], *(torch.tensor([place]) for place in (content, image.shape[:2], offset)))
    return partial(model.predict, images_tensor(np.stack([picture])).to(model.device), frames)


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return cpu_name()


def cpu_name() -> str:
    return f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
