"""The backbones to compare: the sizes that their sources print, and parity with the networks they are taken from."""

from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights

from mnv2_tasks.backbones import timm as timm_adapter
from mnv2_tasks.backbones.darknet import Darknet19
from mnv2_tasks.backbones.efficientnet import EfficientNetB0
from mnv2_tasks.backbones.mnasnet import MnasNet
from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from mnv2_tasks.backbones.resnet import ResNet
from mnv2_tasks.backbones.resnet_beta import ResNetBeta
from mnv2_tasks.backbones.shufflenet_v1 import ShuffleNetV1, shuffle_channels
from mnv2_tasks.backbones.shufflenet_v2 import ShuffleNetV2
from mnv2_tasks.backbones.timm import TimmBackbone
from mnv2_tasks.backbones.vgg import VGG16
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.heads.linear import LinearHead
from mnv2_tasks.network.cost import model_cost

TORCHVISION = {  # its name -> our backbone
    "resnet18": partial(ResNet, depth=18),
    "resnet34": partial(ResNet, depth=34),
    "resnet50": partial(ResNet, depth=50),
    "resnet101": partial(ResNet, depth=101),
    "shufflenet_v2_x0_5": partial(ShuffleNetV2, width=0.5),
    "shufflenet_v2_x1_0": partial(ShuffleNetV2, width=1.0),
    "shufflenet_v2_x1_5": partial(ShuffleNetV2, width=1.5),
    "shufflenet_v2_x2_0": partial(ShuffleNetV2, width=2.0),
    "mnasnet0_5": partial(MnasNet, width=0.5),
    "mnasnet0_75": partial(MnasNet, width=0.75),
    "mnasnet1_0": partial(MnasNet, width=1.0),
    "mnasnet1_3": partial(MnasNet, width=1.3),
    "efficientnet_b0": EfficientNetB0,
    "mobilenet_v3_small": MobileNetV3Small,
    "mobilenet_v3_large": MobileNetV3Large,
}
HIDDEN = {"mobilenet_v3_small": (576, 1024), "mobilenet_v3_large": (960, 1280)}  # of classifiers with two layers


def classifier(backbone, num_classes=1000):
    with torch.device("meta"):
        base = backbone(output_stride=32, taps=LinearHead.taps)
        return nn.Sequential(base, LinearHead(features=base.features, num_classes=num_classes, dropout=0.2))


@pytest.mark.parametrize("name", TORCHVISION)
def test_classifier_has_the_size_that_torchvision_publishes(name):
    meta = get_model_weights(name).IMAGENET1K_V1.meta
    params, madds, _ = model_cost(classifier(TORCHVISION[name]), 224)
    if name in HIDDEN:
        channels, hidden = HIDDEN[name]
        more = channels * hidden + hidden * 1000 - channels * 1000
        params, madds = params + more + hidden, madds + more
    assert (params, round(madds / 1e9, 3)) == (meta["num_params"], meta["_ops"])


@pytest.mark.parametrize(
    "width, params, madds",
    [
        (0.5, 718_324, 37_589_856),  # their repository: 0.7M, 38M
        (1.0, 1_865_728, 137_460_672),  # 1.9M, 138M
        (1.5, 3_442_168, 292_443_552),  # 3.4M, 292M, as MobileNetV2's table 4 has them
        (2.0, 5_450_776, 524_045_184),  # 5.4M, 524M
    ],
)
def test_shufflenet_v1_has_the_size_that_its_authors_publish(width, params, madds):
    cost = model_cost(classifier(partial(ShuffleNetV1, width=width)), 224)
    assert (cost.params, cost.madds) == (params, madds)


@pytest.mark.parametrize(
    "width, slim_params, madds",  # MobileNet paper, tables 6 and 8: 569, 325, 149 and 41 million
    [(1.0, 4.24, 568_740_352), (0.75, 2.59, 325_400_448), (0.5, 1.34, 149_497_088), (0.25, 0.47, 41_030_272)],
)
def test_mobilenet_v1_has_the_size_that_paper_and_slim_publish(width, slim_params, madds):
    """slim counts 1001 classes, and three numbers for each channel of batch norm where parameters are two."""
    network = classifier(partial(MobileNetV1, width=width), num_classes=1001)
    params = sum(p.numel() for p in network.parameters())
    norm_channels = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert round((params + norm_channels) / 1e6, 2) == slim_params
    assert model_cost(classifier(partial(MobileNetV1, width=width)), 224).madds == madds


