"""SSD300 and SSD512 on VGG-16 are those of their paper: maps, default boxes, weights, learning."""

import math

import pytest
import torch
from overfit import overfit
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import ssd300_vgg16

from mnv2_tasks.boxes.anchors import ssd_anchors
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError

NAMES = {"coco": [str(i) for i in range(80)], "voc": [str(i) for i in range(20)]}
RATIOS_300 = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
RATIOS_512 = [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]]
STEPS_300 = [8, 16, 32, 64, 100, 300]
RECIPES = {  # recipe -> maps, and pixels: ratios, sizes, steps, all of caffe's prototxt files
    "ssd_coco_300": ((38, 19, 10, 5, 3, 1), RATIOS_300, (21, 45, 99, 153, 207, 261, 315), STEPS_300),
    "ssd_voc_300": ((38, 19, 10, 5, 3, 1), RATIOS_300, (30, 60, 111, 162, 213, 264, 315), STEPS_300),
    "ssd_coco_512": (
        (64, 32, 16, 8, 4, 2, 1),
        RATIOS_512,
        (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
        [8, 16, 32, 64, 128, 256, 512],
    ),
}


def config_of(recipe, *more):
    return compose("train", ["task=ssd", f"data={recipe.split('_')[1]}", f"recipe={recipe}", "weights=none", *more])


def detector(recipe, *more):
    config = config_of(recipe, *more)
    with torch.device("meta"):
        return build_network(config, {"ssd": NAMES[config.choices.data]}).eval(), config.imgsz


def outputs(network, side):
    return network(torch.zeros(1, 3, side, side, device="meta"))["ssd"]


@pytest.mark.parametrize("recipe, count", [("ssd_coco_300", 8732), ("ssd_coco_512", 24564), ("ssd_voc_300", 8732)])
def test_every_default_box_of_the_paper_has_its_logits_and_offsets(recipe, count):
    found = outputs(*detector(recipe))
    classes = len(NAMES[recipe.split("_")[1]])
    assert found.class_logits.shape == (1, count, classes + 1) and found.box_deltas.shape == (1, count, 4)
    assert found.anchors.shape == (count, 4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_default_boxes_are_to_the_pixel_those_of_torchvisions_generator(recipe):
    maps, ratios, sizes, steps = RECIPES[recipe]
    network, side = detector(recipe)
    generator = DefaultBoxGenerator(ratios, scales=[size / side for size in sizes], steps=steps, clip=False)
    images = ImageList(torch.zeros(1, 3, side, side), [(side, side)])
    [theirs] = generator(images, [torch.zeros(1, 1, cells, cells) for cells in maps])
    head = network.tasks["ssd"].head
    ours = ssd_anchors([(cells, cells) for cells in maps], head.anchor_shapes, head.anchor_cells) * side
    first = 0
    for cells, of_map in zip(maps, ratios):  # within a cell theirs come in another order
        last = first + cells**2 * (2 + 2 * len(of_map))
        for box, other in zip(_sorted(ours[first:last], cells), _sorted(theirs[first:last], cells)):
            assert (box - other).abs().max() < 1e-3
        first = last
    assert first == len(ours) == len(theirs)


def _sorted(boxes, cells):
    """(cells^2, a, 4), those of a cell by width, then height."""
    of_cells = boxes.view(cells**2, -1, 4)
    sizes = (of_cells[0, :, 2:] - of_cells[0, :, :2]).round(decimals=2).tolist()
    return of_cells[:, sorted(range(len(sizes)), key=sizes.__getitem__)]


def test_ssd300_computes_what_torchvisions_computes():
    """Its extra maps and predictors; tests/backbones holds the first two maps."""
    torch.manual_seed(0)
    network = build_network(config_of("ssd_coco_300"), {"ssd": NAMES["coco"][:3]}).eval()
    ours, theirs = network.tasks["ssd"].head, ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).eval()
    maps = [torch.randn(1, 512, 38, 38), torch.randn(1, 1024, 19, 19)]
    with torch.no_grad():
        for mine, other in zip(ours.extras, list(theirs.backbone.extra)[1:], strict=True):  # the first is fc6 and fc7
            for own, its in zip((mine[0][0], mine[1][0]), (other[0], other[2])):
                its.weight.copy_(own.weight), its.bias.copy_(own.bias)
        for mine, other in zip(ours.class_predictors, theirs.head.classification_head.module_list, strict=True):
            other.weight.copy_(mine.weight), other.bias.copy_(mine.bias)
        for layer in list(theirs.backbone.extra)[1:]:
            maps.append(layer(maps[-1]))
        logits = theirs.head.classification_head(maps)
        found = ours({"c4_expand": maps[0], "final": maps[1]})
    assert [x.shape[-1] for x in maps] == [38, 19, 10, 5, 3, 1]
    assert torch.allclose(found.class_logits, logits, atol=1e-5)


def test_new_convolutions_begin_as_caffes_xavier():
    network = build_network(config_of("ssd_coco_300"), {"ssd": NAMES["coco"]})
    convolutions = [m for m in network.tasks["ssd"].head.modules() if isinstance(m, torch.nn.Conv2d)]
    for conv in convolutions:
        bound = math.sqrt(3 / conv.weight[0].numel())
        assert 0.98 * bound < conv.weight.abs().max() <= bound and not conv.bias.any()


def test_an_input_of_another_size_than_the_anchors_is_refused_with_the_right_one():
    network, _ = detector("ssd_coco_300")
    with pytest.raises(ConfigError, match=r"are of an input of 300 px, this one has about 320: say imgsz=300"):
        outputs(network, 320)


@pytest.mark.parametrize(
    "change, message",
    [
        ("lite=true", "SSDLite has batch norm; say head.lite=false"),
        ("with_norm=true", "say head.with_norm=false too"),
        ("extra_windows=[[3,2,1]]", r"expected \[kernel, stride, padding\] of each of 4 extra maps"),
        ("anchor_scales=[0.1,0.2]", "expected 6, one for each map; maps are"),
        ("anchor_ratios=[[1.0,2.0]]", "expected numbers, or 6 lists of them"),
        ("anchor_cells=[37.5]", "expected 6, one for each map"),
        ("anchor_last_scale=0.0", "expected numbers above 0"),
    ],
)
def test_a_head_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        detector("ssd_coco_300", f"tasks.ssd.head.{change}")


SMALL = [  # for 64 px: of the extra maps the first two, which halve
    "imgsz=64",
    "width=1.0",
    "tasks.ssd.head.extra_channels=[512,256]",
    "tasks.ssd.head.extra_windows=null",
    "tasks.ssd.head.anchor_scales=[0.1,0.2,0.4,0.7]",
    "tasks.ssd.head.anchor_ratios=[1.0,2.0,0.5]",
    "tasks.ssd.head.anchor_cells=null",
]


@pytest.mark.slow
def test_ssd_on_vgg_learns_four_scenes_by_heart():
    score = overfit("ssd", "recipe=ssd_coco_300", "optim=adamw", *SMALL, steps=100, lr=2e-4)["ssd"]["AP"]
    assert score >= 0.75, f"AP {score:.3f} on its own training images"
