"""What a run's network costs: counted, and measured on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from mnv2_tasks.build import build_fit, load_network
from mnv2_tasks.contracts import Frames
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.cost import Cost, model_cost
from mnv2_tasks.network.latency import Latency, measure_alternately
from mnv2_tasks.network.network import Network


@dataclass
class MeasuredNetwork:
    """A run's network, ready to predict."""

    network: Network
    fit: Fit
    cost: Cost
    latency: Latency | None = None  # of one image, from the network's input to results in the image's pixels


def rebuild_network(weights: Path, *, trust: bool = False) -> MeasuredNetwork:
    network, passport = load_network(str(weights), trust=trust)
    fit = build_fit(DictConfig(passport["config"]))
    cost = model_cost(network, fit.size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return MeasuredNetwork(network.to(device).to(memory_format=torch.channels_last), fit, cost)


def measure_latency(networks: Sequence[MeasuredNetwork], image: np.ndarray, repeats: int) -> None:
    """Time all networks in turns on one image, (H, W, 3) uint8 RGB. Post-processing is included, reading is not."""
    calls = {}
    for index, measured in enumerate(networks):
        picture, content, offset = measured.fit(image)
        device = next(measured.network.parameters()).device
        frames = Frames(picture.shape[:2], *(torch.tensor([place]) for place in (content, image.shape[:2], offset)))
        calls[str(index)] = partial(measured.network.predict, images_tensor(picture[None]).to(device), frames)
    for index, latency in measure_alternately(calls, repeats=repeats).items():
        networks[int(index)].latency = latency


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
