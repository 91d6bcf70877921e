"""The paper's numbers that need no data, exactly; and the scorecard that shows them."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.detection import ssd300_vgg16

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.backbones.resnet_beta import ResNetBeta
from mnv2_tasks.backbones.shufflenet_v1 import ShuffleNetV1
from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.scorecard.counting import head_cost, multi_scale_sides, padded_madds, plain_madds
from mnv2_tasks.scorecard.figure_5 import points_of
from mnv2_tasks.scorecard.networks import classifier, detector, segmenter, vgg_detector, vgg_ssd
from mnv2_tasks.scorecard.paper_number import PaperNumber, prints_as
from mnv2_tasks.scorecard.table_3 import table_3
from mnv2_tasks.scorecard.table_7 import OS_8, OS_16, PADS
from mnv2_tasks.scorecard.writing import to_json, to_markdown

DIFFERENT = {  # (row, quantity) where the print is not reproduced; each line of the card says why
    ("MobileNetV1, 7x7", "memory, bytes"),
    ("MobileNetV1", "peak activation in 16 bits, bytes"),
    *((f"MobileNetV2, {side}x{side}", what) for side in (56, 28, 14) for what in ("channels", "memory, bytes")),
    ("MobileNetV2, 7x7", "memory, bytes"),
    ("MobileNetV2", "peak activation in 16 bits, bytes"),
    *((name, "memory by equation 2, bytes") for name in ("MobileNetV1", "MobileNetV2", "ShuffleNet (2x, g=3)")),
    *(
        ("MobileNetV2", f"memory by equation 2, {shares}, bytes")
        for shares in ("2 shares", "3 shares", "4 shares", "5 shares", "channels one by one")
    ),
    *(
        (f"ShuffleNet (2x, g=3), {side}x{side}", what)
        for side in (112, 28, 14, 7)
        for what in ("channels", "memory, bytes")
    ),
    ("ShuffleNet (2x, g=3), 1x1", "channels"),
    ("ShuffleNet (2x, g=3)", "largest map, bytes"),
    ("ShuffleNet (2x, g=3)", "peak activation in 16 bits, bytes"),
    ("MobileNetV1", "MAdds"),
    ("MobileNetV2", "params"),
    ("MobileNetV2 (1.4)", "params"),
    ("MobileNetV2 (1.4)", "params without batch norm"),
    ("MobileNetV2 (1.4)", "MAdds"),
    ("smallest, width 0.35 at 96", "MAdds"),
    ("SSDLite", "MAdds"),
    ("MobileNetV2 + SSDLite", "params without batch norm"),
    *(
        (f"SSD{side}", what)
        for side in (300, 512)
        for what in ("MAdds", "params, as its own paper has it", "MAdds, as its own paper has it, padded")
    ),
    ("YOLOv2", "params, 2016, 80 classes"),
    *(("YOLOv2", f"{what}, 2017, 80 classes") for what in ("params", "MAdds")),
    *((f"{name}, ASPP", what) for name in ("MobileNetV1", "MobileNetV2", "ResNet-101") for what in (OS_16, OS_8)),
    ("MobileNetV2, no ASPP", OS_16),
    ("MobileNetV2, no ASPP", OS_8),
    ("MobileNetV1, ASPP", f"{OS_16}, {PADS}"),
    ("MobileNetV1, ASPP", f"{OS_8}, {PADS}"),
    ("MobileNetV1, ASPP", f"{OS_8}, {PADS}, rates 12, 18, 24"),
    ("ResNet-101, ASPP", f"{OS_16}, {PADS}"),
    ("ResNet-101, ASPP", f"{OS_8}, {PADS}"),
    ("MobileNetV1, ASPP over MobileNetV2", f"operations, OS 16, over MobileNetV2's, {PADS}"),
}
KEYS = [
    *("table", "row", "quantity", "paper", "ours", "agrees", "note"),
    *("status", "printed", "peak_activation_bytes"),
]
ASPP = (6, 12, 18)


@pytest.mark.parametrize(
    "network, size, params, madds",
    [
        (classifier(), 224, 3_504_872, 300_774_272),  # table 4: 3.4 M, 300 M
        (classifier(width=1.4), 224, 6_108_776, 582_195_824),  # slim: 6.06 M without batch norm, 582 M
        (classifier(backbone=MobileNetV1), 224, 4_231_976, 568_740_352),  # table 4: 4.2 M, 575 M
        (detector(), 320, 4_337_013, 788_830_144),  # table 6: 4.3 M, 0.8 B
        (detector(backbone=MobileNetV1), 320, 5_100_661, 1_309_162_944),  # table 6: 5.1 M, 1.3 B
        (segmenter(output_stride=16), 513, 2_113_557, 2_740_709_056),  # table 7: 2.11 M, 2.75 B
        (segmenter(output_stride=16, atrous_rates=ASPP), 513, 4_523_541, 5_363_508_928),  # 4.52 M, 5.8 B
        (classifier(width=1.5, backbone=ShuffleNetV1), 224, 3_442_168, 292_443_552),  # table 4: 3.4 M, 292 M
        (classifier(width=2.0, backbone=ShuffleNetV1), 224, 5_450_776, 524_045_184),  # 5.4 M, 524 M
        (vgg_detector(), 300, 36_081_791, 34_235_230_208),  # table 6: 36.1 M, 35.2 B
        (vgg_detector(), 512, 36_081_791, 98_239_596_544),  # 36.1 M, 99.5 B
        (vgg_ssd(300), 300, 34_305_206, 34_360_351_232),
        (vgg_ssd(512), 512, 36_038_196, 98_628_936_704),
        (
            segmenter(output_stride=16, atrous_rates=ASPP, backbone=partial(MobileNetV1, width=1.0)),
            513,
            11_145_301,  # table 7: 11.15 M
            12_760_886_976,  # 14.25 B
        ),
        (
            segmenter(output_stride=16, atrous_rates=ASPP, backbone=partial(ResNetBeta, depth=101)),
            513,
            58_164_437,  # 58.16 M
            76_052_470_720,  # 81.0 B
        ),
    ],
)
def test_size_matches_the_paper(network, size, params, madds):
    cost = model_cost(network, size)
    assert (cost.params, cost.madds) == (params, madds)


@pytest.mark.parametrize("lite, params, madds", [(False, 14_776_629, 1_259_068_672), (True, 2_113_141, 177_617_344)])
def test_ssd_heads_cost_what_table_5_says(lite, params, madds):
    cost = head_cost(detector(lite=lite), 320)
    assert (cost.params, cost.madds) == (params, madds)


def test_multi_scale_inputs_stay_a_multiple_of_the_stride_plus_one():
    assert multi_scale_sides(513) == [257, 385, 513, 641, 769, 897]


@pytest.mark.parametrize(
    "printed, ours, same",
    [
        ("300M", 300_774_272, True),  # cut off
        ("2.75B", 2_747_972_245, True),  # rounded
        ("2.75B", 2_740_709_056, False),
        ("4.3M", 4_350_001, True),  # rounds to 4.4, is cut to 4.3
        ("4.3M", 4_249_999, False),
        ("4.3M", 4_400_000, False),
        ("1280", 1280, True),
        ("1280", 1281, False),
    ],
)
def test_a_number_prints_as_its_rounded_or_cut_digits(printed, ours, same):
    assert prints_as(printed, ours) is same


def test_a_row_cannot_be_told_that_it_agrees():
    assert "agrees" not in PaperNumber._fields
    assert PaperNumber("Table 4", "n", "params", "3.4M", 3.45e6).status == "agrees"
    assert PaperNumber("Table 4", "n", "params", "3.4M", 3.6e6, "batch norm").status == "differs: batch norm"
    assert PaperNumber("Table 4", "n", "params", "3.4M").status == "quoted"


def test_ssd300_has_the_parameters_of_torchvisions():
    with torch.device("meta"):
        theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=91)
    assert model_cost(vgg_ssd(300, 90), 300).params == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("side", [300, 512])
def test_the_ssd_that_is_counted_is_the_one_that_its_recipe_trains(side):
    config = compose("train", ["task=ssd", "data=coco", f"recipe=ssd_coco_{side}", "weights=none"])
    with torch.device("meta"):
        trained = build_network(config, {"ssd": [str(i) for i in range(80)]})
    counted = vgg_ssd(side)
    names = {"0": "backbone", "1": "tasks.ssd.head"}
    expected = {f"{names[name[0]]}.{name[2:]}": tensor.shape for name, tensor in counted.state_dict().items()}
    found = {name: tensor.shape for name, tensor in trained.state_dict().items() if name not in ("mean", "std")}
    assert found == expected
    images = torch.empty(1, 3, side, side, device="meta")
    assert trained(images)["ssd"].anchors.shape == counted(images).anchors.shape


def test_equation_2_gives_the_memory_of_each_number_of_shares():
    counted = {row.quantity: row.ours for row in table_3() if row.row == "MobileNetV2" and "equation" in row.quantity}
    assert list(counted.values()) == [3_562_496, 2_057_216, 1_555_456, 1_404_928, 1_379_840, 1_229_312]


def test_counting_convolutions_gives_the_multiply_adds_of_the_whole_network():
    network = segmenter(output_stride=8, atrous_rates=ASPP)
    assert plain_madds(network, 129) == model_cost(network, 129).madds


def test_padding_rounds_a_dilated_map_up_to_its_dilation():
    network = nn.Conv2d(3, 5, 3, padding=6, dilation=6, device="meta")
    assert padded_madds(network, 33) == 36 * 36 * network.weight.numel()
    assert plain_madds(network, 33) == 33 * 33 * network.weight.numel()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorecard")
    tool = Path(__file__).parents[2] / "tools" / "scorecard.py"
    subprocess.run([sys.executable, tool], cwd=folder, check=True, capture_output=True, timeout=400)
    return folder / "runs" / "scorecard"


@pytest.fixture(scope="module")
def card(folder):
    return json.loads((folder / "scorecard.json").read_text())


@pytest.mark.slow
def test_scorecard_file_holds_rows_with_the_documented_keys(card):
    assert len(card) == 244
    for row in card:
        assert list(row) == KEYS
        assert isinstance(row["paper"], float)
        assert all(isinstance(row[key], str) for key in ("table", "row", "quantity", "note", "status", "printed"))


@pytest.mark.slow
def test_every_agreement_on_the_card_is_one_of_printed_digits(card):
    agreeing = [row for row in card if row["agrees"]]
    assert len(agreeing) == 131
    for row in agreeing:
        assert row["status"] == "agrees"
        assert prints_as(row["printed"], row["ours"])


@pytest.mark.slow
def test_quoted_rows_have_no_figure_of_ours(card):
    quoted = [row for row in card if row["status"] == "quoted"]
    assert all(row["ours"] is None and row["agrees"] is None for row in quoted)
    assert all(row["ours"] is not None for row in card if row["status"] != "quoted")


@pytest.mark.slow
def test_figure_5_has_both_systems_with_the_multiply_adds_that_agree(card, folder):
    rows = [PaperNumber(**{field: row[field] for field in PaperNumber._fields}) for row in card]
    classifiers = {point.name: point for point in points_of(rows, "top-1")}
    detectors = {point.name: point for point in points_of(rows, "AP, test-dev")}
    assert (classifiers["NasNet-A"].score, detectors["YOLOv2"].score) == (74.0, 21.6)
    assert detectors["YOLOv2"].madds == 17_500_980_224 and len(classifiers) == 6 + 22
    assert (folder / "figure_5.png").stat().st_size > 20_000


@pytest.mark.slow
def test_every_counted_row_knows_the_peak_memory_of_its_network(card):
    assert all((row["peak_activation_bytes"] is None) == (row["status"] == "quoted") for row in card)


@pytest.mark.slow
def test_the_markdown_file_has_a_line_for_every_row_and_every_reason(card, folder):
    text = (folder / "scorecard.md").read_text()
    body = text[text.index("## Table 3") :]
    lines = [
        line for line in body.splitlines() if line.startswith("| ") and not line.startswith(("| network", "| ---"))
    ]
    assert len(lines) == len(card)
    assert all(row["note"] in text for row in card)
    assert "131 of 191 counted figures agree" in text
    assert "| 22 classifiers | TF slim |  | 22 agree |  | 22 agree |  |" in text


def test_writers_show_agreement_difference_and_quotation():
    rows = [
        PaperNumber("T", "A", "params", "3.4M", 3.45e6, "", 2**20),
        PaperNumber("T", "A", "MAdds", "300M", 330_000_000, "because", 2**20),
        PaperNumber("T", "B", "params", "5.3M"),
    ]
    text = to_markdown(rows)
    assert "| A | T | 3.4M | 3,450,000 | 300M | 330,000,000 (10.0 % above) | 1.0 |" in text
    assert "| A | MAdds | 300M | 330,000,000 | differs (1) | 1.0 |" in text
    assert "\n1. because\n" in text
    assert "| B | params | 5.3M |  | quoted |  |" in text
    assert [row["status"] for row in json.loads(to_json(rows))] == ["agrees", "differs: because", "quoted"]


@pytest.mark.slow
def test_scorecard_agrees_everywhere_but_in_the_known_places(card):
    assert {(row["row"], row["quantity"]) for row in card if row["agrees"] is False} == DIFFERENT


@pytest.mark.slow
def test_scorecard_explains_every_difference(card):
    for row in card:
        if row["agrees"] is False:
            assert row["note"] and row["status"] == f"differs: {row['note']}"


@pytest.mark.slow
def test_all_22_cells_of_tf_slims_table_agree(card):
    slim = [row for row in card if row["table"] == "TF slim" and row["status"] != "quoted"]
    assert len(slim) == 2 * 22
    assert all(row["agrees"] for row in slim)


@pytest.mark.slow
@pytest.mark.parametrize(
    "row, quantity, paper, ours",
    [
        ("MobileNetV2, no ASPP", "MAdds, OS 8, six scales x flip", 152.6e9, 152_334_636_288),
        ("MobileNetV2, no ASPP", "MAdds, OS 8, six scales x flip, as TensorFlow pads", 152.6e9, 152_591_809_020),
        ("MobileNetV2, ASPP", "MAdds, OS 16, as TensorFlow pads", 5.8e9, 5_828_622_997),
        ("MobileNetV2, ASPP", "MAdds, OS 8, six scales x flip, as TensorFlow pads", 387e9, 387_543_874_044),
        ("SSDLite", "FLOPs", 0.35e9, 355_234_688),
        ("MobileNetV2 + SSDLite", "anchors", 2034, 2034),
        ("MobileNetV2 0.5 + SSDLite", "params without batch norm", 1.54e6, 1_536_527),
        ("MobileNetV2 0.35 + SSDLite", "params without batch norm", 0.93e6, 929_531),
        ("MobileNetV2", "largest map, bytes", 400e3, 401_408),
        ("MobileNetV1", "largest map, bytes", 1.6e6, 1_605_632),
        ("ShuffleNet (2x, g=3)", "largest map of two groups, bytes", 600e3, 627_200),
        ("SSD300", "params", 36.1e6, 36_081_791),
        ("SSD300", "MAdds, as TensorFlow pads", 35.2e9, 35_249_727_488),
        ("SSD512", "MAdds, as TensorFlow pads", 99.5e9, 99_523_053_568),
        ("SSD300", "MAdds, as its own paper has it, padded", 35.2e9, 35_374_848_512),
        ("SSD512", "MAdds, as its own paper has it, padded", 99.5e9, 99_912_393_728),
        ("SSD300", "anchors", 8732, 8732),
        ("SSD512", "anchors", 24564, 24564),
        ("MobileNetV1, ASPP", f"{OS_16}, {PADS}", 14.25e9, 14_232_153_813),
        ("MobileNetV1, ASPP", f"{OS_8}, {PADS}", 941.9e9, 990_851_883_516),
        ("ResNet-101, ASPP", "params", 58.16e6, 58_164_437),
        ("ResNet-101, ASPP", f"{OS_16}, {PADS}", 81.0e9, 80_840_290_261),
        ("ResNet-101, ASPP", f"{OS_8}, {PADS}", 4870.6e9, 4_869_006_835_196),
        (
            "MobileNetV2, ASPP on 1280 channels",
            "operations, OS 16, over those on 320",
            2.5,
            13_303_523_008 / 5_363_508_928,
        ),
        ("YOLOv2", "params", 50.7e6, 50_655_389),
        ("YOLOv2", "params, 2017, 80 classes", 50.7e6, 50_962_889),
        ("YOLOv2", "params, 2016, 80 classes", 50.7e6, 67_445_065),
        ("YOLOv2", "MAdds", 17.5e9, 17_500_980_224),
        ("YOLOv2", "MAdds, 2017, 80 classes", 17.5e9, 14_732_084_224),
    ],
)
def test_scorecard_shows_the_papers_figure_beside_ours(card, row, quantity, paper, ours):
    (found,) = [r for r in card if (r["row"], r["quantity"]) == (row, quantity)]
    assert (found["paper"], found["ours"]) == (paper, ours)
