import torch
from torch import nn

from mnv2_tasks.network.fold import act_in_place


def test_activations_write_over_what_nothing_else_reads_alone():
    behind, first = nn.ReLU6(), nn.Hardswish()
    apart = nn.ReLU()
    network = nn.ModuleDict(
        {
            "convolution": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), behind),
            "folded": nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.ReLU()),
            "before": nn.Sequential(first, nn.Conv2d(3, 4, 1)),  # reads what came in, as others may
            "through": nn.Sequential(nn.Identity(), apart, nn.Conv2d(3, 4, 1)),
        }
    ).eval()
    images = torch.randn(2, 3, 5, 5)
    with torch.inference_mode():
        expected = {name: part(images.clone()) for name, part in network.items()}
        act_in_place(network)
        kept = images.clone()
        assert all(torch.equal(part(images), expected[name]) for name, part in network.items())
    assert torch.equal(images, kept)
    assert behind.inplace and network["folded"][2].inplace and not first.inplace and not apart.inplace
