"""Other projects' weights under our names: parity with their own code, and messages for what is not ours to load."""

import numpy as np
import pytest
import torch
import torchvision
from imported_networks import network_of
from torch import nn

from mnv2_tasks.backbones.mobilenet_v2 import MobileNetV2
from mnv2_tasks.build import build_network, load_strictly
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.class_lists import VOC_SEGMENTATION, imagenet_names
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.npz import read_npz
from mnv2_tasks.weights.importers.recognise import families, recognise

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1), torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def trained(net):
    """Weights, statistics and biases as training leaves them: signals reach the end, no norm is the identity.

    In float64, since random networks amplify rounding; the values themselves are float32.
    """
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
        elif isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.1)
    return net.double().eval()


def pictures(size):
    """One of noise and one of broad stripes."""
    noise = torch.randint(0, 256, (1, 3, size, size), generator=torch.manual_seed(1), dtype=torch.uint8)
    stripes = (torch.arange(size) // 16 % 2 * 200).to(torch.uint8).expand(1, 3, size, size)
    return torch.cat([noise, stripes])


def assert_equal(ours, theirs, tolerance=1e-4):
    """Up to rounding, and not merely because the pictures make no difference."""
    assert (theirs[0] - theirs[1]).abs().max() > 0.1
    assert (ours - theirs).abs().max() <= tolerance


def assert_same_logits(imported, theirs, size=64):
    """Theirs with torchvision's normalisation, which ours does itself."""
    images = pictures(size)
    with torch.no_grad():
        assert_equal(network_of(imported)(images)["classification"], theirs((images.double() - MEAN) / STD))


def value(imported, key):
    return next(o.partition("=")[2] for o in imported.overrides if o.startswith(f"{key}="))


class Flat(nn.Module):
    """d-li14's and tonylins' layout of the paper's table 2: a block is one sequence `conv`."""

    class Block(nn.Module):
        def __init__(self, before, after, expansion, stride):
            super().__init__()
            wide = before * expansion
            widen = [*conv(before, wide, 1), nn.ReLU6()] if expansion > 1 else []
            filter_each = [*conv(wide, wide, 3, stride=stride, groups=wide), nn.ReLU6()]
            self.conv = nn.Sequential(*widen, *filter_each, *conv(wide, after, 1))
            self.shortcut = stride == 1 and before == after

        def forward(self, x):
            return x + self.conv(x) if self.shortcut else self.conv(x)

    def __init__(self, channels, separate_last, classes=1000):
        super().__init__()
        stem, *rows, last = channels
        layers = [nn.Sequential(*conv(3, stem, 3, stride=2), nn.ReLU6())]
        before = stem
        table = [(1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1)]  # t, n, s
        for after, (expansion, repeats, stride) in zip(rows, table, strict=True):
            for repeat in range(repeats):
                layers.append(self.Block(before, after, expansion, stride if repeat == 0 else 1))
                before = after
        final = nn.Sequential(*conv(before, last, 1), nn.ReLU6())
        self.features = nn.Sequential(*layers, *([] if separate_last else [final]))
        self.conv = final if separate_last else None
        self.classifier = nn.Linear(last, classes)

    def forward(self, x):
        x = self.features(x)
        return self.classifier((self.conv(x) if self.conv else x).mean((2, 3)))


def conv(before, after, kernel, **options):
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False, **options), nn.BatchNorm2d(after)


CHANNELS = {1.0: (32, 16, 24, 32, 64, 96, 160, 320, 1280), 0.35: (16, 8, 8, 16, 24, 32, 56, 112, 1280)}


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_torchvision_weights_give_torchvisions_logits(width):
    theirs = trained(torchvision.models.mobilenet_v2(weights=None, width_mult=width))
    imported = recognise(theirs.state_dict(), "file")
    assert len(imported.state) == len(theirs.state_dict()) == 314 and not imported.left_out
    assert value(imported, "width") == str(width)
    assert_same_logits(imported, theirs)


@pytest.mark.parametrize("name, width", [("mobilenetv2_035", 0.35), ("mobilenetv2_100", 1.0), ("mobilenetv2_140", 1.4)])
def test_timm_weights_give_timms_logits(name, width):
    timm = pytest.importorskip("timm")
    theirs = trained(timm.create_model(name, pretrained=False))
    imported = recognise(theirs.state_dict(), "file")
    assert len(imported.state) == len(theirs.state_dict()) and not imported.left_out
    assert value(imported, "width") == str(width)
    assert_same_logits(imported, theirs)


