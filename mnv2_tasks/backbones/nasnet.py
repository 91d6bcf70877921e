"""NASNet-A (Zoph et al. 2017, arXiv:1707.07012): the mobile network, 4 @ 1056, as TF slim builds it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from mnv2_tasks.backbones.stride import Window, check_taps, limit_stride
from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import Norm, batch_norm, conv2d, init_convs, same_padding

# A cell adds up five pairs of operations, each on a state (paper figure 4): 0 is the output of the last cell, 1 that of
# the one before it, both fitted to the cell's filters; 2 to 6 are the sums
PAIRS = {
    "normal": (
        ((0, "separable 5"), (1, "separable 3")),
        ((1, "separable 5"), (1, "separable 3")),
        ((0, "average"), (1, "identity")),
        ((1, "average"), (1, "average")),
        ((0, "separable 3"), (0, "identity")),
    ),
    "reduction": (
        ((0, "separable 5"), (1, "separable 7")),
        ((0, "max"), (1, "separable 7")),
        ((0, "average"), (1, "separable 5")),
        ((3, "identity"), (2, "average")),
        ((2, "separable 3"), (0, "max")),
    ),
}
OUTPUTS = {"normal": (1, 2, 3, 4, 5, 6), "reduction": (3, 4, 5, 6)}  # states that are concatenated
STEM_CHANNELS = 32
CELLS = [  # kind, filters at width 1: 1056 channels at the end are 6 * 176
    ("reduction", 11),
    ("reduction", 22),
    *[("normal", 44)] * 4,
    ("reduction", 88),
    *[("normal", 88)] * 4,
    ("reduction", 176),
    *[("normal", 176)] * 4,
]
# tap -> cells before it. `auxiliary` is c4, for the classifier that helps in training (heads/auxiliary.py)
TAPS = {"c1": 0, "c2": 1, "c3": 6, "c4": 11, "c4_expand": 11, "auxiliary": 11, "c5": 16, "final": 16}


class SameMaxPool(Window):
    """3x3, padded as TF's SAME."""

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, same_padding(x, self), value=-torch.inf)
        return F.max_pool2d(padded, 3, self.stride, dilation=self.dilation)


class SameAveragePool(Window):
    """3x3, padded as TF's SAME; what is padded does not count."""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == self.dilation == (1, 1):
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        pads = same_padding(x, self)
        return self._mean(F.pad(x, pads)) / self._mean(F.pad(torch.ones_like(x[:1, :1]), pads))

    def _mean(self, x: Tensor) -> Tensor:
        if (rate := self.dilation[0]) == 1:
            return F.avg_pool2d(x, 3, self.stride)
        x = (x[:, :, : -2 * rate] + x[:, :, rate:-rate] + x[:, :, 2 * rate :]) / 3  # avg_pool2d knows no dilation
        return (x[..., : -2 * rate] + x[..., rate:-rate] + x[..., 2 * rate :]) / 3


