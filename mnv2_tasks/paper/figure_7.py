"""Figure 7 and appendix A: how many channels are positive behind each ReLU, before training and after."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor, nn

from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.build import build_fit, build_network, load_strictly, target_of
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.loading.collate import images_tensor
from mnv2_tasks.network.network import Network
from mnv2_tasks.paper.figure import Claim, DrawnFigure, write_figure
from mnv2_tasks.paper.material import Material
from mnv2_tasks.wording import counted, first_few, visible

SEED = 0  # of the network before training
BATCH = 32  # most pictures of its first step


class Pattern(NamedTuple):
    """Of one layer: how many of its channels are positive at a pixel, over all pixels of all pictures."""

    layer: str
    channels: int
    least: int
    mean: float
    std: float
    most: int


def check_figure_7(material: Material) -> None:
    """Raises a ConfigError unless the weights are MobileNetV2's."""
    backbone = target_of(material.weights.passport["config"]["backbone"])
    if not (isinstance(backbone, type) and issubclass(backbone, MobileNetV2)):
        raise ConfigError(
            f"weights={material.name}: figure 7 is of MobileNetV2's layers, and these are {backbone.__name__}'s"
        )


def draw_figure_7(material: Material) -> DrawnFigure:
    passport = material.weights.passport
    config = DictConfig(passport["config"])
    torch.manual_seed(SEED)
    new = build_network(config, passport["class_names"])
    trained = build_network(config, passport["class_names"])
    load_strictly(trained, material.weights.state, material.name)
    images = _inputs(config, material)
    # at its first step a network's batch norms know the batch, and no statistics yet
    patterns = {
        "before training": patterns_of(new.train(), [images[:BATCH]], material.device),
        "trained": patterns_of(trained.eval(), images.split(8), material.device),
    }
    threshold = 1 / trained.backbone.expansion
    figure = _plot(patterns, threshold)
    return DrawnFigure(
        "Channels that are positive behind each ReLU",
        lambda path: write_figure(figure, path),
        _claims(patterns, threshold, f"{counted(len(images), 'picture')}, weights={visible(material.name)}"),
    )


def patterns_of(network: Network, batches: Iterable[Tensor], device: torch.device) -> list[Pattern]:
    """One for each ReLU of the backbone, in the order in which they run.

    Args:
        batches: (B, 3, H, W) uint8 pictures.
    """
    layers = [(name, layer) for name, layer in network.backbone.named_modules() if isinstance(layer, nn.ReLU6)]
    counts: dict[str, np.ndarray] = {}  # pixels that have 0, 1, 2 ... positive channels
    hooks = [layer.register_forward_hook(_counter(name, counts)) for name, layer in layers]
    network.to(device)
    with torch.no_grad():
        for batch in batches:
            network.features(batch.to(device))
    for hook in hooks:
        hook.remove()
    return [_pattern(name.removesuffix(".2"), counts[name]) for name, _ in layers]


def _counter(name: str, counts: dict[str, np.ndarray]) -> Any:
    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        positive = (output > 0).sum(dim=1).flatten()
        found = torch.bincount(positive, minlength=output.shape[1] + 1).cpu().numpy()
        counts[name] = counts.get(name, 0) + found

    return count


def _pattern(layer: str, pixels: np.ndarray) -> Pattern:
    positive = np.arange(len(pixels))
    mean = float((pixels * positive).sum() / pixels.sum())
    std = float(np.sqrt((pixels * (positive - mean) ** 2).sum() / pixels.sum()))
    seen = np.flatnonzero(pixels)
    return Pattern(layer, len(pixels) - 1, int(seen[0]), mean, std, int(seen[-1]))


def _inputs(config: DictConfig, material: Material) -> Tensor:
    """(B, 3, H, W) uint8, as the weights take them; where they would be padded, squeezed, as borders are no picture."""
    fit = build_fit(config)
    if fit.mode in ("pad", "letterbox"):
        fit = Fit(mode="square", size=fit.size, resize=None, fill=list(config.input.mean), white=fit.white)
    return images_tensor(np.stack([fit(picture.image).image for picture in material.pictures]))


def _claims(patterns: dict[str, list[Pattern]], threshold: float, conditions: str) -> list[Claim]:
    new, trained = ([_shares(pattern) for pattern in found] for found in patterns.values())
    below = [pattern for pattern in patterns["trained"] if pattern.least / pattern.channels <= threshold]
    shown = [f"{pattern.layer} ({pattern.least / pattern.channels:.2f})" for pattern in below]
    means = _range([mean for _, mean, _ in trained])
    return [
        Claim(
            "at step 0 about half of the channels are positive (appendix A)",
            f"mean of each layer {_range([mean for _, mean, _ in new])} ({conditions})",
        ),
        Claim(
            "after training the average has not changed, the standard deviation has grown (caption)",
            f"over all layers mean {_mean(new, 1)} -> {_mean(trained, 1)} (now {means} of a layer), standard deviation "
            f"{_mean(new, 2)} -> {_mean(trained, 2)}",
        ),
        Claim(
            "trained, all but two layers stay above the threshold of invertibility, 1 / 6 (appendix A)",
            f"at their lowest pixel {len(trained) - len(below)} of {len(trained)} layers are above {threshold:.3f}"
            + (f"; not {first_few(shown)}" if shown else ""),
        ),
    ]


def _shares(pattern: Pattern) -> tuple[float, float, float]:
    """Least, mean and standard deviation over the channels."""
    return pattern.least / pattern.channels, pattern.mean / pattern.channels, pattern.std / pattern.channels


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def _mean(rows: Sequence[tuple[float, ...]], column: int) -> str:
    return f"{np.mean([row[column] for row in rows]):.3f}"


def _plot(patterns: dict[str, list[Pattern]], threshold: float) -> Figure:
    """Above numbers of channels, below shares of them; a column before training, and one after."""
    figure = Figure(figsize=(13, 7), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(patterns), sharex=True, sharey="row", squeeze=False)
    for column, (title, found) in enumerate(patterns.items()):
        for row, scale in enumerate(([1] * len(found), [pattern.channels for pattern in found])):
            axes, x = grid[row, column], range(len(found))
            least, mean, std, most = (
                np.array([getattr(pattern, name) / size for pattern, size in zip(found, scale)])
                for name in ("least", "mean", "std", "most")
            )
            axes.fill_between(x, least, most, color="C0", alpha=0.15, label="least to most at a pixel")
            axes.fill_between(x, mean - std, mean + std, color="C0", alpha=0.35, label="mean ± standard deviation")
            axes.plot(x, mean, "o-", color="C0", markersize=3, label="mean")
            total = np.array([pattern.channels / size for pattern, size in zip(found, scale)])
            axes.plot(x, threshold * total, "--", color="C3", label=f"{threshold:.3g} of the channels")
            if row == 0:
                axes.plot(x, total, ":", color="grey", label="all channels")
                axes.set_title(title)
                axes.set_yscale("symlog", linthresh=10)
            axes.set_ylim(0, None if row == 0 else 1.02)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        grid[1, column].set_xlabel("layer with a ReLU, in the order in which they run")
    grid[0, 0].set_ylabel("positive channels")
    grid[1, 0].set_ylabel("share of the channels")
    grid[0, 0].legend(fontsize=8, loc="upper left")
    return figure
