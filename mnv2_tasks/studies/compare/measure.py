"""What each group's network costs: counted, and measured on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from omegaconf import OmegaConf

from mnv2_tasks.build import build_fit, load_network
from mnv2_tasks.contracts import Frames
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.cost import Cost, model_cost
from mnv2_tasks.network.latency import Latency, measure_alternately
from mnv2_tasks.network.network import Network
from mnv2_tasks.studies.compare.groups import Group


@dataclass
class Built:
    """A group's first network, ready to predict."""

    network: Network
    fit: Fit
    cost: Cost
    latency: Latency | None = None  # of one image, from the network's input to results in the image's pixels


def rebuild(groups: Sequence[Group]) -> tuple[list[Built | None], list[str]]:
    """Each group's network, and why there is none where one cannot be built any more."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    built, notes = [], []
    for group in groups:
        path = group.first.folder / "weights.safetensors"
        try:
            network, passport = load_network(str(path))
            fit = build_fit(OmegaConf.create(passport["config"]))
            cost = model_cost(network, fit.size)
            built.append(Built(network.to(device, memory_format=torch.channels_last), fit, cost))
        except Exception as error:  # whatever keeps an old run from being rebuilt belongs in the report
            built.append(None)
            notes.append(f"{group.label}: is neither counted nor timed nor drawn: {path}: {error}")
    return built, notes


def measure_latency(built: Sequence[Built | None], image: np.ndarray, repeats: int) -> None:
    """Time all networks in turns on one image, (H, W, 3) uint8 RGB. Post-processing is included, reading is not."""
    there = {str(i): one for i, one in enumerate(built) if one}
    calls = {}
    for name, one in there.items():
        picture, content = one.fit(image)
        device = next(one.network.parameters()).device
        frames = Frames(picture.shape[:2], torch.tensor([content]), torch.tensor([image.shape[:2]]))
        calls[name] = partial(one.network.predict, images_tensor(picture[None]).to(device), frames)
    if calls and repeats:
        for name, latency in measure_alternately(calls, repeats=repeats).items():
            there[name].latency = latency


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
