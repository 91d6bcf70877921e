import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from mnv2_tasks.network.cost import model_cost

FLOAT = 4  # bytes


def test_convolution_counts_one_multiply_add_per_weight_and_position():
    cost = model_cost(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), (10, 12))
    assert (cost.params, cost.madds) == (3 * 8 * 9, 3 * 8 * 9 * 5 * 6)


def test_depthwise_convolution_counts_one_channel_per_filter():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8))
    assert model_cost(network, 10).madds == (3 * 8 + 8 * 9) * 100


def test_norm_activation_pooling_and_bias_count_no_multiply_adds():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))
    cost = model_cost(network, 8)
    assert (cost.params, cost.madds) == (3 + 3 + 3 * 7 + 7, 3 * 7)


def test_a_parameter_used_twice_counts_once_and_computes_twice():
    conv = nn.Conv2d(3, 3, 1, bias=False)
    cost = model_cost(nn.Sequential(conv, conv), 8)
    assert (cost.params, cost.madds) == (9, 2 * 9 * 64)


@pytest.mark.parametrize("inplace, channels", [(False, 8 + 8), (True, 8 + 2)])
def test_peak_is_what_is_alive_at_one_moment(inplace, channels):
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace), nn.Conv2d(8, 2, 1), nn.Flatten())
    assert model_cost(network, 16).peak_activation_bytes == channels * 16 * 16 * FLOAT


def test_peak_counts_neither_the_image_nor_the_parameters_nor_views():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(5, 5))

        def forward(self, images):
            return images.flatten(1), self.weight.T, images.mul_(2)

    assert model_cost(Views(), 16).peak_activation_bytes == 0


def test_peak_of_the_classifier_is_that_of_its_first_wide_block():
    cost = model_cost(mobilenet_v2(weights=None), 224)
    maps = (16 + 96 + 96) * 112**2 * FLOAT  # block input, expansion before and after batch norm
    statistics = 2 * 96 * FLOAT  # that batch norm returns on the meta device
    assert cost == (3_504_872, 300_774_272, maps + statistics)


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: x.clone() for name, x in network.state_dict().items()}
    model_cost(network, 16)
    assert network.training and all(module.training for module in network)
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    assert all(x.device.type == "cpu" for x in network.state_dict().values())


def test_counting_twice_gives_the_same():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6())
    assert model_cost(network, 33) == model_cost(network, 33)