@pytest.mark.parametrize("width", CHANNELS)
@pytest.mark.parametrize("separate_last, family", [(True, "d-li14 mobilenetv2"), (False, "tonylins mobilenet-v2")])
def test_flat_weights_give_the_same_logits(width, separate_last, family):
    theirs = trained(Flat(CHANNELS[width], separate_last))
    imported = recognise(theirs.state_dict(), "file")
    assert imported.family == family and len(imported.state) == 314 and not imported.left_out
    assert_same_logits(imported, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("width, size", [(0.35, 96), (1.0, 224), (1.4, 65)])
def test_hugging_face_classifiers_give_their_logits_without_the_background(width, size):
    transformers = pytest.importorskip("transformers")
    theirs = trained(
        transformers.MobileNetV2ForImageClassification(
            transformers.MobileNetV2Config(depth_multiplier=width, num_labels=1001)
        )
    )
    imported = recognise(theirs.state_dict(), f"google/mobilenet_v2_{width}_{size}/model.safetensors")
    assert imported.left_out == {"classifier[0]": "the background class, which no image of ImageNet has"}
    assert value(imported, "imgsz") == str(size) and imported.class_names == {"classification": imagenet_names()}
    images = pictures(size)
    with torch.no_grad():
        ours = network_of(imported)(images)["classification"]
        assert_equal(ours, theirs((images.double() - 127.5) / 127.5).logits[:, 1:])
        symmetric = network_of(imported, "backbone.padding=torch")(images)["classification"]
    assert ((symmetric - ours).abs().max() < 1e-3) == (size % 32 == 1)  # TF pads even maps on one side only


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [16, 8])
def test_hugging_face_segmenters_give_their_logits(output_stride):
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(num_labels=21, output_stride=output_stride)
    theirs = trained(transformers.MobileNetV2ForSemanticSegmentation(config))
    imported = recognise(theirs.state_dict(), "file")
    unused = {name for name in theirs.state_dict() if name.startswith("mobilenet_v2.conv_1x1.")}
    assert imported.left_out == dict.fromkeys(unused, "past the map that the segmenter reads")
    assert len(imported.state) + len(unused) == len(theirs.state_dict())
    assert imported.class_names == {"mobile_deeplabv3": VOC_SEGMENTATION}
    images = pictures(96)  # even: TF's padding is not symmetric
    with torch.no_grad():
        ours = network_of(imported, f"output_stride={output_stride}")(images)["mobile_deeplabv3"]
        assert_equal(ours, theirs((images.double() - 127.5) / 127.5).logits)


@pytest.mark.parametrize(
    "name, backbone",
    [
        ("resnet18", "resnet18"), ("resnet34", "resnet34"), ("resnet50", "resnet50"), ("resnet101", "resnet101"),
        ("efficientnet_b0", "efficientnet_b0"), ("shufflenet_v2_x1_0", "shufflenet_v2"), ("mnasnet1_0", "mnasnet"),
    ],
)  # fmt: skip
def test_weights_of_torchvisions_networks_give_its_logits(name, backbone):
    theirs = trained(torchvision.models.get_model(name, weights=None))
    imported = recognise(theirs.state_dict(), "file")
    assert f"backbone={backbone}" in imported.overrides
    assert len(imported.state) == len(theirs.state_dict()) and not imported.left_out
    assert_same_logits(imported, theirs)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_mobilenet_v3_gives_torchvisions_features_and_leaves_its_classifier(name):
    theirs = trained(torchvision.models.get_model(name, weights=None))
    imported = recognise(theirs.state_dict(), "file")
    assert {name.rpartition(".")[0] for name in imported.left_out} == {"classifier.0", "classifier.3"}
    assert len(imported.state) + len(imported.left_out) == len(theirs.state_dict())
    network = build_network(compose("train", imported.overrides), imported.class_names)
    missing = network.load_state_dict(imported.state, strict=False).missing_keys
    assert all(name.startswith("tasks.") or name in ("mean", "std") for name in missing)
    images = pictures(64)
    with torch.no_grad():
        ours = network.double().eval().features(images)["final"]
        assert_equal(ours, theirs.features((images.double() - MEAN) / STD))
    with pytest.raises(ConfigError, match="classification.head.linear"):
        load_strictly(network, imported.state, "file")


