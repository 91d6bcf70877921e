"""Darknet-19 (Redmon and Farhadi 2016, arXiv:1612.08242, table 6): the network of YOLOv2."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from mnv2_tasks.backbones.layers_with_taps import LayersWithTaps
from mnv2_tasks.backbones.max_pool import MaxPool
from mnv2_tasks.layers import batch_norm, conv_norm_act, init_convs

STAGES = [  # (channels, kernel) of the convolutions between two poolings
    [(32, 3)],
    [(64, 3)],
    [(128, 3), (64, 1), (128, 3)],
    [(256, 3), (128, 1), (256, 3)],
    [(512, 3), (256, 1), (512, 3), (256, 1), (512, 3)],
    [(1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)],
]
POSITIONS = {  # after the convolution before the next pooling
    "c1": "layers.2",
    "c2": "layers.6",
    "c3": "layers.10",
    "c4": "layers.16",
    "c4_expand": "layers.16",
    "c5": "layers.22",
    "final": "layers.22",
}

darknet_conv = partial(conv_norm_act, norm=batch_norm(momentum=0.01), activation=partial(nn.LeakyReLU, 0.1))


class Darknet19(LayersWithTaps):
    """Eighteen convolutions and five poolings of 2x2; with a linear classifier they are Darknet's nineteen.

    `layers.<i>` is the i-th section of Darknet's .cfg files. `c4_expand` is `c4` and `final` is `c5`. Darknet's
    networks see RGB / 255: `input.mean=[0,0,0] input.std=[255,255,255]`.

    Args:
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; nothing past the deepest one is kept.

    Raises:
        ConfigError: `output_stride` is out of range, or a tap is unknown.
    """

    def __init__(self, *, output_stride: int, taps: Sequence[str]):
        layers, before = [], 3
        for stage in STAGES:
            if layers:
                layers.append(MaxPool(2, stride=2))
            for after, kernel in stage:
                layers.append(darknet_conv(before, after, kernel))
                before = after
        super().__init__({"layers": nn.Sequential(*layers)}, POSITIONS, taps=taps, output_stride=output_stride)
        init_convs(self, mode="fan_in")
