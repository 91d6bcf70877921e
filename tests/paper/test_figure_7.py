"""Figure 7: counts of positive channels."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torchvision.models import mobilenet_v2

from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.network import Network
from mnv2_tasks.paper.figure_7 import check_figure_7, draw_figure_7, patterns_of
from mnv2_tasks.paper.material import Material, Picture, read_material
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import Weights

CPU = torch.device("cpu")


def network(**options):
    backbone = MobileNetV2(**{"width": 0.35, "output_stride": 32, "taps": ["final"], **options})
    return Network(backbone=backbone, tasks={}, mean=[127.0] * 3, std=[60.0] * 3)


def material(**changes):
    asked = {"weights": "multitask_shapes", "images": "shapes", "masks": None, "count": 2, "device": "cpu"}
    return read_material(OmegaConf.create({**asked, "trust": False, **changes}))


def test_each_relu_is_counted_as_torchvisions_layers_give_it():
    theirs = mobilenet_v2(weights=None, width_mult=0.35).eval()
    ours = network().eval()
    ours.backbone.load_state_dict(
        dict(zip(ours.backbone.state_dict(), theirs.features.state_dict().values(), strict=True))
    )
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    outputs = []
    for layer in theirs.features.modules():
        if isinstance(layer, torch.nn.ReLU6):
            layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    with torch.no_grad():
        theirs.features((images.float() - 127) / 60)
    found = patterns_of(ours, images.split(2), CPU)  # in two batches
    assert len(found) == len(outputs) == 35
    for pattern, output in zip(found, outputs):
        positive = (output > 0).sum(1).double()
        assert (pattern.channels, pattern.least, pattern.most) == (output.shape[1], positive.min(), positive.max())
        assert pattern.mean == pytest.approx(positive.mean().item())
        assert pattern.std == pytest.approx(positive.std(correction=0).item())


def test_layers_have_their_names_and_are_those_that_were_built():
    names = [pattern.layer for pattern in patterns_of(network(taps=["c2"]).eval(), [torch.zeros(1, 3, 64, 64)], CPU)]
    assert names == [
        "stem",
        "blocks.0.depthwise",
        *(f"blocks.{i}.{p}" for i in (1, 2) for p in ("expand", "depthwise")),
    ]


def test_before_training_half_of_the_channels_are_positive():
    torch.manual_seed(0)
    images = torch.from_numpy(np.stack([picture.image for picture in material(count=4).pictures])).permute(0, 3, 1, 2)
    found = patterns_of(network(width=1.0).train(), [images], CPU)
    assert all(0.45 < pattern.mean / pattern.channels < 0.55 for pattern in found)


def test_the_figure_says_which_layers_fall_below_the_threshold(tmp_path):
    figure = draw_figure_7(material())
    figure.write(tmp_path / "figure_7.png")
    assert (tmp_path / "figure_7.png").stat().st_size > 20_000
    assert "of 35 layers are above 0.167" in figure.claims[2].ours and "final (0.0" in figure.claims[2].ours
    assert "(2 pictures, weights=multitask_shapes)" in figure.claims[0].ours


def test_the_threshold_is_that_of_the_networks_own_expansion():
    config = compose("train", ["task=classification", "width=0.1", "imgsz=64", "backbone.expansion=4"])
    names = {"classification": ["a", "b"]}
    weights = Weights(build_network(config, names).state_dict(), make_passport(config, names, ""))
    pictures = [Picture("x", np.full((64, 64, 3), value, np.uint8)) for value in (0, 255)]
    assert "layers are above 0.250" in draw_figure_7(Material("own", weights, pictures, CPU)).claims[2].ours


def test_weights_of_another_backbone_are_refused_by_name():
    given = material()
    given.weights.passport["config"]["backbone"]["_target_"] = "mnv2_tasks.backbones.mobilenet_v1.MobileNetV1"
    with pytest.raises(ConfigError, match="weights=multitask_shapes: figure 7 is of MobileNetV2's.*MobileNetV1's"):
        check_figure_7(given)