@pytest.mark.parametrize("num_classes", [1000, 1001])
def test_pretrainedmodels_nasnet_gives_its_logits(num_classes):
    nasnet_mobile = pytest.importorskip("pretrainedmodels.models.nasnet_mobile")
    theirs = trained(nasnet_mobile.nasnetamobile(num_classes, pretrained=None))
    imported = recognise(theirs.state_dict(), "file")
    assert len(imported.state) == len(theirs.state_dict())
    assert value(imported, "backbone") == "nasnet_mobile" and value(imported, "input.resize") == "256"
    images = pictures(224)  # of any other size their pooling sees a part
    with torch.no_grad():
        expected = theirs((images.double() - 127.5) / 127.5)[:, num_classes - 1000 :]
        assert_equal(network_of(imported)(images)["classification"], expected, 1e-5)


@pytest.mark.parametrize("width", [0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, 0.6, 1.1])
def test_every_width_is_known_by_the_shapes(width):
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=width).state_dict()
        imported = recognise(theirs, "file")
        found = MobileNetV2(width=float(value(imported, "width")), output_stride=32, taps=["final"]).state_dict()
    assert {f"backbone.{name}": t.shape for name, t in found.items()}.items() <= {
        name: t.shape for name, t in imported.state.items()
    }.items()
    assert width in (0.6, 1.1) or value(imported, "width") == str(width)  # 0.59 rounds to the same channels as 0.6


def test_a_scaled_last_convolution_below_width_1_is_noticed():
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(depth_multiplier=0.5, finegrained_output=False, num_labels=1001)
    imported = recognise(transformers.MobileNetV2ForImageClassification(config).state_dict(), "file")
    assert value(imported, "width") == "0.5" and value(imported, "backbone.scale_final") == "true"
    network_of(imported)


def test_settings_of_torch_and_of_tensorflow_travel_with_the_weights():
    assert recognise(small().state_dict(), "file").overrides == [
        "task=classification", "data=imagenet", "backbone=mobilenet_v2", "width=0.35", "imgsz=224",
        "input.fit=centre_crop", "input.resize=256", "backbone.padding=torch", "backbone.norm_eps=1e-5",
        "backbone.norm_momentum=0.1", "input.mean=[123.675,116.28,103.53]", "input.std=[58.395,57.12,57.375]",
    ]  # fmt: skip
    for family in families():
        if family.name.startswith("Hugging Face"):
            assert family.overrides == [
                "backbone.padding=same", "backbone.norm_eps=1e-3", "backbone.norm_momentum=0.003",
                "input.mean=[127.5,127.5,127.5]", "input.std=[127.5,127.5,127.5]",
            ]  # fmt: skip


def small(**options):
    return torchvision.models.mobilenet_v2(weights=None, width_mult=0.35, **options)


def test_other_numbers_of_classes_get_numbers_for_names():
    imported = recognise(small(num_classes=3).state_dict(), "file")
    assert imported.class_names == {"classification": ["class 0", "class 1", "class 2"]}
    assert value(imported, "data") == "folder"
    network_of(imported)


def test_1001_classes_mean_a_background_in_tensorflows_weights_only():
    imported = recognise(small(num_classes=1001).state_dict(), "file")
    assert len(imported.class_names["classification"]) == 1001 and not imported.left_out


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("entry", [None, "state_dict", "model"])
def test_wrappers_and_prefixes_are_taken_off(entry, prefix):
    plain = small().state_dict()
    state = {prefix + name: tensor for name, tensor in plain.items()}
    imported = recognise(state if entry is None else {entry: state, "epoch": 3, "optimizer": {}}, "file")
    assert all(torch.equal(a, b) for a, b in zip(imported.state.values(), plain.values(), strict=True))


@pytest.mark.parametrize(
    "raw, averaged, prefix", [("state_dict", "state_dict_ema", ""), ("model", "model_ema", "module.")]
)
def test_averaged_weights_are_preferred_and_it_is_said(raw, averaged, prefix):
    state = small().state_dict()
    smooth = {prefix + name: torch.full_like(tensor, 2) for name, tensor in state.items()}
    imported = recognise({raw: state, averaged: {"n_averaged": torch.tensor(9), **smooth}}, "file")
    assert all((tensor == 2).all() for tensor in imported.state.values())
    assert imported.left_out == {raw: f"its moving average, {averaged}, was taken instead"}


def test_counters_that_old_files_lack_are_zero_and_halves_become_floats():
    state = {n: t.half() for n, t in small().state_dict().items() if not n.endswith("num_batches_tracked")}
    imported = recognise(state, "file")
    counters = [t for name, t in imported.state.items() if name.endswith("num_batches_tracked")]
    assert len(counters) == 52 and not any(counters)
    assert {t.dtype for t in imported.state.values()} == {torch.float32, torch.int64}
    network_of(imported)


