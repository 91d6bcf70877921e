"""Our network as others' weights and their overrides build it."""

import torch

from mnv2_tasks.build import build_network, load_strictly
from mnv2_tasks.config.compose import compose


def network_of(imported, *overrides):
    """In float64: a comparison is then one of networks and not of rounding."""
    network = build_network(compose("train", [*imported.overrides, *overrides]), imported.class_names)
    load_strictly(network, imported.state, imported.family)
    return network.double().eval()


@torch.inference_mode()
def outputs(imported, images):
    """Of its one task, for (B, H, W, 3) images in [0, 255]."""
    (result,) = network_of(imported)(torch.from_numpy(images).permute(0, 3, 1, 2)).values()
    return result
