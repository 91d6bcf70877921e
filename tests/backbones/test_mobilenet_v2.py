from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import mobilenet_v2

from mnv2_tasks.backbones.mobilenet_v2 import InvertedResidual, MobileNetV2
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.layers import SameConv2d, batch_norm, conv2d, make_divisible
from mnv2_tasks.network.cost import model_cost

WIDTHS = {  # channels of the stem, of the rows of table 2, of the last convolution
    1.4: [48, 24, 32, 48, 88, 136, 224, 448, 1792],
    1.3: [40, 24, 32, 40, 80, 128, 208, 416, 1664],
    1.0: [32, 16, 24, 32, 64, 96, 160, 320, 1280],
    0.75: [24, 16, 24, 24, 48, 72, 120, 240, 1280],
    0.5: [16, 8, 16, 16, 32, 48, 80, 160, 1280],
    0.35: [16, 8, 8, 16, 24, 32, 56, 112, 1280],
}


def build(**arguments) -> MobileNetV2:
    return MobileNetV2(**{"width": 1.0, "output_stride": 32, "taps": ["final"], **arguments})


@pytest.mark.parametrize("width", WIDTHS)
def test_widths_have_the_channels_of_tf_slim(width):
    with torch.device("meta"):
        backbone = build(width=width)
    last_of_rows = [backbone.blocks[i].project[0].out_channels for i in (0, 2, 5, 9, 12, 15, 16)]
    assert [backbone.stem[0].out_channels, *last_of_rows, backbone.final[0].out_channels] == WIDTHS[width]


def test_scale_final_also_scales_the_last_convolution_below_width_1():
    with torch.device("meta"):
        assert [build(width=w, scale_final=True).features["final"].channels for w in (0.5, 0.35)] == [640, 448]


@pytest.mark.parametrize("channels, rounded", [(3, 8), (11.9, 16), (12, 16), (22.4, 24), (44.8, 48), (100, 104)])
def test_channels_round_to_multiples_of_8_never_losing_a_tenth(channels, rounded):
    assert make_divisible(channels) == rounded


@pytest.mark.parametrize(
    "output_stride, strides, rates",
    [
        (32, {1: 2, 3: 2, 6: 2, 13: 2}, [1] * 17),
        (16, {1: 2, 3: 2, 6: 2}, [1] * 14 + [2] * 3),  # slim's layer_15 is block 13
        (8, {1: 2, 3: 2}, [1] * 7 + [2] * 7 + [4] * 3),
    ],
)
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_a_block_that_loses_its_stride_keeps_the_previous_dilation(padding, output_stride, strides, rates):
    with torch.device("meta"):
        convs = [block.depthwise[0] for block in build(output_stride=output_stride, padding=padding).blocks]
    assert {i: conv.stride[0] for i, conv in enumerate(convs) if conv.stride[0] > 1} == strides
    assert [conv.dilation[0] for conv in convs] == rates


def block(channels: int, expansion: float) -> InvertedResidual:
    return InvertedResidual(
        channels, channels, expansion=expansion, stride=1, norm=batch_norm(), padding="torch",
        projection_activation=None,
    ).eval()  # fmt: skip


