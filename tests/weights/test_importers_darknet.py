"""Darknet's files: written and run here by a plain transcription of its format and of its layers."""

import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from faults import bounded, spoilt, spoilt_inside
from imported_networks import network_of

from mnv2_tasks.backbones import darknet as backbone
from mnv2_tasks.build import build_network, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Frames
from mnv2_tasks.data.class_lists import VOC_OBJECTS, coco_categories, imagenet_names, imagenet_wnids
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.export import export
from mnv2_tasks.training.initial_weights import start_from_weights
from mnv2_tasks.weights.importers import darknet_layers
from mnv2_tasks.weights.importers.darknet import read_darknet
from mnv2_tasks.weights.weight_files import load_weights

TRUNK = """
    3x32 max 3x64 max 3x128 1x64 3x128 max 3x256 1x128 3x256 max 3x512 1x256 3x512 1x256 3x512 max
    3x1024 1x512 3x1024 1x512 3x1024
""".split()  # kernel x filters
HEADER = struct.pack("<iiiQ", 0, 2, 5, 32_013_312)  # version, and images seen
NARROW = 16  # what filters are divided by where their number does not matter
ANCHORS = "1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071"


@pytest.fixture
def narrow(monkeypatch):
    """The same network with fewer channels: files of 0.3 MB, not of 80."""
    stages = [[(channels // NARROW, kernel) for channels, kernel in stage] for stage in backbone.STAGES]
    for module in (backbone, darknet_layers):
        monkeypatch.setattr(module, "STAGES", stages)


# ---------------------------------------------------------------- Darknet, transcribed


def conv_text(kernel, filters, *, last=False):
    norm, activation = ("", "linear") if last else ("batch_normalize=1\n", "leaky")
    return f"[convolutional]\n{norm}filters={filters}\nsize={kernel}\nstride=1\npad=1\nactivation={activation}\n"


def cfg(kind="classifier", *, classes=7, side=64, divisor=NARROW):
    """A .cfg as Darknet's are written: "classifier", "new" (yolov2.cfg) or "old" (yolo.cfg of 2016)."""
    parts = [f"[net]\n# Testing\nbatch=1\nsubdivisions=1\nheight={side}\nwidth={side}\nchannels=3\nhue = .1\n"]
    for word in TRUNK:
        kernel, _, filters = word.partition("x")
        pool = "[maxpool]\nsize=2\nstride=2\n"
        parts.append(pool if word == "max" else conv_text(int(kernel), int(filters) // divisor))
    if kind == "classifier":
        return "\n".join([*parts, conv_text(1, classes, last=True), "[avgpool]\n", "[softmax]\ngroups=1\n"])
    wide = conv_text(3, 1024 // divisor)
    fine = conv_text(1, 64 // divisor) if kind == "new" else ""
    back = -4 if kind == "new" else -3
    parts += [
        "#######\n",
        wide,
        wide,
        "[route]\nlayers=-9\n",
        fine,
        f"[reorg]\nstride=2\n\n[route]\nlayers=-1,{back}\n",
    ]
    parts += [wide, conv_text(1, 5 * (5 + classes), last=True)]
    parts.append(f"[region]\nanchors =  {ANCHORS}\nbias_match=1\nclasses={classes}\ncoords=4\nnum=5\nsoftmax=1\n")
    return "\n".join(parts) + "jitter=.3\nrescore=1\nobject_scale=5\nabsolute=1\nthresh = .6\nrandom=1\n"


def layers_of(text):
    """[(type, {key: text})], without [net]."""
    layers = []
    for line in text.splitlines():
        line = line.replace(" ", "")
        if line.startswith("["):
            layers.append((line[1:-1], {}))
        elif line and line[0] != "#":
            key, value = line.split("=")
            layers[-1][1][key] = value
    return layers[1:]


def convolutions(text):
    """(inputs, filters, kernel, with batch norm) of each, in order."""
    channels, outputs = 3, []
    for index, (kind, settings) in enumerate(layers_of(text)):
        if kind == "convolutional":
            filters, kernel = int(settings["filters"]), int(settings["size"])
            yield channels, filters, kernel, "batch_normalize" in settings
            channels = filters
        elif kind == "route":
            channels = sum(outputs[int(i) + index] for i in settings["layers"].split(","))
        elif kind == "reorg":
            channels *= 4
        outputs.append(channels)


def write_random(path, text, *, header=HEADER, seed=0):
    """The .cfg and weights through which signals pass; returns the numbers of the file."""
    rng, numbers = np.random.default_rng(seed), []
    for inputs, filters, kernel, norm in convolutions(text):
        numbers.append(rng.normal(0, 0.1, filters))  # biases
        if norm:
            numbers += [rng.uniform(0.5, 1.5, filters), rng.normal(0, 0.1, filters), rng.uniform(0.5, 1.5, filters)]
        numbers.append(rng.normal(0, (2 / (inputs * kernel**2)) ** 0.5, filters * inputs * kernel**2))
    numbers = np.concatenate(numbers).astype("<f4")
    path.write_bytes(header + numbers.tobytes())
    path.with_name(path.name.split(".")[0] + ".cfg").write_text(text)
    return numbers


def reorg(x, stride=2):
    """blas.c's reorg_cpu, index by index, as the layer calls it: forward = 0, and sizes of its input."""
    x, (c, h, w) = x.flatten(), x.shape
    out, shape = np.empty_like(x), (c * stride**2, h // stride, w // stride)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                offset, c2 = divmod(k, c // stride**2)
                w2, h2 = i * stride + offset % stride, j * stride + offset // stride
                out[i + w * (j + h * k)] = x[w2 + w * stride * (h2 + h * stride * c2)]
    return out.reshape(shape)


def run(text, numbers, image):
    """What enters the last layer, [softmax] or [region], for (3, H, W) pixels."""
    outputs, at, x = [], 0, torch.from_numpy(image / 255.0)[None]
    numbers = torch.from_numpy(numbers.astype(np.float64))

    def take(*shape):
        nonlocal at
        count = int(np.prod(shape))
        at += count
        return numbers[at - count : at].view(shape)

    for index, (kind, settings) in enumerate(layers_of(text)):
        if kind == "convolutional":
            n, k = int(settings["filters"]), int(settings["size"])
            bias = take(n)
            scale, mean, variance = (take(n), take(n), take(n)) if "batch_normalize" in settings else (None,) * 3
            x = F.conv2d(x, take(n, x.shape[1], k, k), padding=k // 2 * int(settings["pad"]))
            if scale is not None:
                x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt() * scale[:, None, None]
            x = x + bias[:, None, None]
            x = torch.where(x > 0, x, 0.1 * x) if settings["activation"] == "leaky" else x
        elif kind == "maxpool":
            x = F.max_pool2d(x, 2, 2)
        elif kind == "route":
            x = torch.cat([outputs[int(i) + index] for i in settings["layers"].split(",")], dim=1)
        elif kind == "reorg":
            x = torch.from_numpy(reorg(x[0].numpy()))[None]
        elif kind == "avgpool":
            x = x.mean((2, 3))
        outputs.append(x)
    assert at == len(numbers)
    return x[0]


def picture(side):
    return np.random.default_rng(1).integers(0, 256, (3, side, side)).astype(np.uint8)


def value(imported, key):
    return next(o.partition("=")[2] for o in imported.overrides if o.startswith(f"{key}="))


# ---------------------------------------------------------------- reading


def test_a_classifier_gives_darknets_logits(tmp_path, narrow):
    numbers = write_random(tmp_path / "birds.weights", cfg())
    imported = load_weights(tmp_path / "birds.weights")
    assert imported.family == "Darknet Darknet-19" and not imported.left_out
    assert imported.class_names == {"classification": [f"class {i}" for i in range(7)]}
    image = picture(64)
    with torch.no_grad():
        ours = network_of(imported)(torch.from_numpy(image)[None])["classification"][0]
    torch.testing.assert_close(ours, run(cfg(), numbers, image), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind, fit, passthrough", [("new", "letterbox", "4"), ("old", "square", "null")])
def test_a_detector_gives_darknets_outputs(tmp_path, narrow, kind, fit, passthrough):
    numbers = write_random(tmp_path / "a.weights", cfg(kind, side=96))
    imported = load_weights(tmp_path / "a.weights")
    assert imported.class_names == {"yolov2": [f"class {i}" for i in range(7)]} and not imported.left_out
    assert value(imported, "input.fit") == fit and value(imported, "imgsz") == "96"
    assert value(imported, "tasks.yolov2.head.passthrough_channels") == passthrough
    image, network = picture(96), network_of(imported)
    assert network.tasks["yolov2"].head.anchors[1] == [3.19275, 4.00944]
    with torch.no_grad():
        found = network(torch.from_numpy(image)[None])["yolov2"]
    ours = torch.cat([found.box_deltas, found.objectness[..., None], found.class_logits], dim=-1)[0]
    theirs = run(cfg(kind, side=96), numbers, image)  # (5 * 12, 3, 3): anchors, of each x, y, w, h, objectness, classes
    torch.testing.assert_close(ours, theirs.permute(1, 2, 0).reshape(-1, 12), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "classes, data, names", [(20, "voc", VOC_OBJECTS), (80, "coco", list(coco_categories().values()))]
)
def test_detectors_of_20_and_80_classes_are_vocs_and_cocos(tmp_path, narrow, classes, data, names):
    write_random(tmp_path / "a.weights", cfg("new", classes=classes))
    imported = read_darknet(tmp_path / "a.weights")
    assert value(imported, "data") == data and imported.class_names == {"yolov2": names}
    assert value(imported, "width") == "1.0" and network_of(imported).tasks["yolov2"].class_names == names


def test_the_images_that_a_detector_has_seen_reach_its_loss(tmp_path, narrow):
    write_random(tmp_path / "a.weights", cfg("new"))
    network = network_of(read_darknet(tmp_path / "a.weights"))
    assert network.tasks["yolov2"].criterion.seen == 32_013_312


def test_a_detector_predicts_from_its_two_files(tmp_path, narrow):
    write_random(tmp_path / "a.weights", cfg("new"))
    network, passport = load_network(str(tmp_path / "a.weights"))
    assert passport["config"]["tasks"]["yolov2"]["head"]["anchors"][0] == [1.3221, 1.73145]
    sizes = torch.tensor([[64, 64]])
    found = network.predict(torch.from_numpy(picture(64))[None], Frames((64, 64), sizes, sizes))["yolov2"][0]
    assert found.boxes.shape[1:] == (4,) and 0 < found.scores.max() <= 1


def test_imagenets_classes_stand_in_darknets_files_in_the_order_of_the_devkit(tmp_path, narrow):
    text = cfg(classes=1000)
    numbers = write_random(tmp_path / "darknet19.weights", text)
    imported = read_darknet(tmp_path / "darknet19.weights")
    assert imported.class_names == {"classification": imagenet_names()} and value(imported, "data") == "imagenet"
    image = picture(64)
    with torch.no_grad():
        ours = network_of(imported)(torch.from_numpy(image)[None])["classification"][0]
    theirs = run(text, numbers, image)
    for index, wnid in enumerate(["n02119789", "n02100735", "n02110185"]):  # kit fox, English setter, Siberian husky
        torch.testing.assert_close(ours[imagenet_wnids().index(wnid)], theirs[index])
    assert imagenet_names()[imagenet_wnids().index("n02119789")] == "kit fox"
    torch.testing.assert_close(ours.sort()[0], theirs.sort()[0])


def test_settings_of_darknet_travel_with_the_weights(tmp_path, narrow):
    write_random(tmp_path / "a.weights", cfg(side=96))
    assert read_darknet(tmp_path / "a.weights").overrides == [
        "task=classification", "data=folder", "backbone=darknet19", "imgsz=96", "input.mean=[0,0,0]",
        "input.std=[255,255,255]", "input.fit=centre_crop", "input.resize=96",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind, classes, floats",
    [
        ("classifier", 1000, 20_856_776),
        ("new", 80, 50_983_561),
        ("new", 20, 50_676_061),
        ("old", 80, 67_465_609),
        ("old", 20, 67_158_109),
    ],
)
def test_published_networks_have_as_many_numbers_as_their_files(tmp_path, kind, classes, floats):
    from mnv2_tasks.weights.importers.darknet_cfg import read_cfg

    (tmp_path / "x.cfg").write_text(cfg(kind, classes=classes, side=416, divisor=1))
    network = darknet_layers.network_of(read_cfg(tmp_path / "x.cfg"), "x.cfg")
    tensors = [shape for layer in darknet_layers.layers_of(network) for _, shape in layer.tensors()]
    assert sum(int(np.prod(shape)) for shape in tensors) == floats
    assert network.side == 416 and network.passthrough == {"new": 64}.get(kind)


@pytest.mark.parametrize(
    "header, seen", [(struct.pack("<iiii", 0, 1, 0, 64), 64), (struct.pack("<iiiQ", 0, 2, 0, 2**40), 2**40)]
)
@pytest.mark.parametrize("name", ["a.weights", "a.backup"])
def test_headers_of_both_lengths_are_known_whatever_the_file_is_called(tmp_path, narrow, header, seen, name):
    numbers = write_random(tmp_path / name, cfg(), header=header)
    imported = load_weights(tmp_path / name)
    assert imported.header.seen == seen
    first = imported.state["backbone.layers.0.1.bias"]
    assert np.array_equal(first.numpy(), numbers[: len(first)])


def test_how_a_cfg_is_written_does_not_matter(tmp_path, narrow):
    text = cfg()
    write_random(tmp_path / "a.weights", text)
    expected = read_darknet(tmp_path / "a.weights")
    other = text.replace("[convolutional]", "; a conv\n[conv]").replace("[maxpool]\nsize=2", "[max]")
    other = other.replace("pad=1\n", " pad\t= 1 # same\n\n").replace("[net]", "[network]").replace("\n", "\r\n")
    (tmp_path / "a.cfg").write_bytes(b"# caf\xe9\n" + other.encode() + b"[cost]\ntype=sse\n")
    found = read_darknet(tmp_path / "a.weights")
    assert found.overrides == expected.overrides and found.state.keys() == expected.state.keys()


# ---------------------------------------------------------------- what stops early


def cut_to(path, convs):
    """As `darknet partial` does: the first so many convolutions."""
    sizes = [
        n * (4 if norm else 1) + n * c * k * k
        for c, n, k, norm in convolutions(path.with_name(f"{path.name.split('.')[0]}.cfg").read_text())
    ]
    path.write_bytes(path.read_bytes()[: 20 + 4 * sum(sizes[:convs])])


def test_a_file_without_the_classifier_starts_a_training_and_says_what_it_lacks(tmp_path, narrow):
    write_random(tmp_path / "darknet19_448.conv.23", cfg())
    cut_to(tmp_path / "darknet19_448.conv.23", 18)
    imported = read_darknet(tmp_path / "darknet19_448.conv.23")
    assert imported.left_out == {"layer 23": "is missing: the file ends before it"}
    weights = f"weights={tmp_path / 'darknet19_448.conv.23'}"
    config = compose("train", ["task=classification", "backbone=darknet19", weights])
    assert config.input.std == [255, 255, 255]
    network = build_network(config, {"classification": ["a", "b"]})
    said = start_from_weights(network, config)
    assert "transferred 108 of 110 tensors" in said and "2 head tensors of classification start anew" in said
    assert torch.equal(
        network.state_dict()["backbone.layers.22.0.weight"], imported.state["backbone.layers.22.0.weight"]
    )


def test_a_detectors_file_that_ends_before_its_head_starts_a_training(tmp_path, narrow):
    write_random(tmp_path / "a.conv.23", cfg("new"))
    cut_to(tmp_path / "a.conv.23", 18)
    assert list(read_darknet(tmp_path / "a.conv.23").left_out) == [f"layer {i}" for i in (23, 24, 26, 29, 30)]
    config = compose("train", ["task=yolov2", "backbone=darknet19", f"weights={tmp_path / 'a.conv.23'}", "width=1.0"])
    network = build_network(config, {"yolov2": ["a", "b"]})
    said = start_from_weights(network, config)
    assert "transferred 108 of" in said and "left out 5: is missing: the file ends before it" in said


def test_a_file_without_the_classifier_predicts_nothing(tmp_path, narrow):
    write_random(tmp_path / "a.conv.23", cfg())
    cut_to(tmp_path / "a.conv.23", 18)
    with pytest.raises(ConfigError, match=r"a.conv.23: lacks 2 tensors of this network, such as tasks.classification"):
        load_network(str(tmp_path / "a.conv.23"))


# ---------------------------------------------------------------- what is refused


def refused(path, message):
    with pytest.raises(ConfigError, match=message):
        load_weights(path)


def test_weights_without_a_cfg_are_answered_with_its_name(tmp_path, narrow):
    write_random(tmp_path / "yolov2.weights", cfg())
    (tmp_path / "yolov2.cfg").unlink()
    refused(tmp_path / "yolov2.weights", r"yolov2.weights: .*put the .cfg of this network beside them, as yolov2.cfg")


def test_a_cut_file_is_answered_with_the_layer_where_it_ends(tmp_path, narrow):
    write_random(tmp_path / "a.weights", cfg())
    content = (tmp_path / "a.weights").read_bytes()
    for rest, message in [
        (content[:-4], r"ends within layer 23 \[convolutional\], of whose 1,820 bytes it has 1,816"),
        (content[:-5], r"ends within layer 23 .*1,815: it is cut short, or .*a.cfg is of another network"),
        (content[:99], r"ends within layer 0 \[convolutional\]"),
        (content[:20], r"ends before the first layer"),
        (content[:10], r"a.weights: is no file of Darknet's weights"),
        (b"", r"a.weights: is empty"),
        (content + b"\0" * 8, r"has 8 bytes behind the last layer of .*a.cfg, which is of another network"),
        (struct.pack("<iiiQ", 0, 2, 0, 2**64 - 1) + content[20:], r"trained on 18,446,.* images: it is damaged"),
    ]:
        (tmp_path / "a.weights").write_bytes(rest)
        refused(tmp_path / "a.weights", message)


def test_a_cfg_of_another_size_is_found_out_before_anything_is_read(tmp_path):
    (tmp_path / "a.cfg").write_text(cfg(classes=1000, divisor=1))
    with (tmp_path / "a.weights").open("wb") as file:  # a hole of 200 GB
        file.write(struct.pack("<iiiQ", 0, 2, 0, 0))
        file.truncate(200 << 30)
    refused(tmp_path / "a.weights", r"has 214,[\d,]+ bytes behind the last layer")


@pytest.mark.parametrize(
    "before, after, message",
    [
        (
            "filters=2\n",
            "filters=3\n",
            r"a.cfg, line 12, layer 0 \[convolutional\]: filters=3: Darknet-19 has filters=2",
        ),
        (
            "size=3",
            "size=3\nstopbackward=1",
            r"line 14, layer 0 \[convolutional\]: stopbackward=1: no network that can",
        ),
        ("pad=1", "pad=1\ngroups=2", r"layer 0 \[convolutional\]: groups=2: no network that can be read has this"),
        ("pad=1", "pad=0", r"layer 0 .*padding: Darknet-19 has padding=1 there"),
        ("leaky", "mish", r"layer 0 .*activation=mish: Darknet-19 has activation=leaky"),
        ("filters=2\n", "filters=1e9\n", r"filters=1e9: expected a whole number of at most nine digits"),
        ("filters=2\n", "filters=99999999999\n", r"filters=99999999999: expected a whole number"),
        ("[maxpool]\nsize=2\nstride=2\n", "", r"layer 1 \[convolutional\]: Darknet-19 has \[maxpool\] there"),
        (
            "[avgpool]",
            "[shortcut]\nfrom=-3",
            r"line \d+, layer 24 \[shortcut\]: no network that can be read has such a",
        ),
        ("[softmax]\ngroups=1", "[yolo]\nmask=1", r"layer 25 \[yolo\]: no network that can be read has such a layer"),
        ("[softmax]\ngroups=1", "", r"layer 24 \[avgpool\]: is the last layer. The Darknet-19 classifier"),
        ("groups=1", "groups=2", r"layer 25 \[softmax\]: groups=2: Darknet-19 has groups=1"),
        ("width=64", "width=96", r"\[net\]: height=64: the input is square here, width=96 height=64 is not"),
        ("channels=3", "channels=1", r"\[net\]: channels=1: expected 3, for RGB"),
        ("hue = .1", "hue", r"a.cfg, line 8: 'hue' is neither a \[section\] nor a key=value of one"),
        ("[net]", "", r"a.cfg, line 3: 'batch=1' is neither a \[section\] nor a key=value"),
        ("[net]", "[\x1b[31m]", r"a.cfg: expected \[net\] and then the layers"),
    ],
)
def test_a_cfg_of_another_network_is_refused_by_section_and_line(tmp_path, narrow, before, after, message):
    write_random(tmp_path / "a.weights", cfg())
    assert before in cfg()
    (tmp_path / "a.cfg").write_text(cfg().replace(before, after, 1))
    refused(tmp_path / "a.weights", message)


@pytest.mark.parametrize(
    "before, after, message",
    [
        (
            "num=5",
            "num=4",
            r"line \d+, layer 31 \[region\]: anchors=1.*: expected two numbers for each of num=4 anchors",
        ),
        ("1.3221,", "nan,", r"layer 31 \[region\]: anchors=nan,.*: expected numbers above 0"),
        ("1.3221,", "a,", r"layer 31 \[region\]: anchors=a,.*: expected numbers"),
        (
            "11.2364, 10.0071",
            "359.6, 320.2",
            r"anchors=.*: in pixels, as Darknet wrote them in December 2017: divide by",
        ),
        ("softmax=1", "softmax=0", r"layer 31 \[region\]: softmax=0: YOLOv2 has softmax=1 there"),
        ("softmax=1", "softmax=1\ntree=9k.tree", r"layer 31 \[region\]: tree=9k.tree: no network that can be read"),
        ("classes=7", "classes=8", r"layer 30 \[convolutional\]: filters=60: YOLOv2 has filters=65 there"),
        ("classes=7", "classes=0", r"layer 31 \[region\]: classes=0: expected 1 to 100,000"),
        ("layers=-9", "layers=-8", r"layer 25 \[route\]: layers=-8: YOLOv2 has layers=\[16\] there"),
        ("layers=-1,-4", "layers=-4,-1", r"layer 28 \[route\]: layers=-4,-1: YOLOv2 has layers=\[27, 24\] there"),
        ("layers=-1,-4", "layers=", r"layer 28 \[route\]: layers=: expected numbers of layers"),
        ("[reorg]\nstride=2", "[reorg]\nstride=2\nreverse=1", r"layer 27 \[reorg\]: reverse=1: no network that can"),
        ("[reorg]\nstride=2", "[reorg]", r"layer 27 \[reorg\]: stride: YOLOv2 has stride=2 there"),
    ],
)
def test_a_detectors_cfg_of_another_network_is_refused_by_section_and_line(tmp_path, narrow, before, after, message):
    write_random(tmp_path / "a.weights", cfg("new"))
    assert before in cfg("new")
    (tmp_path / "a.cfg").write_text(cfg("new").replace(before, after, 1))
    refused(tmp_path / "a.weights", message)


def test_a_route_may_count_from_the_first_layer(tmp_path, narrow):
    write_random(tmp_path / "a.weights", cfg("new"))
    (tmp_path / "a.cfg").write_text(cfg("new").replace("layers=-9", "layers=16").replace("-1,-4", "27, 24"))
    assert read_darknet(tmp_path / "a.weights").family == "Darknet YOLOv2"


@pytest.mark.parametrize("text", ["", "[net]", "[net]\n[cost]", "[net]\n[region]", "[net]\n[softmax]", "\0" * 99, "["])
def test_hardly_a_cfg_is_refused(tmp_path, narrow, text):
    write_random(tmp_path / "a.weights", cfg())
    (tmp_path / "a.cfg").write_text(text)
    refused(tmp_path / "a.weights", r"a.cfg")


@pytest.mark.parametrize("spoil", [spoilt, spoilt_inside])
def test_a_cfg_with_faults_is_refused_by_name_or_read_as_the_same_network(tmp_path, narrow, spoil):
    write_random(tmp_path / "a.weights", cfg("new"))
    for seed in range(40):
        (tmp_path / "a.cfg").write_bytes(spoil(cfg("new").encode(), np.random.default_rng(seed)))
        try:
            with bounded():
                read_darknet(tmp_path / "a.weights")
        except ConfigError as error:
            assert str(tmp_path / "a.cfg") in str(error), f"seed {seed}: {error}"


def test_the_cfg_itself_is_no_weights(tmp_path):
    (tmp_path / "a.cfg").write_text(cfg())
    refused(tmp_path / "a.cfg", r"a.cfg: is no file of weights, by its name. Weights are .*\.weights")


# ---------------------------------------------------------------- writing


def exported(*arguments):
    return export(compose("export", ["format=darknet", *map(str, arguments)]))


@pytest.mark.parametrize("classes", [7, 1000])
@pytest.mark.parametrize("header", [struct.pack("<iiii", 0, 1, 0, 64), HEADER])
def test_a_classifier_goes_through_us_to_the_bit(tmp_path, narrow, classes, header):
    write_random(tmp_path / "a.weights", cfg(classes=classes), header=header)
    out = exported(f"weights={tmp_path / 'a.weights'}", f"out={tmp_path / 'b.weights'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cfg", "a.weights", "b.cfg", "b.names", "b.weights"]
    names = (tmp_path / "b.names").read_text().splitlines()
    assert len(names) == classes and (classes == 7 or names[0] == "kit fox")  # in Darknet's order, as its outputs are
    assert out.read_bytes() == (tmp_path / "a.weights").read_bytes()
    assert layers_of((tmp_path / "b.cfg").read_text()) == layers_of(cfg(classes=classes))


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("header", [struct.pack("<iiii", 0, 1, 0, 64), HEADER])
def test_a_detector_goes_through_us_to_the_bit(tmp_path, narrow, kind, header):
    write_random(tmp_path / "a.weights", cfg(kind), header=header)
    out = exported(f"weights={tmp_path / 'a.weights'}", f"out={tmp_path / 'b.weights'}")
    assert out.read_bytes() == (tmp_path / "a.weights").read_bytes()
    *ours, (_, region) = layers_of((tmp_path / "b.cfg").read_text())
    *theirs, (_, expected) = layers_of(cfg(kind))
    assert ours == theirs
    assert [float(x) for x in region["anchors"].split(",")] == [float(x) for x in expected["anchors"].split(",")]
    assert {key: region[key] for key in ("classes", "coords", "num", "softmax")} == {
        "classes": "7", "coords": "4", "num": "5", "softmax": "1",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind, classes, size", [("new", 20, 202_704_264), ("old", 80, 269_862_456)])
def test_a_whole_yolov2_gives_darknets_outputs_and_every_byte(tmp_path, kind, classes, size):
    text = cfg(kind, classes=classes, side=96, divisor=1)
    numbers = write_random(tmp_path / "a.weights", text)
    assert (tmp_path / "a.weights").stat().st_size == size
    image, network = picture(96), network_of(read_darknet(tmp_path / "a.weights"))
    with torch.no_grad():
        found = network(torch.from_numpy(image)[None])["yolov2"]
    theirs = run(text, numbers, image).unflatten(0, (5, 5 + classes)).permute(2, 3, 0, 1)
    torch.testing.assert_close(found.objectness[0], theirs[..., 4].flatten(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.class_logits[0], theirs[..., 5:].flatten(0, 2), rtol=1e-9, atol=1e-9)
    out = exported(f"weights={tmp_path / 'a.weights'}", f"out={tmp_path / 'b.weights'}")
    assert out.read_bytes() == (tmp_path / "a.weights").read_bytes()
    out.unlink()
    (tmp_path / "a.weights").unlink()  # pytest keeps what is left


def test_only_what_darknet_has_is_written(tmp_path, narrow):
    write_random(tmp_path / "a.weights", cfg())
    ours = f"weights={tmp_path / 'a.weights'}"
    for arguments, message in [
        (["weights=multitask_shapes"], "holds one task, classification or yolov2, not classification, ssdlite"),
        (["weights=multitask_shapes", "task=classification"], "is for backbone=darknet19, not for mobilenet_v2"),
        ([ours, "output_stride=16"], "has no dilated layers, as output_stride=16 needs"),
        ([ours, "input.std=[58,57,57]"], r"Darknet divides pixels by 255, .*Train with input.mean=\[0,0,0\]"),
        ([ours, "precision=int8"], "format=darknet precision=int8: darknet has fp32"),
        ([ours, f"out={tmp_path / 'x.onnx'}"], "format=darknet writes a file that ends in .weights"),
        ([ours, f"out={tmp_path / 'a.weights'}"], "a.weights exists"),
    ]:
        with pytest.raises(ConfigError, match=message):
            exported(f"out={tmp_path / 'x.weights'}", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cfg", "a.weights"]