def test_reduced_vgg16_has_the_size_that_deeplab_largefov_publishes():
    assert model_cost(classifier(VGG16, num_classes=21), 224).params == 20_505_429  # arXiv:1412.7062 table 2: 20.5M


def test_darknet19_has_the_size_that_its_cfg_says_and_its_paper_publishes():
    cost = model_cost(classifier(Darknet19), 224)
    assert (cost.params, cost.madds) == (20_842_376, 2_741_837_824)
    in_every_cell = cost.madds + (7 * 7 - 1) * 1024 * 1000  # Darknet takes the mean after the last layer, not before
    assert in_every_cell == 2_790_989_824
    assert round(2 * in_every_cell / 1e9, 2) == 5.58  # arXiv:1612.08242 table 6: billions of operations


def test_darknet19_starts_as_darknet_does():
    torch.manual_seed(0)
    network = Darknet19(output_stride=32, taps=["final"])
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            expected = (2 / layer.weight[0].numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (1e-5, 0.01)
        elif isinstance(layer, nn.LeakyReLU):
            assert layer.negative_slope == 0.1


def test_darknet19_rounds_odd_maps_up_as_darknets_pooling_does():
    pool = Darknet19(output_stride=32, taps=["c2"]).layers[1]
    assert pool(torch.arange(9.0).view(1, 1, 3, 3)).flatten().tolist() == [4, 5, 7, 8]


@pytest.mark.parametrize("name", [n for n in TORCHVISION if "50" not in n and "101" not in n and "x1_5" not in n])
def test_torchvisions_weights_give_torchvisions_logits(name):
    theirs = get_model(name, weights=None).eval()
    ours = TORCHVISION[name](output_stride=32, taps=["c4_expand", "final"]).eval()
    trunk = {n: x for n, x in theirs.state_dict().items() if not n.startswith(("fc.", "classifier."))}
    ours.load_state_dict({n.replace("features.", "layers.", 1): x for n, x in trunk.items()})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = ours(images)["final"].mean((2, 3))
        logits = theirs.fc(pooled) if hasattr(theirs, "fc") else theirs.classifier(pooled)
        assert torch.allclose(logits, theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_resnet18_computes_what_timm_computes(output_stride):
    """A basic block has two windows: the one that strode keeps the rate, the other doubles it."""
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet18", features_only=True, output_stride=output_stride).eval()
    ours = ResNet(depth=18, output_stride=output_stride, taps=["c1", "c2", "c3", "c4", "c5"]).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        for mine, expected in zip(ours(images).values(), theirs(images), strict=True):
            assert torch.allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_vgg16_gives_ssd_the_maps_of_torchvisions_ssd():
    theirs = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None).backbone.eval()
    ours = VGG16(output_stride=32, taps=["c4_expand", "final"]).eval()
    state = theirs.state_dict()
    scale = {"conv4_3_norm.weight": state.pop("scale_weight")}
    names = [name for name in ours.state_dict() if name not in scale]
    ours.load_state_dict(dict(zip(names, state.values())) | scale)  # theirs goes on with the extra maps
    images = torch.randn(1, 3, 300, 300)
    with torch.no_grad():
        maps, expected = ours(images), theirs(images)
    assert maps["c4_expand"].shape[2:] == (38, 38) and maps["final"].shape[2:] == (19, 19)
    assert torch.allclose(maps["c4_expand"], expected["0"], rtol=1e-4, atol=1e-5)
    assert torch.allclose(maps["final"], expected["1"], rtol=1e-4, atol=1e-5)


def test_vgg16_at_stride_8_has_deeplabs_dilations():
    with torch.device("meta"):
        network = VGG16(output_stride=8, taps=["final"])
    assert network.fc6.dilation == (12, 12) and network.pool5.dilation == (2, 2)
    assert [network.layers[index].dilation for index in (21, 24, 26, 28)] == [(1, 1), (2, 2), (2, 2), (2, 2)]


@pytest.mark.parametrize(
    "output_stride, third_stage, last_stage", [(32, [1], [1, 2, 4]), (16, [1], [2, 4, 8]), (8, [2], [4, 8, 16])]
)
def test_resnet_beta_dilates_the_last_stage_by_its_multi_grid(output_stride, third_stage, last_stage):
    with torch.device("meta"):
        network = ResNetBeta(depth=101, output_stride=output_stride, taps=["c5"])
    assert sorted({block.conv2.dilation[0] for block in network.layer3}) == third_stage
    assert [block.conv2.dilation[0] for block in network.layer4] == last_stage
    assert network.features["c5"].stride == output_stride


def test_shuffled_groups_hold_channels_of_every_group():
    channels = torch.arange(12).view(1, 12, 1, 1)
    for group in shuffle_channels(channels).flatten().chunk(3):
        assert {int(channel) // 4 for channel in group} == {0, 1, 2}


@pytest.mark.parametrize(
    "build, message",
    [
        (partial(ShuffleNetV1, width=0.75), r"width=0.75: ShuffleNetV1 comes in \[0.5, 1.0, 1.5, 2.0\]; set width=0.5"),
        (partial(ShuffleNetV2, width=0.75), r"width=0.75: ShuffleNetV2 comes in \[0.5, 1.0, 1.5, 2.0\]; set width=0.5"),
        (partial(MnasNet, width=1.4), r"width=1.4: MnasNet comes in \[0.5, 0.75, 1.0, 1.3\]; set width=1.3"),
        (partial(ResNet, depth=20), r"depth=20: expected one of \[18, 34, 50, 101\]"),
        (partial(ResNetBeta, depth=18), r"depth=18: expected one of \[50, 101\]"),
        (partial(ResNetBeta, depth=50, multi_grid=[1, 2]), r"multi_grid=\[1, 2\]: expected the rates of three blocks"),
    ],
)
def test_a_size_that_does_not_exist_is_answered_with_those_that_do(build, message):
    with pytest.raises(ConfigError, match=message):
        build(output_stride=32, taps=["c5"])


# ---------------------------------------------------------------- timm


def timm_backbone(name, output_stride=32, taps=("c2", "c4_expand", "c5", "final")):
    pytest.importorskip("timm")
    with torch.device("meta"):
        return TimmBackbone(name=name, output_stride=output_stride, taps=taps)


@pytest.mark.parametrize(
    "name, output_stride, specs",
    [
        ("resnet18", 8, [(64, 4), (256, 8), (512, 8), (512, 8)]),
        ("mobilenetv3_large_100", 16, [(24, 4), (112, 16), (960, 16), (960, 16)]),
        ("convnext_atto", 32, [(40, 4), (160, 16), (320, 32), (320, 32)]),  # patches: rounds down by itself
    ],
)
def test_timms_maps_come_with_the_channels_and_sizes_they_promise(name, output_stride, specs):
    backbone = timm_backbone(name, output_stride)
    assert [(spec.channels, spec.stride) for spec in backbone.features.values()] == specs
    maps = backbone(torch.empty(2, 3, 50, 77, device="meta"))
    assert list(maps) == ["c2", "c4_expand", "c5", "final"]
    for x, (channels, stride) in zip(maps.values(), specs):
        assert x.shape == (2, channels, -(-50 // stride), -(-77 // stride))


def test_timm_builds_nothing_past_the_deepest_tap():
    shallow, deep = (
        {name for name, _ in timm_backbone("resnet18", taps=[tap]).named_parameters()} for tap in ("c3", "c5")
    )
    assert shallow < deep and not any("layer3" in name for name in shallow)


@pytest.mark.parametrize(
    "name, output_stride, message",
    [
        ("resnet5O", 32, r"backbone.name=resnet5O: timm has no such network. Did you mean resnet50"),
        ("vit_tiny_patch16_224", 32, r"strides \[16, 16, 16\], the heads need 16 and 32"),
        ("swin_tiny_patch4_window7_224", 32, r"cannot be used here. An image of \(97, 161\) pixels fails: .*224"),
        ("ghostnet_100", 16, r"cannot build it as feature maps at output_stride=16 \(.*dilation not supported"),
    ],
)
def test_timms_unsuitable_networks_are_refused(name, output_stride, message):
    with pytest.raises(ConfigError, match=message):
        timm_backbone(name, output_stride)


def test_a_tap_that_timms_network_lacks_is_answered_with_those_it_has():
    with pytest.raises(ConfigError, match=r"unknown taps \['c1'\]; timm's convnext_atto offers \['c2'"):
        timm_backbone("convnext_atto", taps=["c1"])


def test_without_timm_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm is not installed. pip install -e \.\[timm\]"):
        timm_adapter.TimmBackbone(name="resnet18", output_stride=32, taps=["c5"])
