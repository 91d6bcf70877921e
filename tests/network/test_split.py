"""The inner tensors of bottlenecks in shares: the same results, and the memory that section 5.1 of the paper counts."""

import copy

import pytest
import torch
from torch import nn

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.fold import fold_batch_norms
from mnv2_tasks.network.split import SplitBottleneck, split_bottlenecks
from mnv2_tasks.network.split_plan import bytes_of, check_split, split_plan
from mnv2_tasks.prediction.predictor import for_prediction

NETWORKS = {
    "three heads, the expansion of block 13 read": ["task=multitask"],
    "SSD, padded as TF does": ["task=ssd", "backbone.padding=same"],
    "YOLOv2's head": ["task=yolov2"],
    "dilated to output stride 16": ["task=mobile_deeplabv3", "output_stride=16"],
    "dilated to output stride 8": ["task=deeplabv3", "output_stride=8"],
    "ReLU6 in the bottleneck": ["task=classification", "backbone.projection_activation=relu6"],
    "no shortcuts": ["task=classification", "backbone.shortcut=none"],
}


def network_of(*words):
    """With batch norms as of training: nothing about them is 0 or 1."""
    torch.manual_seed(0)
    config = compose("train", ["imgsz=64", "width=0.35", "weights=none", *words])
    network = build_network(config, {task: [f"class {i}" for i in range(5)] for task in config.tasks}).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in ((norm.running_mean, -0.2, 0.2), (norm.bias.data, 0, 0.5)):
                tensor.uniform_(low, high)
            norm.running_var.uniform_(0.5, 1.5)
            norm.weight.data.uniform_(0.8, 1.4)
    return network


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return network_of(*NETWORKS[request.param])


@pytest.fixture(scope="module")
def classifier():
    return network_of("task=classification")


def images():
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def tensors(outputs):
    """What the heads return, without grids."""
    for output in outputs.values():
        yield from [output] if isinstance(output, torch.Tensor) else [x for x in output if isinstance(x, torch.Tensor)]


def largest_difference(one, other):
    with torch.inference_mode():
        pairs = list(zip(tensors(one(images())), tensors(other(images())), strict=True))
    assert all(x.isfinite().all() and x.std() > 1e-4 for x, _ in pairs)
    return max((x - y).abs().max().item() for x, y in pairs)


@pytest.mark.parametrize("shares", [2, 5])
def test_a_network_in_shares_gives_the_same_results(network, shares):
    split = split_bottlenecks(network, split_plan(network, shares, None, size=64, value_bytes=4).shares)
    assert sum(isinstance(module, SplitBottleneck) for module in split.modules()) == 17
    assert largest_difference(network, for_prediction(split)) < 1e-5


def test_the_network_itself_stays_whole(classifier):
    before = copy.deepcopy(classifier.state_dict())
    split_bottlenecks(classifier, {"backbone.blocks.1": 2})
    assert not any(isinstance(module, SplitBottleneck) for module in classifier.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())


def test_splitting_multiplies_nothing_twice(classifier):
    split = split_bottlenecks(classifier, split_plan(classifier, 5, None, size=64, value_bytes=4).shares)
    whole = fold_batch_norms(classifier)
    assert model_cost(split, 64)[:2] == model_cost(whole, 64)[:2]


def test_no_more_than_a_share_of_the_channels_is_there_at_once(classifier):
    split = split_bottlenecks(classifier, {"backbone.blocks.1": 7})
    widths = []
    for conv in split.backbone.blocks[1].modules():
        if isinstance(conv, nn.Conv2d) and conv.groups > 1:
            widths.append(conv.out_channels)
    assert sum(widths) == classifier.backbone.blocks[1].hidden and max(widths) - min(widths) == 1


def test_the_expansion_that_a_detector_reads_is_computed_once_and_whole():
    split = split_bottlenecks(network_of("task=ssdlite"), {"backbone.blocks.13": 3})
    block = split.backbone.blocks[13]
    assert block.expand[0].out_channels == block.hidden
    assert not any(name.endswith("expand.0") for name, _ in block.project.named_modules())


# ---------------------------------------------------------------- how many shares


def counted(network, shares):
    """Kilobytes of 16 bits, at 224 pixels."""
    told = split_plan(network, shares, None, size=224, value_bytes=2).told
    return int(told.split("take ")[1].split(" kB")[0].replace(",", ""))