class FactorizedReduction(Window):
    """Half the size: one half of the channels from every other cell, the other from their neighbours below right.

    At stride 1 it computes these channels of every cell: a 1x1 convolution, half of which reads the neighbour.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: Norm):
        super().__init__(2, stride=2)
        self.path_1 = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.path_2 = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        left, right, above, below = same_padding(x, self)
        x, rate = F.pad(F.relu(x), (0, left + right, 0, above + below)), self.dilation[0]
        # the source's pooling of one cell; a slice of every other one has a size that exporters take longer to know
        cells = [F.avg_pool2d(part, 1, self.stride) for part in (x[:, :, :-rate, :-rate], x[:, :, rate:, rate:])]
        halves = [self.path_1(cells[0]), self.path_2(cells[1])]
        return self.norm(torch.cat(halves, dim=1))


def relu_conv_norm(in_channels: int, out_channels: int, *, norm: Norm) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False), norm(out_channels))


def operation(name: str, in_channels: int, out_channels: int, *, stride: int, norm: Norm) -> list[nn.Module]:
    """A separable one is twice: ReLU, a kernel for each channel, 1x1 across them, norm. The first half strides."""
    if name == "identity":
        return []
    if name in ("average", "max"):
        return [SameAveragePool(3, stride=stride) if name == "average" else SameMaxPool(3, stride=stride)]
    kernel, layers = int(name.removeprefix("separable ")), []
    for channels, step in ((in_channels, stride), (out_channels, 1)):
        padding = "same" if step > 1 else "torch"  # at stride 1 both pad alike
        depthwise = conv2d(channels, channels, kernel, stride=step, groups=channels, bias=False, padding=padding)
        layers += [nn.ReLU(), depthwise, nn.Conv2d(channels, out_channels, 1, bias=False), norm(out_channels)]
    return layers


class Cell(nn.Module):
    """Five sums of two operations each, concatenated.

    Args:
        kind: a key of `PAIRS`; in a reduction the operations on its two inputs have stride 2.
        previous_channels: of state 1, which comes fitted; but in the first cell they are `filters`.
        drop_path: probability of dropping what an operation computes, for each image of a training batch.
    """

    def __init__(
        self, kind: str, in_channels: int, previous_channels: int, filters: int, *, norm: Norm, drop_path: float
    ):
        super().__init__()
        self.pairs, self.outputs = PAIRS[kind], OUTPUTS[kind]
        self.fit = relu_conv_norm(in_channels, filters, norm=norm)
        self.operations = nn.ModuleList()
        for state, name in (side for pair in self.pairs for side in pair):
            channels = previous_channels if state == 1 else filters
            stride = 2 if kind == "reduction" and state < 2 else 1
            layers = operation(name, channels, filters, stride=stride, norm=norm)
            if layers and drop_path:
                layers.append(StochasticDepth(drop_path, "row"))
            self.operations.append(nn.Sequential(*layers))

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        states, operations = [self.fit(current), previous], iter(self.operations)
        for (left, _), (right, _) in self.pairs:
            states.append(next(operations)(states[left]) + next(operations)(states[right]))
        return torch.cat([states[index] for index in self.outputs], dim=1)


class NASNetMobile(nn.Module):
    """Sixteen cells, each of which reads the outputs of the two before it, behind the `Backbone` contract.

    `c4_expand` is `c4`, and `c5` is `final`, behind a ReLU. Past the output stride reductions keep the size, and what
    comes after them is dilated: pooling too, and the neighbour that a `FactorizedReduction` reads.

    Args:
        width: multiplier on the filters of all cells. 1: the paper's, of 1056 channels at the end.
        output_stride: 8, 16 or 32; see `limit_stride`.
        taps: the feature maps to return; no cell past the deepest one is built.
        norm_momentum: belongs to the weights. TF: 0.0003.
        drop_path: see `Cell`; of the last one, less in proportion before it. The source's mobile network has none, its
            others let it rise over the steps of training, too.
        stem_padding: "same", with which every map has ceil(H / stride) cells; "valid", the source's, of which 224
            pixels make 111 cells: at even sizes the same without the last row and column, at odd ones shifted by a
            pixel. None: "valid" where `final` alone is read, which is a classifier, else "same". A classifier that was
            trained beside other tasks needs "same" when it is taken out.

    Raises:
        ConfigError: an argument is out of range, or a tap is unknown.
    """

    def __init__(
        self,
        *,
        width: float,
        output_stride: int,
        taps: Sequence[str],
        norm_momentum: float = 0.1,
        drop_path: float = 0.0,
        stem_padding: str | None = None,
    ):
        super().__init__()
        check_taps(taps, list(TAPS), type(self).__name__)
        if not 0.1 <= width <= 4:
            raise ConfigError(f"width={width}: expected a multiplier between 0.1 and 4 (paper: 1)")
        if not 0 <= drop_path < 1:
            raise ConfigError(f"drop_path={drop_path}: expected a probability in [0, 1)")
        norm = batch_norm(1e-3, norm_momentum)
        self.stem = nn.Sequential(_stem(stem_padding, taps), norm(STEM_CHANNELS))

        smallest = max(1, round(CELLS[0][1] * width))  # of which all others are multiples
        channels = [STEM_CHANNELS, STEM_CHANNELS]  # of what the first cell reads, then of each cell's output
        self.fits, self.cells = nn.ModuleList(), nn.ModuleList()
        for index, (kind, at_width_1) in enumerate(CELLS[: max(TAPS[tap] for tap in taps)]):
            filters, (before, last) = smallest * at_width_1 // CELLS[0][1], channels[-2:]
            drop = drop_path * (index + 1) / len(CELLS)
            previous = filters if index else before
            self.fits.append(_fit(index, before, filters, norm=norm))
            self.cells.append(Cell(kind, last, previous, filters, norm=norm, drop_path=drop))
            channels.append(filters * len(OUTPUTS[kind]))
        init_convs(self)

        # what fits a cell's second input to the size of its first strides with the reduction between them
        steps = [nn.ModuleList(step) for step in zip(self.cells, [*self.fits[1:], nn.Identity()])]
        strides = limit_stride([self.stem, *steps], output_stride)
        self.features = {
            tap: FeatureSpec(channels[cells + 1], strides[cells]) for tap, cells in TAPS.items() if tap in taps
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        previous = current = self.stem(images)
        features = self._taps_after(0, current)
        for number, (fit, cell) in enumerate(zip(self.fits, self.cells), start=1):
            previous, current = current, cell(current, fit(previous))
            if number == len(CELLS):
                current = F.relu(current)
            features |= self._taps_after(number, current)
        return features

    def _taps_after(self, cells: int, x: Tensor) -> dict[str, Tensor]:
        return {tap: x for tap in self.features if TAPS[tap] == cells}


def _fit(index: int, in_channels: int, filters: int, *, norm: Norm) -> nn.Module:
    """Brings the output of the cell before the last to what cell `index` takes; the first one takes the stem's."""
    if index == 0:
        return nn.Identity()
    if CELLS[index - 1][0] == "reduction":
        return FactorizedReduction(in_channels, filters, norm=norm)
    return relu_conv_norm(in_channels, filters, norm=norm)


def _stem(padding: str | None, taps: Sequence[str]) -> nn.Conv2d:
    """Its ReLU is that of what reads it."""
    others = sorted(set(taps) - {"auxiliary", "final"})
    if padding not in (None, "valid", "same"):
        raise ConfigError(f"stem_padding={padding!r}: expected 'valid', 'same' or None")
    if padding == "valid" and others:
        raise ConfigError(f"stem_padding='valid': is for a classifier, which reads 'final'; {others} need 'same'")
    if padding == "same" or others:
        return conv2d(3, STEM_CHANNELS, 3, stride=2, bias=False, padding="same")
    return nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, bias=False)
