"""Any convolutional network of timm, by name, behind our contract. timm is imported when one is asked for."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv2_tasks.backbones.output_shapes import output_shapes
from mnv2_tasks.backbones.stride import check_output_stride, check_taps
from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import did_you_mean

STRIDES = {"c1": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}  # nominal
SAME_AS = {"c4_expand": "c4", "final": "c5"}
ORDER = ("c1", "c2", "c3", "c4", "c4_expand", "c5", "final")
PROBE = (97, 161)  # an image of odd sides, that shows how a network rounds


class TimmBackbone(nn.Module):
    """`timm.create_model(name, features_only=True)`, its maps offered as taps by their strides.

    `c4_expand` is `c4` and `final` is `c5`, the last map that timm offers: a convolution between it and the pooling,
    as EfficientNets have, is not part of timm's features. A network that starts at stride 4 has no `c1`. Where
    output_stride is less than 32, dilation is timm's. Networks that round sizes down, such as ConvNeXt, see images
    padded to a multiple of 32, so that maps have the sizes of the contract.

    Args:
        name: as timm lists it, such as mobilenetv3_large_100.
        output_stride: 8, 16 or 32; not every network has all of them.
        taps: the feature maps to return; timm builds nothing past the deepest one.

    Raises:
        ConfigError: timm is not installed, has no such network or none with feature maps, or the network cannot keep to
            the strides of the contract.
    """

    def __init__(self, *, name: str, output_stride: int, taps: Sequence[str]):
        super().__init__()
        check_output_stride(output_stride)
        with torch.device("meta"):
            stages = _stages(name)
        index_of = {tap: stages[SAME_AS.get(tap, tap)] for tap in ORDER if SAME_AS.get(tap, tap) in stages}
        check_taps(taps, list(index_of), f"timm's {name}")
        wanted = sorted({index_of[tap] for tap in taps})
        self.body = _create(name, output_stride, out_indices=tuple(wanted))
        self.maps = {tap: wanted.index(index) for tap, index in index_of.items() if tap in taps}
        channels, strides = self.body.feature_info.channels(), self.body.feature_info.reduction()
        self.features = {tap: FeatureSpec(channels[n], strides[n]) for tap, n in self.maps.items()}
        self.multiple = 1  # of what images are padded to
        if self._misfit():
            self.multiple = 32
        if misfit := self._misfit():
            raise ConfigError(f"backbone.name={name}: cannot be used here. {misfit}")

    def _misfit(self) -> str | None:
        """What its maps do that their channels and strides do not say, if anything."""
        promised = {tap: (spec.channels, *_cells(PROBE, spec.stride)) for tap, spec in self.features.items()}
        try:
            found = output_shapes(self, PROBE)
        except (AssertionError, RuntimeError, ValueError) as error:  # such as one that takes a single size of image
            return f"An image of {PROBE} pixels fails: {error}"
        return None if found == promised else f"An image of {PROBE} pixels gives {found}, expected {promised}"

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[2:]
        if self.multiple > 1:
            images = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        maps, features = self.body(images), {}
        for tap, n in self.maps.items():
            rows, columns = _cells((height, width), self.features[tap].stride)
            features[tap] = maps[n][:, :, :rows, :columns]
        return features


def _cells(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return math.ceil(size[0] / stride), math.ceil(size[1] / stride)


def _stages(name: str) -> dict[str, int]:
    """{c1 .. c5: index of the last of timm's maps with that stride}."""
    info = _create(name, 32).feature_info
    last = dict(zip(info.reduction(), info.out_indices))
    stages = {tap: last[stride] for tap, stride in STRIDES.items() if stride in last}
    if not {"c4", "c5"} <= stages.keys():
        raise ConfigError(
            f"backbone.name={name}: its maps have strides {info.reduction()}, the heads need 16 and 32. "
            f"Choose a network that halves its maps stage by stage"
        )
    return stages


def _create(name: str, output_stride: int, **options: Any) -> Any:
    try:
        import timm
    except ImportError:
        raise ConfigError(f"backbone.name={name}: timm is not installed. pip install -e .[timm]") from None
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise ConfigError(f"backbone.name={name}: timm has no such network. {hint}timm.list_models() names them")
    if output_stride != 32:  # not every network knows the argument
        options["output_stride"] = output_stride
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **options)
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        what = "as feature maps" if output_stride == 32 else f"as feature maps at output_stride={output_stride}"
        raise ConfigError(
            f"backbone.name={name}: timm cannot build it {what} ({str(error) or type(error).__name__})"
        ) from None
