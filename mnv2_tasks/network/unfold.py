"""Batch norms that were folded into their convolutions get statistics again, so that the network can be trained.

With mean 0 and variance 1 everywhere evaluation is exact, but training normalises by the batch: its first step would
see another network. Statistics from a few images give back what the folding took, and the output stays.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mnv2_tasks.errors import ConfigError


def is_folded(network: nn.Module) -> bool:
    """Whether every batch norm of `network.backbone` only adds its bias: mean 0, variance 1, weight 1 or sqrt(1 + eps).

    A freshly initialised network, whose biases are all 0, is not called folded.
    """
    norms = _norms(network.get_submodule("backbone")).values()
    return bool(norms) and all(map(_only_adds_bias, norms)) and any(bool(norm.bias.any()) for norm in norms)


@torch.no_grad()
def unfold(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the mean and variance of every batch norm's input, and absorb them into its weight and bias.

    The network runs in evaluation mode and its output does not change, so one pass over the images serves all layers.

    Args:
        batches: what `network` takes: (B, 3, H, W) uint8, augmented as for training. A few hundred images are enough.

    Raises:
        ConfigError: some batch norm saw no data, or values that are not finite.
    """
    norms = _norms(network)
    moments = {name: Moments(norm.num_features) for name, norm in norms.items()}
    hooks = [norm.register_forward_hook(moments[name].see) for name, norm in norms.items()]
    device, training = next(network.parameters()).device, network.training
    network.eval()
    try:
        for images in batches:
            network(images.to(device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    for name, seen in moments.items():
        if seen.count == 0 or not (seen.mean.isfinite() & seen.variance.isfinite()).all():
            problem = "saw no images" if seen.count == 0 else "saw values that are not finite; are the weights sound?"
            raise ConfigError(f"unfolding batch norms: {name} {problem}")
    for name, norm in norms.items():
        _absorb(norm, moments[name])


class Moments:
    """Mean and variance of each channel over all that was seen, in float64; batches are merged (Chan et al. 1979)."""

    def __init__(self, channels: int):
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.variance = torch.zeros(channels, dtype=torch.float64)

    def see(self, norm: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0].to(torch.promote_types(inputs[0].dtype, torch.float32))  # (B, C, H, W)
        variance, mean = (moment.cpu().double() for moment in torch.var_mean(x, dim=(0, 2, 3), correction=0))
        count = x.numel() // x.shape[1]
        share = count / (self.count + count)
        step = mean - self.mean
        self.variance = (1 - share) * self.variance + share * variance + share * (1 - share) * step**2
        self.mean = self.mean + share * step
        self.count += count


def _absorb(norm: nn.BatchNorm2d, seen: Moments) -> None:
    """Weight and bias with which the new statistics give the old output; a constant channel divides by sqrt(eps)."""
    assert norm.running_mean is not None and norm.running_var is not None
    mean, variance, weight, bias = (
        tensor.cpu().double() for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    scale = weight / (variance + norm.eps).sqrt()
    norm.weight.copy_(scale * (seen.variance + norm.eps).sqrt())
    norm.bias.copy_(bias + scale * (seen.mean - mean))
    norm.running_mean.copy_(seen.mean)
    norm.running_var.copy_(seen.variance)


def _norms(module: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Those with weights and statistics of their own; others have nothing to unfold, or nowhere to absorb it."""
    return {
        name: norm
        for name, norm in module.named_modules()
        if isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats
    }


def _only_adds_bias(norm: nn.BatchNorm2d) -> bool:
    assert norm.running_mean is not None and norm.running_var is not None
    ones = torch.ones_like(norm.weight)
    plain = any(torch.allclose(norm.weight, ones * w, rtol=0, atol=1e-7) for w in (1, math.sqrt(1 + norm.eps)))
    return plain and not norm.running_mean.any() and torch.equal(norm.running_var, ones)
