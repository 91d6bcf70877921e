"""YOLOv2 as a network: what it costs, over which backbones it fits, and what cannot be built."""

import pytest
import torch

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import FeatureSpec, Frames
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.heads.yolov2 import YOLOv2Head
from mnv2_tasks.network.cost import model_cost

FULL = "tasks.yolov2.head.channels=1024"


def made(*overrides, classes=8):
    config = compose("train", ["task=yolov2", "weights=none", *overrides])
    return build_network(config, {"yolov2": [str(index) for index in range(classes)]})


@pytest.mark.parametrize(
    "passthrough, classes, side, params, madds",
    [
        ("null", 80, 416, 67_445_065, 17_500_980_224),  # the multiply-adds of the paper's table 6
        ("null", 20, 416, 67_137_565, 17_449_063_424),
        ("64", 80, 416, 50_962_889, 14_732_084_224),
        ("64", 20, 416, 50_655_389, 14_680_167_424),  # its parameters
        ("64", 80, 608, 50_962_889, 31_469_126_656),
    ],
)
def test_both_networks_of_the_papers_row_cost_what_is_printed(passthrough, classes, side, params, madds):
    head = f"tasks.yolov2.head.passthrough_channels={passthrough}"
    with torch.device("meta"):
        network = made(
            "backbone=darknet19", f"imgsz={side}", "width=1.0", "tasks.yolov2.head.channels=1024", head, classes=classes
        )
    cost = model_cost(network, side)
    assert (cost.params, cost.madds) == (params, madds)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "mobilenet_v1", "darknet19"])
@pytest.mark.parametrize("output_stride", [32, 16])
def test_any_backbone_carries_it_at_any_output_stride(backbone, output_stride):
    network = made(f"backbone={backbone}", f"output_stride={output_stride}", "imgsz=64").eval()
    with torch.no_grad():
        output = network.output("yolov2", torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    side = 64 // output_stride
    assert output.grid == (side, side) and output.class_logits.shape == (2, side * side * 5, 8)
    width = output.anchors[:, 2] - output.anchors[:, 0]
    torch.testing.assert_close(64 * width[0], torch.tensor(32 * 1.0101))  # in pixels, whatever the cells


def test_detections_of_a_letterboxed_image_are_in_its_own_pixels():
    network = made("imgsz=64").eval().requires_grad_(False)
    task = network.tasks["yolov2"]
    output = network.output("yolov2", torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    output.objectness.data.fill_(-20)
    output.objectness.data[0, 0] = 20  # the top left cell, whose centre is at 16, 16; the first anchor, 32.3 px wide
    output.box_deltas.data[0, 0] = 0
    # 200 wide and 100 high: 64 x 32 in the middle of the square, 16 px below its top
    frames = Frames((64, 64), torch.tensor([[32, 64]]), torch.tensor([[100, 200]]), torch.tensor([[16, 0]]))
    (found,) = task.results(output, frames)
    half = 1.0101 * 16, 1.0219 * 16
    scale = 200 / 64
    expected = [0.0, 0.0, (16 + half[0]) * scale, (16 + half[1] - 16) * scale]
    assert found.boxes[0].tolist() == pytest.approx(expected, abs=1e-3)
    assert found.scores.sum() == pytest.approx(1, abs=1e-3)  # objectness times the shares of its classes


@pytest.mark.parametrize(
    "override, message",
    [
        ("imgsz=100", "imgsz=100: yolov2 needs a multiple of 32 pixels, such as 128"),
        ("train_imgsz=65", "train_imgsz=65: yolov2 needs a multiple of 32 pixels, such as 96"),
        ("tasks.yolov2.head.anchors=[]", r"head.anchors=\[\]: expected \[width, height\]"),
        ("tasks.yolov2.head.anchors=[[1,2,3]]", r"head.anchors=\[\[1, 2, 3\]\]: expected \[width, height\]"),
        ("tasks.yolov2.head.anchors=[[1,-2]]", "above 0"),
        ("tasks.yolov2.head.anchors=[1,2]", r"expected \[width, height\]"),
        ("tasks.yolov2.head.passthrough_channels=0", "passthrough_channels=0: expected 1 or more, or null"),
        ("tasks.yolov2.head.channels=0", "channels=0: expected 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(override, message):
    with pytest.raises(ConfigError, match=message):
        made(override)


def test_a_backbone_without_the_finer_map_is_refused():
    settings = {"num_classes": 3, "anchors": [[1.0, 1.0]], "passthrough_channels": 64, "channels": 32, "width": 1.0}
    with pytest.raises(ConfigError, match="c4"):
        YOLOv2Head(features={"final": FeatureSpec(32, 32)}, **settings)
    with pytest.raises(ConfigError, match="30 channels"):
        features = {"c4": FeatureSpec(30, 16), "final": FeatureSpec(32, 32)}
        YOLOv2Head(features=features, **settings | {"passthrough_channels": None})
