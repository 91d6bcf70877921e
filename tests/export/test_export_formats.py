"""Files for ExecuTorch, LiteRT and torch: what they say equals what PyTorch says."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mnv2_tasks.boxes.suppression import suppress
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import FeatureSpec
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.graph import Graph
from mnv2_tasks.export.nms import suppress_looped, suppress_unrolled
from mnv2_tasks.export.write import write
from mnv2_tasks.layers import batch_norm, conv_norm_act
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.runtimes.formats import FORMATS, format_module
from mnv2_tasks.weights.passport import make_passport

pytestmark = pytest.mark.slow

SIZE = 64
MINE = ["torch", "executorch", "litert"]


class Tiny(nn.Module):
    """Three convolutions with every tap that the heads ask for: exporters take seconds for each dozen of layers."""

    def __init__(self, *, taps, output_stride):
        super().__init__()
        norm = batch_norm()
        self.stem = conv_norm_act(3, 8, 3, stride=4, norm=norm)
        self.middle = conv_norm_act(8, 256, 3, stride=4, norm=norm)
        self.last = conv_norm_act(256, 256, 1, norm=norm)
        self.features = {tap: FeatureSpec(256, 16) for tap in ("c4_expand", "c5", "final") if tap in taps}

    def forward(self, images):
        middle = self.middle(self.stem(images))
        last = self.last(middle)
        return {tap: middle if tap == "c4_expand" else last for tap in self.features}


def tiny_network(task):
    config = compose("train", [f"task={task}", f"imgsz={SIZE}", "weights=none"])
    config.backbone = OmegaConf.create({"_target_": f"{__name__}.Tiny", "output_stride": 16})
    for settings in config.tasks.values():
        settings.head.update({key: 8 for key in ("channels",) if key in settings.head})
        settings.head.update(
            {"lite": False, "extra_channels": [8], "anchor_scales": [0.575, 0.95]} if "lite" in settings.head else {}
        )
    torch.manual_seed(0)
    network = build_network(config, {name: ["a", "b", "c"] for name in config.tasks}).eval()
    for statistics in (network.mean, network.std):
        statistics.mul_(torch.tensor([0.9, 1.0, 1.1]).view(1, 3, 1, 1))  # of which each channel must get its own
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # results that differ from image to image
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    return network


def pixels(count, height=SIZE, width=SIZE):
    """Images of growing contrast: the first one is grey."""
    noise = np.random.default_rng(0).integers(-128, 128, (count, height, width, 3))
    contrast = np.linspace(0, 1, count)[:, None, None, None]
    return (128 + contrast * noise).astype(np.uint8)


def reference(network, images):
    with torch.no_grad():
        return [result.numpy() for result in Graph(network)(torch.from_numpy(images))]


def written(folder, name, network, precision="fp32", example=None):
    pytest.importorskip({"litert": "litert_torch", "mediapipe": "litert_torch"}.get(name, name))
    path = folder / f"{precision}{FORMATS[name].suffix}"
    (task,) = network.tasks if len(network.tasks) == 1 else ["multitask"]
    passport = make_passport(compose("train", [f"task={task}"]), {task: ["a", "b", "c"] for task in network.tasks}, "")
    metadata = {
        "passport": json.dumps(passport | {"exported": True}),
        "precision": precision,
        "tasks": json.dumps({task: found.kind for task, found in network.tasks.items()}),
    }
    example = torch.from_numpy(pixels(4) if example is None else example)
    write(network, name, example, metadata, path, precision)
    return path


@pytest.fixture(scope="module")
def multitask():
    """With images of no detections, of some, and of as many as there may be."""
    network = tiny_network("multitask")
    rules = network.tasks["ssdlite"].postprocess
    rules.update(candidates=60, max_detections=8, iou_threshold=0.5, score_threshold=0.0)
    best = np.sort(reference(network, pixels(4))[2], axis=1)  # (4, 8) ascending
    rules["score_threshold"] = float(np.sort(best[:, -1])[:2].mean())
    return network


@pytest.fixture(scope="module", params=MINE)
def file(request, multitask, tmp_path_factory):
    return Exported(written(tmp_path_factory.mktemp("multitask"), request.param, multitask), threads=1, trust=True)


@pytest.fixture(scope="module")
def classifier():
    return tiny_network("classification")


@pytest.fixture(scope="module")
def segmenter():
    return tiny_network("mobile_deeplabv3")


@pytest.mark.parametrize("count", [1, 4])
def test_file_of_several_tasks_gives_the_results_of_pytorch_for_any_number_of_images(file, multitask, count):
    images = pixels(4)[-count:]
    results = file.run(images)
    assert list(results) == Graph(multitask).output_names
    for (name, theirs), ours in zip(results.items(), reference(multitask, images), strict=True):
        assert theirs.dtype == ours.dtype and theirs.shape == ours.shape, name
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4, err_msg=name)


def test_compared_images_have_no_detections_some_and_the_most_that_there_may_be(multitask):
    counts = reference(multitask, pixels(4))[4]
    assert counts.min() == 0 and counts.max() == 8


@pytest.mark.parametrize("name", ["torch", "executorch"])
def test_segmentation_file_takes_any_height_and_width(name, segmenter, tmp_path):
    file = Exported(written(tmp_path, name, segmenter), trust=True)
    for height, width in [(64, 64), (33, 48), (65, 130)]:
        images = pixels(2, height, width)
        assert (file.run(images)["mobile_deeplabv3_class_map"] == reference(segmenter, images)[0]).mean() > 0.999


def test_file_of_one_size_names_it(file):
    if file.format == "torch":
        pytest.skip("checks sizes itself")
    with pytest.raises(ConfigError, match="images of 32 x 96 pixels: this file takes 64 x 64"):
        file.run(pixels(1, 32, 96))


@pytest.mark.parametrize("name, precision", [(n, p) for n in MINE for p in FORMATS[n].precisions if p != "fp32"])
def test_lower_precision_is_smaller_and_nearly_equal(name, precision, classifier, tmp_path):
    images = pixels(4)
    path = written(tmp_path, name, classifier, precision, pixels(8))
    ours = reference(classifier, images)[0]
    theirs = Exported(path, trust=True).run(images)["classification_probabilities"]
    assert theirs.dtype == np.float32
    assert 0 < np.abs(theirs - ours).max() < 0.03
    assert path.stat().st_size < sum(4 * parameter.numel() for parameter in classifier.parameters())


@pytest.mark.parametrize("name", MINE)
def test_a_damaged_file_is_named(name, tmp_path):
    pytest.importorskip({"executorch": "executorch", "litert": "ai_edge_litert", "torch": "torch"}[name])
    path = tmp_path / f"broken{FORMATS[name].suffix}"
    path.write_bytes(b"no such thing" * 100)
    with pytest.raises(ConfigError, match=f"broken{FORMATS[name].suffix}: cannot be run, it is damaged"):
        Exported(path, trust=True)


@pytest.mark.filterwarnings("ignore")  # of the converters
@pytest.mark.parametrize("name", MINE)
def test_a_file_of_others_is_refused(name, tmp_path):
    path = tmp_path / f"foreign{FORMATS[name].suffix}"
    layer, example = nn.Linear(2, 2).eval(), (torch.zeros(1, 2),)
    if name == "executorch":
        exir = pytest.importorskip("executorch.exir")
        path.write_bytes(exir.to_edge(torch.export.export(layer, example)).to_executorch().buffer)
    elif name == "litert":
        pytest.importorskip("litert_torch").convert(layer, example).export(str(path))
    else:
        torch.export.save(torch.export.export(layer, example), path)
    with pytest.raises(ConfigError, match="was not written by tools/export.py"):
        Exported(path, trust=True)


@pytest.mark.parametrize("file", ["torch"], indirect=True)
def test_torch_file_needs_nothing_but_torch(file, tmp_path):
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        f"images = torch.zeros(3, {SIZE}, {SIZE}, 3, dtype=torch.uint8)\n"
        f"results = torch.export.load({str(file.path)!r}).module()(images)\n"
        "assert not {'mnv2_tasks', 'torchvision'} & set(sys.modules)\n"
        "print([len(result) for result in results])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == str([3] * 6), done.stderr


def test_torch_file_leaves_the_number_of_threads_as_it_was(classifier, tmp_path):
    before = torch.get_num_threads()
    Exported(written(tmp_path, "torch", classifier), threads=before + 1, trust=True).run(pixels(1))
    assert torch.get_num_threads() == before


CLOSED_IN_TURN = """
import os, signal, sys
from mnv2_tasks.runtimes.openvino import Session
signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
sessions = [Session(sys.argv[1]) for _ in range(3)]
while sessions:
    sessions.pop(0)
    os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_process_hears_signals_after_files_of_openvino_were_closed_in_the_order_of_their_opening(
    classifier, tmp_path
):
    path = written(tmp_path, "openvino", classifier)
    done = subprocess.run([sys.executable, "-c", CLOSED_IN_TURN, path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, ["heard"] * 3), done.stderr


def test_litert_files_are_run_without_the_converter(monkeypatch):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr("mnv2_tasks.runtimes.formats.find_spec", lambda name: None if name == "litert_torch" else name)
    format_module("litert")
    with pytest.raises(ConfigError, match=r'format=litert: needs litert_torch: pip install -e "\.\[litert\]"'):
        format_module("litert", to_write=True)


@pytest.mark.parametrize("choose", [suppress_unrolled, suppress_looped])
@pytest.mark.parametrize("size", [10, 60])
def test_suppression_without_an_operator_equals_that_with_one(choose, size):
    """Of boxes that are sparse or crowded, some twice, and some without an area."""
    generator = torch.Generator().manual_seed(0)
    low = 200 * torch.rand(3, 200, 2, generator=generator)
    boxes = torch.cat([low, low + size * torch.rand(3, 200, 2, generator=generator)], dim=-1)
    boxes[:, 10:40] = boxes[:, :1]
    boxes[:, 50:60, 2:] = boxes[:, 50:60, :2]
    labels = torch.randint(0, 3, (3, 200), generator=generator)
    alive = torch.rand(3, 200, generator=generator) > 0.2
    alive[1] = False
    (ours, ours_count), (theirs, theirs_count) = (f(boxes, labels, alive, 0.45, 100) for f in (choose, suppress))
    assert torch.equal(ours_count, theirs_count)
    assert torch.equal(ours * ours_count, theirs * theirs_count)


def test_file_keeps_as_many_of_each_class_as_pytorch(tmp_path):
    network = tiny_network("ssdlite")
    network.tasks["ssdlite"].postprocess.update(
        candidates=200, max_detections=8, score_threshold=0.0, iou_threshold=0.9, max_per_class=2
    )
    images = pixels(4)
    expected = reference(network, images)
    file = Exported(written(tmp_path, "torch", network), trust=True)
    for (name, theirs), ours in zip(file.run(images).items(), expected, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4, err_msg=name)
    for row, count in zip(*expected[2:]):
        assert np.bincount(row[:count]).max() == 2
