"""ResNet-50 (He et al. 2015, arXiv:1512.03385): torchvision's layers behind our contract."""

from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor, nn
from torchvision.models import resnet50

from mnv2_tasks.backbones.stride import check_taps, limit_stride
from mnv2_tasks.contracts import FeatureSpec

# tap -> (stage after which it lies, channels); 0 = stem, 1 to 4 = torchvision's layer1 to layer4
TAPS = {
    "c1": (0, 64),
    "c2": (1, 256),
    "c3": (2, 512),
    "c4": (3, 1024),
    "c4_expand": (3, 1024),
    "c5": (4, 2048),
    "final": (4, 2048),
}


class ResNet50(nn.Module):
    """Bottlenecks 3, 4, 6, 3, with the stride on the 3x3 convolution ("v1.5"). Names are torchvision's.

    `c4_expand` is `c4` and `final` is `c5`: whoever asks for both gets the same tensor twice.

    Args:
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; no stage past the deepest one is built.

    Raises:
        ConfigError: `output_stride` is out of range, or a tap is unknown.
    """

    def __init__(self, *, output_stride: int, taps: Sequence[str]):
        super().__init__()
        check_taps(taps, list(TAPS), type(self).__name__)
        self.depth = max(TAPS[tap][0] for tap in taps)
        net = resnet50(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        for stage in range(1, self.depth + 1):
            self.add_module(f"layer{stage}", net.get_submodule(f"layer{stage}"))

        blocks = [block for stage in self._stages() for block in stage]
        block_strides = limit_stride(blocks, output_stride, start=4)  # the stem's convolution and pooling
        strides = [2, *(block_strides[end - 1] for end in accumulate(len(stage) for stage in self._stages()))]
        self.features = {
            tap: FeatureSpec(channels, strides[stage]) for tap, (stage, channels) in TAPS.items() if tap in taps
        }

    def _stages(self) -> list[nn.Sequential]:
        return [getattr(self, f"layer{stage}") for stage in range(1, self.depth + 1)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.relu(self.bn1(self.conv1(images)))
        features = {tap: x for tap in self.features if TAPS[tap][0] == 0}
        x = self.maxpool(x)
        for index, stage in enumerate(self._stages(), start=1):
            x = stage(x)
            features |= {tap: x for tap in self.features if TAPS[tap][0] == index}
        return features
