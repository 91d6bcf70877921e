"""Statistics for folded batch norms: the output stays, and training starts from it."""

import copy
import math

import pytest
import torch
from torch import nn

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.unfold import is_folded, unfold

CLASS_NAMES = {"classification": ["a", "b", "c"], "mobile_deeplabv3": ["background", "a", "b"]}


def network_for(task="classification", **heads):
    torch.manual_seed(0)
    config = compose("train", [f"task={task}", "width=0.35", "output_stride=16"])
    config.tasks[task].head.dropout = 0.0
    return build_network(config, {task: CLASS_NAMES[task]}).eval()


def norms_of(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def folded(network):
    """As a converter leaves it: norms that only add a bias, convolutions that carry the rest."""
    for norm in norms_of(network):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(next(images(seed=5, batch=64)))  # statistics that fit the weights
    for convolution, norm in zip(convolutions_before_norms(network), norms_of(network), strict=True):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        convolution.weight.data *= scale.view(-1, 1, 1, 1)
        norm.bias.data -= norm.running_mean * scale
        norm.weight.data.fill_(math.sqrt(1 + norm.eps))
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    assert is_folded(network)
    return network.eval()


def convolutions_before_norms(network):
    pairs = [m for m in network.modules() if isinstance(m, nn.Sequential) and len(m) > 1]
    return [m[0] for m in pairs if isinstance(m[0], nn.Conv2d) and isinstance(m[1], nn.BatchNorm2d)]


def images(seed, batches=4, batch=8, size=64):
    """Coarse random patterns, so that every layer sees structure."""
    generator = torch.manual_seed(seed)
    for _ in range(batches):
        coarse = torch.randint(0, 256, (batch, 3, 8, 8), generator=generator).float()
        yield nn.functional.interpolate(coarse, size=size, mode="bilinear").to(torch.uint8)


def output_of(network, batch, training=False):
    network = copy.deepcopy(network).train(training)
    with torch.no_grad():
        (output,) = network(batch).values()
    return output


@pytest.mark.parametrize("task", CLASS_NAMES)
def test_the_evaluation_output_stays(task):
    network = folded(network_for(task))
    (batch,) = images(seed=1, batches=1)
    before = output_of(network, batch)
    unfold(network, images(seed=2))
    assert (output_of(network, batch) - before).abs().max() <= 1e-4 * max(1, before.abs().max())
    assert (before[0] - before[1]).norm() > 0.1 * before[0].norm() and not is_folded(network)


@pytest.mark.parametrize("task", CLASS_NAMES)
def test_training_sees_the_evaluation_output_on_the_images_of_the_estimate(task):
    network = folded(network_for(task)).double()  # torch's float32 batch statistics are good to four digits only
    (batch,) = images(seed=1, batches=1)
    evaluated = output_of(network, batch)
    assert (output_of(network, batch, training=True) - evaluated).norm() > 0.3 * evaluated.norm()
    unfold(network, [batch])
    torch.testing.assert_close(output_of(network, batch, training=True), evaluated, rtol=0, atol=1e-9)


@pytest.mark.parametrize("task", CLASS_NAMES)
def test_training_starts_near_the_evaluation_output_on_other_images(task):
    network = folded(network_for(task))
    (batch,) = images(seed=1, batches=1, batch=64, size=96)
    evaluated = output_of(network, batch)
    far = (output_of(network, batch, training=True) - evaluated).norm()
    unfold(network, images(seed=2, batches=8, batch=16, size=96))
    assert (output_of(network, batch, training=True) - evaluated).norm() < 0.6 * far


def test_statistics_are_those_of_all_images_whatever_the_batches():
    network, batch = Small(), torch.randn(32, 3, 8, 8)
    seen = nn.functional.conv2d(batch, network.backbone[0].weight)
    for batches in ([batch], batch.split([1, 20, 11])):
        unfold(network, batches)
        torch.testing.assert_close(network.backbone[1].running_mean, seen.mean((0, 2, 3)))
        torch.testing.assert_close(network.backbone[1].running_var, seen.var((0, 2, 3), correction=0))


class Small(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, channels, 3, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        return self.backbone(x)


def test_any_batch_norm_can_be_unfolded_not_only_folded_ones():
    torch.manual_seed(0)
    network = Small().eval()
    norm = network.backbone[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    batch = 100 + torch.randn(2, 3, 8, 8)  # a mean far above the spread: sums of squares in float32 would fail
    before = network(batch)
    unfold(network, batch.split(1))
    torch.testing.assert_close(network(batch), before, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(network.train()(batch), before, rtol=1e-3, atol=1e-2)


def test_a_channel_that_never_varies_stays_finite_and_keeps_its_output():
    network = Small().eval()
    network.backbone[0].weight.data[1] = 0
    network.backbone[1].bias.data.fill_(0.5)
    batch = torch.randn(2, 3, 8, 8)
    before = network(batch)
    unfold(network, [batch])
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    torch.testing.assert_close(network(batch), before)
    torch.testing.assert_close(network.train()(batch)[:, 1], before[:, 1])


def test_the_mode_and_the_hooks_are_as_before():
    network = Small().train()
    unfold(network, [torch.randn(2, 3, 8, 8)])
    assert network.training and not network.backbone[1]._forward_hooks


def test_no_images_and_broken_weights_are_refused():
    with pytest.raises(ConfigError, match="backbone.1 saw no images"):
        unfold(Small(), [])
    network = Small()
    network.backbone[0].weight.data[0] = torch.nan
    with pytest.raises(ConfigError, match="backbone.1 saw values that are not finite"):
        unfold(network, [torch.randn(1, 3, 8, 8)])


@pytest.mark.parametrize("weight, bias, mean, answer", [
    (math.sqrt(1 + 1e-5), 0.3, 0.0, True),
    (1.0, 0.3, 0.0, True),
    (1.0, 0.0, 0.0, False),  # as initialised
    (0.9, 0.3, 0.0, False),
    (1.0, 0.3, 0.1, False),
])  # fmt: skip
def test_a_network_is_folded_if_its_norms_only_add_a_bias(weight, bias, mean, answer):
    network = Small()
    norm = network.backbone[1]
    norm.weight.data.fill_(weight)
    norm.bias.data[0] = bias
    norm.running_mean.fill_(mean)
    assert is_folded(network) is answer