def run(parts: InvertedResidual, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return images + parts.project(parts.depthwise(parts.expand(images)))


@pytest.mark.parametrize("expansion", [3, 5, 6, 10])
def test_a_block_costs_what_section_3_3_says(expansion):
    height, channels, kernel = 14, 64, 3
    parts = block(channels, expansion)
    layers = nn.Sequential(nn.Conv2d(3, channels, 1), parts.expand, parts.depthwise, parts.project)
    formula = height * height * channels * expansion * (channels + kernel**2 + channels)
    assert model_cost(layers, height).madds - height * height * 3 * channels == formula


@pytest.mark.parametrize("expansion", [0.25, 1, 2.5, 3, 10])
def test_expansion_is_of_every_block_but_the_first(expansion):
    with torch.device("meta"):
        blocks = build(expansion=expansion).blocks
    outer = [block.depthwise[0].in_channels for block in build(expansion=1).blocks]  # where nothing widens
    assert [block.hidden for block in blocks] == [32, *(make_divisible(c * expansion) for c in outer[1:])]
    assert all(isinstance(block.expand, nn.Identity) == (expansion == 1) for block in blocks[1:])


@pytest.mark.parametrize("expansion", [0.25, 1, 3])
@pytest.mark.parametrize("tap", ["c4_expand", "final"])
def test_every_expansion_gives_the_maps_that_are_announced(expansion, tap):
    backbone = build(width=0.35, expansion=expansion, taps=[tap, "c4"]).eval()
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 64, 64))
    assert features[tap].shape[1] == backbone.features[tap].channels
    if expansion == 1 and tap == "c4_expand":
        assert torch.equal(features["c4_expand"], features["c4"])


def test_below_1_a_block_is_a_classical_bottleneck_and_keeps_8_channels():
    """Section 3.4: "smaller than 1, this is a classical residual convolutional block"."""
    with torch.device("meta"):
        blocks = [block for block in build(expansion=0.25).blocks[1:] if block.residual]
    ends = [block.project[0].out_channels for block in blocks]
    assert [block.hidden for block in blocks] == [max(8, channels // 4) for channels in ends]
    assert all(block.hidden < channels for block, channels in zip(blocks, ends))


@pytest.mark.parametrize("kept", [0, 16, 32])
def test_channels_that_the_projection_does_not_read_make_a_narrower_block_and_none_the_identity(kept):
    """Section 3.4: "when inner layer depth is 0 the underlying convolution is the identity function"."""
    wide, images = block(8, 6), torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        wide.project[0].weight[:, kept:] = 0
    if kept == 0:
        return torch.testing.assert_close(run(wide, images), images, rtol=0, atol=0)
    narrow, state = block(8, kept / 8), wide.state_dict()
    state |= {name: t[:kept] for name, t in state.items() if t.ndim and not name.startswith("project")}
    state["project.0.weight"] = wide.project[0].weight[:, :kept]
    narrow.load_state_dict(state)
    torch.testing.assert_close(run(narrow, images), run(wide, images))


def test_torchvision_weights_give_torchvision_features():
    theirs = mobilenet_v2(weights=None).features.eval()
    ours = build(taps=["c1", "c4", "c5", "final"]).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = ours(images)
        for index, layer in enumerate(theirs):
            x = layer(x)
            for tap in {1: ["c1"], 13: ["c4"], 17: ["c5"], 18: ["final"]}.get(index, []):
                assert torch.equal(features[tap], x)


def test_c4_expand_is_the_input_of_the_first_stride_32_depthwise_convolution():
    backbone, seen = build(taps=["c4_expand", "final"]).eval(), []
    backbone.blocks[13].depthwise.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 64, 64))
    assert torch.equal(features["c4_expand"], seen[0])
    assert features["c4_expand"].shape == (1, 576, 4, 4)
    assert 0 <= features["c4_expand"].min() and features["c4_expand"].max() <= 6


def test_forward_keeps_no_more_alive_than_torchvision_does():
    with torch.device("meta"):
        ours = model_cost(build(), 224).peak_activation_bytes
        assert ours <= model_cost(mobilenet_v2(weights=None).features, 224).peak_activation_bytes


class CountOperations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shortcut, additions", [("bottleneck", 10), ("expansion", 10), ("none", 0)])
def test_shortcut_ablation_moves_or_removes_the_ten_additions(shortcut, additions):
    with torch.device("meta"):
        backbone = build(shortcut=shortcut).eval()
    with torch.no_grad(), CountOperations() as operations:
        backbone(torch.empty(1, 3, 64, 64, device="meta"))
    assert operations.counts[torch.ops.aten.add.Tensor] == additions


