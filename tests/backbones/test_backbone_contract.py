"""Every backbone x tap x output stride keeps the promises of `contracts.Backbone`."""

import math
from functools import cache, partial

import pytest
import torch
from torchvision.models import mobilenet_v3_large, resnet50

from mnv2_tasks.backbones.darknet import Darknet19
from mnv2_tasks.backbones.efficientnet import EfficientNetB0
from mnv2_tasks.backbones.mnasnet import MnasNet
from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.backbones.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from mnv2_tasks.backbones.nasnet import NASNetMobile
from mnv2_tasks.backbones.resnet import ResNet
from mnv2_tasks.backbones.resnet_beta import ResNetBeta
from mnv2_tasks.backbones.shufflenet_v1 import ShuffleNetV1
from mnv2_tasks.backbones.shufflenet_v2 import ShuffleNetV2
from mnv2_tasks.backbones.vgg import VGG16
from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError

STRIDES = {"c1": 2, "c2": 4, "c3": 8, "c4": 16, "c4_expand": 16, "c5": 32, "final": 32}  # in depth order
VGG_STRIDES = {"c1": 2, "c2": 4, "c3": 8, "c4_expand": 8, "c4": 16, "c5": 16, "final": 16}
NETWORKS = {  # name -> (constructor, channels of the taps in depth order)
    "mobilenet_v1": (partial(MobileNetV1, width=1.0), (64, 128, 256, 512, 512, 1024, 1024)),
    "mobilenet_v2": (partial(MobileNetV2, width=1.0), (16, 24, 32, 96, 576, 320, 1280)),
    "mobilenet_v2_same": (
        partial(MobileNetV2, width=0.35, padding="same"),
        (8, 8, 16, 32, 192, 112, 1280),
    ),
    "mobilenet_v3": (MobileNetV3Large, (16, 24, 40, 112, 672, 160, 960)),
    "mobilenet_v3_small": (MobileNetV3Small, (16, 16, 24, 48, 288, 96, 576)),
    "shufflenet_v1": (partial(ShuffleNetV1, width=2.0), (48, 48, 480, 960, 960, 1920, 1920)),
    "shufflenet_v2": (partial(ShuffleNetV2, width=1.0), (24, 24, 116, 232, 232, 464, 1024)),
    "mnasnet": (partial(MnasNet, width=1.0), (16, 24, 40, 96, 576, 320, 1280)),
    "efficientnet_b0": (EfficientNetB0, (16, 24, 40, 112, 672, 320, 1280)),
    "resnet18": (partial(ResNet, depth=18), (64, 64, 128, 256, 256, 512, 512)),
    "resnet50": (partial(ResNet, depth=50), (64, 256, 512, 1024, 1024, 2048, 2048)),
    "resnet50_beta": (partial(ResNetBeta, depth=50), (128, 256, 512, 1024, 1024, 2048, 2048)),
    "darknet19": (Darknet19, (64, 128, 256, 512, 512, 1024, 1024)),
    "nasnet_mobile": (partial(NASNetMobile, width=1.0, stem_padding="same"), (32, 44, 264, 528, 528, 1056, 1056)),
    "vgg16": (VGG16, (128, 256, 512, 512, 512, 1024, 1024)),
}
SIZES = [(65, 65), (50, 77)]  # a multiple plus one, and neither square nor a multiple of anything


def strides_of(network: str) -> dict[str, int]:
    return VGG_STRIDES if network == "vgg16" else STRIDES


def build(network: str, **arguments):
    return NETWORKS[network][0](**{"output_stride": 32, "taps": list(STRIDES), **arguments})


@cache
def _on_meta(network: str, output_stride: int, taps: tuple[str, ...]):
    with torch.device("meta"):
        return build(network, output_stride=output_stride, taps=taps)


def on_meta(network: str, *, output_stride: int = 32, taps=tuple(STRIDES)):
    return _on_meta(network, output_stride, tuple(taps))


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("network", NETWORKS)
def test_taps_have_the_channels_and_sizes_they_promise(network, output_stride):
    backbone = on_meta(network, output_stride=output_stride)
    expected = {
        tap: FeatureSpec(channels, min(stride, output_stride))
        for (tap, stride), channels in zip(strides_of(network).items(), NETWORKS[network][1])
    }
    assert backbone.features == expected
    for height, width in SIZES:
        features = backbone(torch.empty(2, 3, height, width, device="meta"))
        assert {name: tuple(x.shape) for name, x in features.items()} == {
            tap: (2, spec.channels, math.ceil(height / spec.stride), math.ceil(width / spec.stride))
            for tap, spec in expected.items()
        }


@pytest.mark.parametrize("network", NETWORKS)
def test_features_come_in_depth_order_whatever_the_order_of_taps(network):
    backbone = on_meta(network, taps=reversed(STRIDES))
    assert list(backbone.features) == list(strides_of(network))
    assert list(backbone(torch.empty(2, 3, 64, 64, device="meta"))) == list(strides_of(network))


@pytest.mark.parametrize("tap", STRIDES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_tap_alone_is_as_among_the_others_and_every_parameter_receives_a_gradient(network, tap):
    backbone = on_meta(network, taps=[tap], output_stride=16)
    spec = on_meta(network, output_stride=16).features[tap]
    assert backbone.features == {tap: spec}
    backbone.zero_grad()
    features = backbone(torch.empty(2, 3, 50, 77, device="meta"))
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        tap: (2, spec.channels, math.ceil(50 / spec.stride), math.ceil(77 / spec.stride))
    }
    features[tap].sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("network", NETWORKS)
