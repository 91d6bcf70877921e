"""NASNet-A (mobile): what pretrainedmodels and TF slim call the layers of our network."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch

from mnv2_tasks.backbones.nasnet import CELLS, PAIRS, NASNetMobile
from mnv2_tasks.weights.importers.family import CLASSIFIER, TF_INPUT, Family

BACKBONE = "nasnet_mobile"
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class LayerNames(NamedTuple):
    """A convolution or a batch norm by three names."""

    ours: str  # module
    theirs: str  # pretrainedmodels' module
    slim: str  # the variable of a convolution, which ends in "weights"; the scope of a norm


def layers() -> Iterator[LayerNames]:
    yield LayerNames("backbone.stem.0", "conv0.conv", "conv0/weights")
    yield LayerNames("backbone.stem.1", "conv0.bn", "conv0_bn")
    for index, (their_cell, slim_cell) in enumerate(_cells()):
        for ours, theirs, slim in _layers_of_cell(index):
            yield LayerNames(f"backbone.{ours}", f"{their_cell}.{theirs}", f"{slim_cell}/{slim}")


def _cells() -> Iterator[tuple[str, str]]:
    """Two names of each of our cells. pretrainedmodels leaves out two numbers at each reduction."""
    normal = reductions = 0
    for index, (kind, _) in enumerate(CELLS):
        if index < 2:
            yield f"cell_stem_{index}", f"cell_stem_{index}"
        elif kind == "reduction":
            yield f"reduction_cell_{reductions}", f"reduction_cell_{reductions}"
            reductions += 1
        else:
            yield f"cell_{normal + 2 * reductions}", f"cell_{normal}"
            normal += 1


def _layers_of_cell(index: int) -> Iterator[LayerNames]:
    yield LayerNames(f"cells.{index}.fit.1", "conv_1x1.conv", "1x1/weights")
    yield LayerNames(f"cells.{index}.fit.2", "conv_1x1.bn", "beginning_bn")
    if index > 0 and CELLS[index - 1][0] == "reduction":
        yield LayerNames(f"fits.{index}.path_1", "path_1.conv", "path1_conv/weights")
        yield LayerNames(f"fits.{index}.path_2", "path_2.conv", "path2_conv/weights")
        yield LayerNames(f"fits.{index}.norm", "final_path_bn", "final_path_bn")
    elif index > 0:
        yield LayerNames(f"fits.{index}.1", "conv_prev_1x1.conv", "prev_1x1/weights")
        yield LayerNames(f"fits.{index}.2", "conv_prev_1x1.bn", "prev_bn")
    names = [name for pair in PAIRS[CELLS[index][0]] for _, name in pair]
    for number, name in enumerate(names):
        if name.startswith("separable"):
            pair, side, size = number // 2, ("left", "right")[number % 2], f"{name[-1]}x{name[-1]}"
            ours, theirs, slim = (
                f"cells.{index}.operations.{number}",
                f"comb_iter_{pair}_{side}",
                f"comb_iter_{pair}/{side}",
            )
            for half, first in ((1, 1), (2, 5)):  # of our layers
                separable = f"{slim}/separable_{size}_{half}"
                yield LayerNames(
                    f"{ours}.{first}", f"{theirs}.separable_{half}.depthwise_conv2d", f"{separable}/depthwise_weights"
                )
                yield LayerNames(
                    f"{ours}.{first + 1}",
                    f"{theirs}.separable_{half}.pointwise_conv2d",
                    f"{separable}/pointwise_weights",
                )
                yield LayerNames(f"{ours}.{first + 2}", f"{theirs}.bn_sep_{half}", f"{slim}/bn_sep_{size}_{half}")


def slim_variables() -> dict[str, str]:
    """{TF slim's variable: our tensor} of the backbone."""
    found: dict[str, str] = {}
    for layer in layers():
        if layer.slim.endswith("weights"):
            found[layer.slim] = f"{layer.ours}.weight"
        else:
            found |= {f"{layer.slim}/{theirs}": f"{layer.ours}.{ours}" for theirs, ours in NORM.items()}
    return found


@cache
def shapes() -> dict[str, torch.Size]:
    """{our name: shape} of the backbone."""
    with torch.device("meta"):
        backbone = NASNetMobile(width=1.0, output_stride=32, taps=["final"])
    return {f"backbone.{name}": tensor.shape for name, tensor in backbone.state_dict().items()}


@cache
def pretrainedmodels() -> Family:
    """Cadene's nasnetamobile."""
    return Family(
        name="pretrainedmodels nasnetamobile",
        task="classification",
        backbone=BACKBONE,
        modules={layer.theirs: layer.ours for layer in layers()} | {"last_linear": CLASSIFIER},
        head="last_linear",
        overrides=["width=1.0", *TF_INPUT],
        shapes=shapes(),
        background_first=True,
        note=". Ours is the mobile one, NASNet-A (4 @ 1056)",
    )