def test_ablations_keep_every_parameter_name_and_shape():
    with torch.device("meta"):
        shapes = [
            {name: x.shape for name, x in build(**ablation).state_dict().items()}
            for ablation in (
                {},
                {"projection_activation": "relu6"},
                {"shortcut": "none"},
                {"shortcut": "expansion"},
            )
        ]
    assert all(other == shapes[0] for other in shapes[1:])


def test_bottlenecks_are_linear_unless_the_relu6_ablation_asks_otherwise():
    images = torch.randn(1, 3, 64, 64)
    taps = ["c1", "c2", "c3", "c4", "c5"]
    with torch.no_grad():
        linear = build(taps=taps).eval()(images)
        relu6 = build(taps=taps, projection_activation="relu6", shortcut="none").eval()(images)
    assert all(x.min() < 0 for x in linear.values())
    assert all(x.min() >= 0 and x.max() <= 6 for x in relu6.values())


@pytest.mark.parametrize(
    "argument, choices",
    [("projection_activation", "'linear' or 'relu6'"), ("shortcut", "bottleneck.*expansion.*none")],
)
def test_unknown_ablation_error_lists_the_choices(argument, choices):
    with pytest.raises(ConfigError, match=f"{argument}='x': expected.*{choices}"):
        build(**{argument: "x"})


@pytest.mark.parametrize(
    "expansion, reason", [(0, r"; at 0 .*a block is its shortcut"), (17, "$"), (-1, "$"), (None, "$")]
)
def test_expansion_out_of_range_is_told_with_the_papers(expansion, reason):
    told = rf"expansion={expansion}: expected a factor between 0.1 and 16 \(paper: 6\){reason}"
    with pytest.raises(ConfigError, match=told):
        build(expansion=expansion)


def test_unknown_padding_error_lists_the_choices():
    with pytest.raises(ConfigError, match="padding='valid': expected 'torch'.*'same'"):
        build(padding="valid")


# ---------------------------------------------------------------- TF's padding


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size, equal", [(65, True), (64, False)])
def test_same_padding_equals_torch_padding_at_sizes_k_32_plus_1_only(size, equal, output_stride):
    arguments = {"width": 0.35, "taps": ["c5"], "output_stride": output_stride}
    torch_padded, same_padded = build(**arguments).eval(), build(**arguments, padding="same").eval()
    same_padded.load_state_dict(torch_padded.state_dict())
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        a, b = torch_padded(images)["c5"], same_padded(images)["c5"]
    assert a.shape == b.shape
    assert ((a - b).abs().max() < 1e-4 * a.abs().max()) == equal


@pytest.mark.parametrize(
    "size, kernel, stride, dilation, pads",  # pads: left, right, top, bottom
    [
        ((8, 8), 3, 2, 1, (0, 1, 0, 1)),
        ((9, 9), 3, 2, 1, (1, 1, 1, 1)),
        ((8, 9), 3, 2, 1, (1, 1, 0, 1)),
        ((8, 8), 3, 1, 1, (1, 1, 1, 1)),
        ((8, 9), 3, 1, 2, (2, 2, 2, 2)),
        ((8, 8), 5, 2, 1, (1, 2, 1, 2)),
        ((9, 8), 1, 2, 1, (0, 0, 0, 0)),
    ],
)
def test_same_convolution_pads_as_tensorflow_does(size, kernel, stride, dilation, pads):
    conv = SameConv2d(2, 4, kernel, stride=stride, dilation=dilation)
    x = torch.randn(1, 2, *size)
    by_hand = F.conv2d(F.pad(x, pads), conv.weight, conv.bias, stride=stride, dilation=dilation)
    assert torch.equal(conv(x), by_hand)


def test_both_paddings_divide_the_size_rounding_up():
    for size in range(5, 12):
        for padding in ("torch", "same"):
            conv = conv2d(1, 1, 3, stride=2, padding=padding)
            assert conv(torch.zeros(1, 1, size, size)).shape[2:] == ((size + 1) // 2, (size + 1) // 2)


def test_torch_padding_is_a_plain_convolution():
    assert type(conv2d(1, 1, 3)) is nn.Conv2d