def test_a_shallower_tap_owns_a_part_of_the_deeper_ones_parameters(network):
    shapes = [
        {name: p.shape for name, p in on_meta(network, taps=[tap], output_stride=16).named_parameters()}
        for tap in ("c1", "c2", "c3", "c4", "c5")
    ]
    assert shapes[0].items() <= shapes[1].items()  # between ShuffleNet's lies a pooling alone
    for shallow, deep in zip(shapes[1:], shapes[2:]):
        assert shallow.items() < deep.items()


@pytest.mark.parametrize("network", NETWORKS)
def test_output_strides_share_every_parameter_name_and_shape(network):
    first, *others = (
        {name: x.shape for name, x in on_meta(network, output_stride=s).state_dict().items()} for s in (8, 16, 32)
    )
    assert all(other == first for other in others)


WITHOUT_EXCITATION = [
    "mobilenet_v1", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "mnasnet", "resnet18", "resnet50",
    "resnet50_beta", "darknet19", "vgg16", "nasnet_mobile",
]  # fmt: skip


@pytest.mark.parametrize("network", WITHOUT_EXCITATION)
def test_a_finer_output_stride_computes_the_coarse_features_and_those_between(network):
    """The proof that a stride-free block keeps the previous dilation. (Excitation looks at the whole map.)"""
    images = torch.randn(1, 3, 65, 65)
    coarse = build(network, taps=["c5"]).eval()
    with torch.no_grad():
        expected = coarse(images)["c5"]
    for output_stride in (16, 8):
        with torch.device("meta"):
            fine = build(network, taps=["c5"], output_stride=output_stride).eval()
        step = coarse.features["c5"].stride // fine.features["c5"].stride
        fine.load_state_dict(coarse.state_dict(), assign=True)
        with torch.no_grad():
            every_other = fine(images)["c5"][:, :, ::step, ::step]
        assert (every_other - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    "network", ["mobilenet_v1", "resnet18", "resnet50", "resnet50_beta", "shufflenet_v1", "darknet19", "nasnet_mobile"]
)
def test_a_network_without_expansions_returns_c4_as_c4_expand(network):
    features = on_meta(network)(torch.empty(2, 3, 64, 64, device="meta"))
    assert features["c4_expand"] is features["c4"]
    assert features["final"] is features["c5"]


@pytest.fixture(scope="module")
def resnet_weights():
    return resnet50(weights=None).state_dict()


@pytest.mark.parametrize("dilated, output_stride", [(0, 32), (1, 16), (2, 8)])
def test_resnet50_computes_what_torchvision_computes(resnet_weights, dilated, output_stride):
    with torch.device("meta"):
        theirs = resnet50(weights=None, replace_stride_with_dilation=[False, dilated > 1, dilated > 0]).eval()
        ours = build("resnet50", output_stride=output_stride).eval()
    theirs.load_state_dict(resnet_weights, assign=True)
    ours.load_state_dict({k: v for k, v in resnet_weights.items() if not k.startswith("fc.")}, assign=True)
    x = images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        features = ours(images)
        for name in ("conv1", "bn1", "relu"):
            x = theirs.get_submodule(name)(x)
        assert torch.equal(features["c1"], x)
        x = theirs.maxpool(x)
        for tap, name in [("c2", "layer1"), ("c3", "layer2"), ("c4", "layer3"), ("c5", "layer4")]:
            x = theirs.get_submodule(name)(x)
            assert torch.equal(features[tap], x)


def test_mobilenet_v3_computes_what_torchvision_computes():
    theirs = mobilenet_v3_large(weights=None).features.eval()
    ours = build("mobilenet_v3").eval()
    ours.load_state_dict({f"layers.{name}": x for name, x in theirs.state_dict().items()})
    x = images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        features = ours(images)
        for index, layer in enumerate(theirs):
            if index == 13:
                assert torch.equal(features["c4_expand"], layer.block[0](x))
            x = layer(x)
            for tap in {1: ["c1"], 3: ["c2"], 6: ["c3"], 12: ["c4"], 15: ["c5"], 16: ["final"]}.get(index, []):
                assert torch.equal(features[tap], x)


@pytest.mark.parametrize("network", NETWORKS)
def test_unknown_tap_error_lists_the_choices(network):
    with pytest.raises(ConfigError, match=r"unknown taps \['c9'\].*c4_expand"):
        build(network, taps=["c1", "c9"])
    with pytest.raises(ConfigError, match="no taps asked for.*c4_expand"):
        build(network, taps=[])


@pytest.mark.parametrize("network", NETWORKS)
def test_output_stride_error_lists_the_choices(network):
    with pytest.raises(ConfigError, match="output_stride=12: expected 8, 16 or 32"):
        build(network, output_stride=12, taps=["c1"])


@pytest.mark.parametrize("network", [MobileNetV1, MobileNetV2, NASNetMobile])
@pytest.mark.parametrize("width", [0.0, 5])
def test_width_error_gives_the_range(network, width):
    with pytest.raises(ConfigError, match=f"width={width}: expected a multiplier between 0.1 and 4"):
        network(width=width, output_stride=32, taps=["c5"])
