import pytest
import torch
import torchvision

from mnv2_tasks.build import build_network, load_strictly
from mnv2_tasks.checkpoint import from_torchvision, load_weights
from mnv2_tasks.config import compose


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_torchvision_weights_load_strictly_and_give_torchvisions_logits(width, tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=width).eval()
    for module in theirs.modules():  # statistics and affine parameters of a trained network, not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "mobilenet_v2.pth")
    state, passport = load_weights(tmp_path / "mobilenet_v2.pth")
    config = compose("train", ["task=classification", f"width={width}"])
    ours = build_network(config, {"classification": [str(i) for i in range(1000)]}).eval()
    load_strictly(ours, {**ours.state_dict(), **state}, "test")
    assert set(state) | {"mean", "std"} == set(ours.state_dict()) and passport == {}
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    normalised = (images / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        difference = (ours(images)["classification"] - theirs(normalised)).abs().max()
    assert difference <= 1e-5


def test_every_torchvision_tensor_has_a_place():
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    assert len(from_torchvision(state)) == len(state) == 314
