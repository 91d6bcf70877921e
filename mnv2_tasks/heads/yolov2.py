"""YOLOv2's detector (YOLO9000, arXiv:1612.08242; the layers of darknet's yolov2.cfg)."""

from functools import partial

import torch
from torch import Tensor, nn

from mnv2_tasks.boxes.anchors import grid_anchors
from mnv2_tasks.boxes.cells import reorg
from mnv2_tasks.contracts import FeatureSpec, YOLOv2Output
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import batch_norm, conv_norm_act, init_convs, make_divisible

CELL = 32  # pixels; the unit of anchors, whatever the stride and the size of the input


class YOLOv2Head(nn.Module):
    """Predicts a box, its objectness and K class logits for each anchor of each cell of the last map.

    The finer map, of stride 16, is passed through: its cells are laid side by side as channels of the last map's, which
    is half as fine (`reorg`). Where the backbone's output stride makes both equally fine, it is joined as it is.

    Args:
        anchors: [width, height] of a cell's anchors in units of 32 px of the input; they belong to the weights. `mnv2
            data anchors` finds those of a data set.
        passthrough_channels: to which a 1x1 convolution reduces the finer map before (64 since March 2017); None: as it
            is, the network of the paper.
        channels: of the three 3x3 convolutions, 1024 in the paper.
        width: multiplies both numbers of channels, as the backbone's width does its layers.
        norm_eps, norm_momentum: batch norm; darknet's.

    Raises:
        ConfigError: the backbone's finer map does not fit in, or an anchor has no size.
    """

    taps = ("c4", "final")

    def __init__(
        self,
        *,
        features: dict[str, FeatureSpec],
        num_classes: int,
        anchors: list[list[float]],
        passthrough_channels: int | None,
        channels: int,
        width: float,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        _check_anchors(anchors)
        if lacking := [tap for tap in self.taps if tap not in features]:
            raise ConfigError(f"YOLOv2 reads the maps {' and '.join(self.taps)}; the backbone has no {lacking[0]}")
        if channels < 1:
            raise ConfigError(f"head.channels={channels}: expected 1 or more")
        fine, coarse = (features[tap] for tap in self.taps)
        self.anchors, self.stride = anchors, coarse.stride
        self.side = coarse.stride // fine.stride  # cells of the finer map along one of the last
        self.size_multiple = self.stride if self.side > 1 else 1
        block = partial(
            conv_norm_act, norm=batch_norm(norm_eps, norm_momentum), activation=partial(nn.LeakyReLU, 0.1, inplace=True)
        )
        channels, passed = make_divisible(channels * width), fine.channels
        self.conv1 = block(coarse.channels, channels, 3)
        self.conv2 = block(channels, channels, 3)
        self.passthrough = nn.Identity()
        if passthrough_channels is not None:
            if passthrough_channels < 1:
                raise ConfigError(f"head.passthrough_channels={passthrough_channels}: expected 1 or more, or null")
            passed = make_divisible(passthrough_channels * width, self.side**2)
            self.passthrough = block(fine.channels, passed, 1)
        if passed % self.side**2:
            raise ConfigError(
                f"head.passthrough_channels=null: the {passed} channels of the backbone's stride-{fine.stride} map "
                f"cannot be laid out in groups of {self.side**2}: say a number, such as 64"
            )
        self.conv3 = block(channels + passed * self.side**2, channels, 3)
        self.columns = 5 + num_classes
        self.predictor = nn.Conv2d(channels, len(anchors) * self.columns, 1)
        init_convs(self, mode="fan_in")  # darknet's sqrt(2 / inputs)

    def forward(self, features: dict[str, Tensor]) -> YOLOv2Output:
        fine, x = (features[tap] for tap in self.taps)
        x = self.conv2(self.conv1(x))
        fine = self.passthrough(fine)
        x = torch.cat([reorg(fine, self.side) if self.side > 1 else fine, x], dim=1)
        x = self.predictor(self.conv3(x))  # (B, a * (5 + K), h, w)
        rows = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.columns)  # (B, A, 5 + K)
        grid = (x.shape[2], x.shape[3])
        deltas, objectness, logits = rows.split([4, 1, self.columns - 5], dim=-1)
        return YOLOv2Output(
            logits, objectness[..., 0], deltas, self._anchors_of(grid).to(x.device, non_blocking=True), grid
        )

    def _anchors_of(self, grid: tuple[int, int]) -> Tensor:
        """(A, 4) xyxy fractions."""
        height, width = (side * self.stride / CELL for side in grid)  # of the input, in the unit of the anchors
        return grid_anchors([grid], [[(w / width, h / height) for w, h in self.anchors]])


def _check_anchors(anchors: list[list[float]]) -> None:
    if not anchors or not all(isinstance(a, list | tuple) and len(a) == 2 and min(a) > 0 for a in anchors):
        raise ConfigError(f"head.anchors={anchors}: expected [width, height] of each in cells of {CELL} px, above 0")