def test_an_unknown_layout_is_refused_with_the_families_and_the_first_names():
    state = {"encoder.0.weight": torch.zeros(1), "decoder.bias": torch.zeros(1)}
    with pytest.raises(
        ConfigError, match=r"weird.pth: .*timm mobilenetv2.*torchvision.*encoder.0.weight, decoder.bias"
    ):
        recognise(state, "weird.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, [torch.zeros(1)], {"model": 5, "lr": 0.1}])
def test_a_file_without_weights_is_refused(content):
    with pytest.raises(ConfigError, match="file: no weights in it"):
        recognise(content, "file")


def test_depth_scaled_networks_of_timm_are_refused():
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        states = [timm.create_model(f"mobilenetv2_{name}", pretrained=False).state_dict() for name in ("110d", "120d")]
    for state in states:
        with pytest.raises(ConfigError, match="nearly timm mobilenetv2, but it adds blocks.*scaled in depth"):
            recognise(state, "file")


@pytest.mark.parametrize(
    "channels, separate_last, message",
    [
        ((4, 4, 4, 4, 8, 12, 16, 32, 1280), True, r"4, 4, 4, 4.* channels\. d-li14's width 0.1"),
        ((32, 16, 16, 16, 24, 40, 56, 112, 1280), False, r"channels\. tonylins' stem"),
    ],
)
def test_widths_that_others_round_differently_are_refused(channels, separate_last, message):
    with pytest.raises(ConfigError, match=message):
        recognise(Flat(channels, separate_last).state_dict(), "file")


@pytest.mark.parametrize(
    "name, message", [("resnet152", "nearly .*resnet101"), ("shufflenet_v2_x1_5", "another network")]
)
def test_relatives_of_a_known_network_are_refused(name, message):
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
    with pytest.raises(ConfigError, match=message):
        recognise(state, "file")


@pytest.mark.parametrize(
    "missing, message",
    [
        ("features.5.conv.1.0.weight", "lacks features.5.conv.1.0"),
        ("features.5.conv.1.1.running_var", "1 tensors of the backbone are missing, such as blocks.4.depthwise"),
        ("classifier.1.bias", "classifier.1.bias.* missing"),
    ],
)
def test_a_missing_tensor_is_named(missing, message):
    state = {name: tensor for name, tensor in small().state_dict().items() if name != missing}
    with pytest.raises(ConfigError, match=message):
        recognise(state, "file")


def fold(convolution, norm):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return convolution.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


@pytest.mark.parametrize("kind", ["MobileNetV2ForImageClassification", "MobileNetV2ForSemanticSegmentation"])
def test_folded_convolutions_in_network_order_give_the_logits_of_the_network(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    classifier = kind.endswith("Classification")
    config = transformers.MobileNetV2Config(
        num_labels=1001 if classifier else 21, output_stride=32 if classifier else 16
    )
    theirs = trained(getattr(transformers, kind)(config))
    modules = dict(theirs.named_modules())
    blocks = [name for name in modules if f"{name}.normalization" in modules]
    if classifier:
        last = theirs.classifier.weight[:, :, None, None], theirs.classifier.bias
    else:
        blocks.remove("mobilenet_v2.conv_1x1")
        pool = blocks.index("segmentation_head.conv_pool")
        blocks[pool : pool + 2] = reversed(blocks[pool : pool + 2])  # TF's aspp0 comes before its image_pooling
        last = (
            theirs.segmentation_head.classifier.convolution.weight,
            theirs.segmentation_head.classifier.convolution.bias,
        )
    pairs = [fold(modules[f"{b}.convolution"], modules[f"{b}.normalization"]) for b in blocks] + [last]
    arrays = {f"{n:03d}_{k}": a.detach().numpy() for n, pair in enumerate(pairs) for k, a in zip("wb", pair)}
    np.savez(tmp_path / "folded.npz", **arrays)
    imported = read_npz(tmp_path / "folded.npz")
    images = pictures(96)
    with torch.no_grad():
        (ours,) = network_of(imported)(images).values()
        expected = theirs((images.double() - 127.5) / 127.5).logits
    assert_equal(ours, expected[:, 1:] if classifier else expected, tolerance=1e-3)  # products, stored as float32


def test_a_broken_or_foreign_npz_is_refused(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(ConfigError, match="broken.npz: cannot be read"):
        read_npz(tmp_path / "broken.npz")
    np.savez(tmp_path / "other.npz", first=np.zeros(3))
    with pytest.raises(ConfigError, match=r"other.npz: expected .* 53 .* or 55 .* it holds 1 arrays, such as first"):
        read_npz(tmp_path / "other.npz")
