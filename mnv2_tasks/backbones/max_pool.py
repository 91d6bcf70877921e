"""Max pooling whose stride can be taken away, as `limit_stride` does."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair


class MaxPool(nn.MaxPool2d):
    """Halves sizes, rounding up as SSD's pool3 does (75 -> 38), or keeps them at stride 1, whatever the dilation."""

    def __init__(self, kernel: int, *, stride: int):
        super().__init__(kernel, stride, ceil_mode=True)

    def forward(self, input: Tensor) -> Tensor:
        if self.stride == 2:
            return F.max_pool2d(input, self.kernel_size, 2, self.padding, self.dilation, ceil_mode=True)
        (kernel, dilation), *_ = zip(_pair(self.kernel_size), _pair(self.dilation))
        before = (kernel - 1) // 2 * dilation  # a window of two begins at its cell, as it does where it strides
        pads = (before, (kernel - 1) * dilation - before) * 2
        return F.max_pool2d(F.pad(input, pads, value=-torch.inf), kernel, stride=1, dilation=dilation)
