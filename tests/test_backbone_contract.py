"""Every backbone x tap x output stride keeps the promises of `contracts.Backbone`."""

import math
from functools import partial

import pytest
import torch
from torchvision.models import mobilenet_v3_large, resnet50

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.backbones.mobilenet_v3 import MobileNetV3Large
from mnv2_tasks.backbones.resnet import ResNet50
from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError

STRIDES = {"c1": 2, "c2": 4, "c3": 8, "c4": 16, "c4_expand": 16, "c5": 32, "final": 32}  # in depth order
NETWORKS = {  # name -> (constructor, channels of the taps above)
    "mobilenet_v1": (partial(MobileNetV1, width=1.0), (64, 128, 256, 512, 512, 1024, 1024)),
    "mobilenet_v2": (partial(MobileNetV2, width=1.0), (16, 24, 32, 96, 576, 320, 1280)),
    "mobilenet_v2_same": (
        partial(MobileNetV2, width=0.35, padding="same"),
        (8, 8, 16, 32, 192, 112, 1280),
    ),
    "mobilenet_v3": (MobileNetV3Large, (16, 24, 40, 112, 672, 160, 960)),
    "resnet50": (ResNet50, (64, 256, 512, 1024, 1024, 2048, 2048)),
}
SIZES = [(65, 65), (96, 96), (50, 77)]  # odd, even, neither square nor a multiple of anything


def build(network: str, **arguments):
    return NETWORKS[network][0](**{"output_stride": 32, "taps": list(STRIDES), **arguments})


def on_meta(network: str, **arguments):
    with torch.device("meta"):
        return build(network, **arguments)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("tap", STRIDES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_tap_has_the_channels_and_size_it_promises(network, tap, output_stride):
    backbone = on_meta(network, taps=[tap], output_stride=output_stride)
    channels = NETWORKS[network][1][list(STRIDES).index(tap)]
    stride = min(STRIDES[tap], output_stride)
    assert backbone.features == {tap: FeatureSpec(channels, stride)}
    for height, width in SIZES:
        features = backbone(torch.empty(2, 3, height, width, device="meta"))
        shape = (2, channels, math.ceil(height / stride), math.ceil(width / stride))
        assert {name: tuple(x.shape) for name, x in features.items()} == {tap: shape}


@pytest.mark.parametrize("network", NETWORKS)
def test_features_come_in_depth_order_whatever_the_order_of_taps(network):
    backbone = on_meta(network, taps=["final", "c5", "c1", "c4_expand", "c3", "c4", "c2"])
    assert list(backbone.features) == list(STRIDES)
    assert list(backbone(torch.empty(2, 3, 64, 64, device="meta"))) == list(STRIDES)


@pytest.mark.parametrize("tap", STRIDES)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_receives_a_gradient_from_a_single_tap(network, tap):
    backbone = on_meta(network, taps=[tap])
    backbone(torch.empty(2, 3, 64, 64, device="meta"))[tap].sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("network", NETWORKS)
def test_a_shallower_tap_owns_a_part_of_the_deeper_ones_parameters(network):
    shapes = [
        {name: p.shape for name, p in on_meta(network, taps=[tap]).named_parameters()}
        for tap in ("c1", "c2", "c3", "c4", "c5")
    ]
    for shallow, deep in zip(shapes, shapes[1:]):
        assert shallow.items() < deep.items()


@pytest.mark.parametrize("network", NETWORKS)
def test_output_strides_share_every_parameter_name_and_shape(network):
    first, *others = (
        {name: x.shape for name, x in on_meta(network, output_stride=s).state_dict().items()} for s in (8, 16, 32)
    )
    assert all(other == first for other in others)


@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2", "resnet50"])
def test_a_finer_output_stride_computes_the_coarse_features_and_those_between(network):
    """The proof that a stride-free block keeps the previous dilation. (V3's excitation looks at the whole map.)"""
    images = torch.randn(1, 3, 65, 65)
    coarse = build(network, taps=["c5"]).eval()
    with torch.no_grad():
        expected = coarse(images)["c5"]
    for output_stride, step in [(16, 2), (8, 4)]:
        fine = on_meta(network, taps=["c5"], output_stride=output_stride).eval()
        fine.load_state_dict(coarse.state_dict(), assign=True)
        with torch.no_grad():
            every_other = fine(images)["c5"][:, :, ::step, ::step]
        assert (every_other - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("network", ["mobilenet_v1", "resnet50"])
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
    ours = on_meta("resnet50", output_stride=output_stride).eval()
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


@pytest.mark.parametrize("network", [MobileNetV1, MobileNetV2])
@pytest.mark.parametrize("width", [0.0, 5])
def test_width_error_gives_the_range(network, width):
    with pytest.raises(ConfigError, match=f"width={width}: expected a multiplier between 0.1 and 4"):
        network(width=width, output_stride=32, taps=["c5"])
