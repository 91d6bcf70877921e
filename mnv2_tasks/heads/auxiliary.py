"""The auxiliary classifier of Inception and NASNet: a second one, halfway up, whose loss helps in training."""

from torch import Tensor, nn

from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import batch_norm, conv_norm_act, init_convs


class AuxiliaryHead(nn.Module):
    """(B, channels, h, w) of the map at stride 16 -> (B, num_classes) logits, as in TF slim's nasnet.py.

    No task has it: it is of training alone, and of one size of images, for its last convolution spans the map.

    Args:
        map_size: height and width of the map.

    Raises:
        ConfigError: the map is too small to be pooled.
    """

    taps = ("auxiliary",)

    def __init__(self, *, features: dict[str, FeatureSpec], map_size: tuple[int, int], num_classes: int):
        super().__init__()
        if min(map_size) < 5:
            side = 4 * features["auxiliary"].stride + 3  # of which the stem makes so many cells, padded or not
            raise ConfigError(
                f"auxiliary: its classifier pools 5 x 5 cells, these images have {map_size[0]} x {map_size[1]}; "
                f"train at {side} px or more (train_imgsz, imgsz), or set auxiliary=0"
            )
        height, width = ((cells - 5) // 3 + 1 for cells in map_size)
        norm = batch_norm(1e-3)
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3),
            conv_norm_act(features["auxiliary"].channels, 128, 1, norm=norm, activation=nn.ReLU),
            nn.Conv2d(128, 768, (height, width), bias=False),
            norm(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, num_classes),
        )
        init_convs(self)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return self.layers(features["auxiliary"])
