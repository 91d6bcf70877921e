"""Layers that run one after another, such as torchvision's, behind the `Backbone` contract."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from torch import Tensor, nn

from mnv2_tasks.backbones.output_shapes import output_shapes
from mnv2_tasks.backbones.stride import check_taps, limit_stride
from mnv2_tasks.contracts import FeatureSpec


class LayersWithTaps(nn.Module):
    """Returns what comes out of some of its layers. They keep their names, so their weights load as they are.

    A tap may lie inside a block: at "layers.13.block.0", say. Every module on the way there is run part by part; one
    that is no `nn.Sequential` counts as nothing but its child on the way, which holds for blocks without a shortcut.

    Args:
        layers: {name: layer}, in the order in which they run.
        positions: {tap: path of the layer at whose end it lies}, for every tap on offer, in depth order.
        taps: the feature maps to return; nothing past the deepest one is kept.
        output_stride: 8, 16 or 32; see `limit_stride`.

    Raises:
        ConfigError: `output_stride` is out of range, or a tap is unknown.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], positions: Mapping[str, str], *, taps: Sequence[str], output_stride: int
    ):
        super().__init__()
        check_taps(taps, list(positions), type(self).__name__)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.positions = {tap: path for tap, path in positions.items() if tap in taps}

        opened = {path[:end] for path in positions.values() for end, letter in enumerate(path) if letter == "."}
        steps = list(_steps(self, opened))
        deepest = max(steps.index(path) for path in self.positions.values())
        for path in steps[deepest + 1 :]:
            self._drop(path)
        self.steps = steps[: deepest + 1]
        limit_stride([block for path in self.steps for block in _blocks(self.get_submodule(path))], output_stride)

    def _drop(self, path: str) -> None:
        """Remove a layer, and what is empty without it."""
        parent, _, name = path.rpartition(".")
        delattr(self.get_submodule(parent), name)
        if parent and next(self.get_submodule(parent).children(), None) is None:
            self._drop(parent)

    @cached_property
    def features(self) -> dict[str, FeatureSpec]:
        """Measured, at first use."""
        side = 64
        shapes = output_shapes(self, (side, side))
        return {tap: FeatureSpec(channels, side // height) for tap, (channels, height, _) in shapes.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features, x = {}, images
        for path in self.steps:
            x = self.get_submodule(path)(x)
            features |= {tap: x for tap, position in self.positions.items() if position == path}
        return features


def _steps(module: nn.Module, opened: set[str], prefix: str = "") -> Iterator[str]:
    """Paths of the layers to run, in order: the children, with those that are `opened` replaced by theirs."""
    for name, child in module.named_children():
        path = prefix + name
        if path in opened:
            yield from _steps(child, opened, f"{path}.")
        elif not prefix or isinstance(module, nn.Sequential):
            yield path


def _blocks(layer: nn.Module) -> Iterator[nn.Module]:
    """What strides at most once: a stage's blocks, a block as it is."""
    if isinstance(layer, nn.Sequential):
        for child in layer:
            yield from _blocks(child)
    else:
        yield layer