def test_memory_of_the_papers_network_is_what_its_equation_gives():
    network = network_of("task=classification", "width=1.0")
    assert [counted(network, shares) for shares in (2, 3, 4, 5)] == [2057, 1555, 1405, 1380]


def test_each_bottleneck_has_the_fewest_shares_that_fit():
    network = network_of("task=classification", "width=1.0")
    plan = split_plan(network, "auto", "1500k", size=224, value_bytes=2)
    assert plan.shares == {"backbone.blocks.0": 3, "backbone.blocks.1": 4, "backbone.blocks.2": 2}
    assert "blocks.0 in 3, blocks.1 in 4, blocks.2 in 2;" in plan.told
    assert "take 1,480 kB, whole 3,562 kB, at least 1,229 kB" in plan.told


@pytest.mark.parametrize("value_bytes", [1, 2, 4])
def test_the_least_memory_of_a_network_suffices_and_a_byte_less_does_not(classifier, value_bytes):
    with pytest.raises(ConfigError) as refused:
        split_plan(classifier, "auto", 1, size=64, value_bytes=value_bytes)
    least = 1000 * int(str(refused.value).split(" kB")[0].split()[-1].replace(",", ""))
    assert split_plan(classifier, "auto", least, size=64, value_bytes=value_bytes).shares


def test_enough_memory_leaves_the_network_whole(classifier):
    plan = split_plan(classifier, "auto", "1G", size=64, value_bytes=4)
    assert not plan.shares and "nothing" in plan.told


def test_memory_below_the_least_names_the_layer_that_needs_it(classifier):
    with pytest.raises(ConfigError, match=r"=1k: backbone\.stem\.0 alone takes 58 kB .*64 x 64 pixels in 16 bits, wh"):
        split_plan(classifier, "auto", "1k", size=64, value_bytes=2)
    with pytest.raises(ConfigError, match=r"=1k: backbone\.blocks\.0 alone takes 1,230 kB .* channels one by one"):
        split_plan(network_of("task=classification", "width=1.0"), "auto", "1k", size=224, value_bytes=2)


def test_more_shares_than_channels_name_the_block(classifier):
    with pytest.raises(ConfigError, match=r"split=40: backbone\.blocks\.0 has 16 channels to share out.*split=16 or"):
        split_plan(classifier, 40, None, size=64, value_bytes=4)


def test_what_has_no_inverted_residuals_cannot_be_split():
    network = network_of("task=classification", "backbone=mobilenet_v1")
    with pytest.raises(ConfigError, match=r"split=2: MobileNetV1 has no bottlenecks"):
        split_plan(network, 2, None, size=64, value_bytes=4)


def test_shortcuts_between_expansions_cannot_be_split():
    network = network_of("task=classification", "backbone.shortcut=expansion")
    with pytest.raises(ConfigError, match="shortcut=expansion reads whole expansions"):
        split_plan(network, 2, None, size=64, value_bytes=4)


@pytest.mark.parametrize(
    "memory, size",
    [("1500k", 1_500_000), ("1.5 MB", 1_500_000), ("1.5m", 1_500_000), ("512KiB", 2**19), ("1Mi", 2**20), (4000, 4000)],
)
def test_memory_is_told_in_bytes_and_their_multiples(memory, size):
    assert bytes_of(memory) == size


@pytest.mark.parametrize("memory", ["much", "-1k", "1.5.2M", "k", "1e6", "", 0, True, "9" * 40])
def test_memory_that_is_no_size_is_an_error(memory):
    with pytest.raises(ConfigError, match="expected bytes, such as 1500k"):
        check_split("auto", memory)


@pytest.mark.parametrize(
    "split, memory, message",
    [
        (0, None, "split=0: expected a number of shares"),
        ("all", None, "split=all: expected a number of shares"),
        ("2", None, r'split="2" \(text\): expected a number of shares, such as 4, 1 for none, or auto'),
        (2.5, None, "split=2.5: expected a number of shares"),
        (True, None, "split=True: expected a number of shares"),
        ("auto", None, "split=auto: say what the activations may take"),
        (4, "1M", "memory=1M: is for split=auto, not split=4"),
    ],
)
def test_what_cannot_be_asked_is_an_error(split, memory, message):
    with pytest.raises(ConfigError, match=message):
        check_split(split, memory)


@pytest.mark.parametrize("value", ["Auto", "two", "2.5"])
def test_a_command_that_says_no_number_is_told_of_auto(value):
    with pytest.raises(ConfigError, match=f"split={value}: expected a whole number, such as 1, or auto"):
        compose("predict", [f"split={value}"])
