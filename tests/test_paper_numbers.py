"""The paper's numbers that need no data, exactly; and the scorecard that shows them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mnv2_tasks.backbones.mobilenet_v1 import MobileNetV1
from mnv2_tasks.cost import model_cost
from mnv2_tasks.scorecard import (
    classifier,
    detector,
    head_cost,
    multi_scale_sides,
    prints_as,
    segmenter,
)

DIFFERENT = {  # (row, quantity) where the paper's figure is not reproduced; each line of the card says why
    ("MobileNetV2, 56x56", "channels"),
    ("MobileNetV2, 28x28", "channels"),
    ("MobileNetV2, 14x14", "channels"),
    ("MobileNetV1", "MAdds"),
    ("MobileNetV2", "params"),
    ("MobileNetV2 (1.4)", "params"),
    ("MobileNetV2 (1.4)", "params without batch norm"),
    ("MobileNetV2 (1.4)", "MAdds"),
    ("smallest, width 0.35 at 96", "MAdds"),
    ("SSDLite", "MAdds"),
    ("MobileNetV2, no ASPP", "MAdds, OS 16"),
    ("MobileNetV2, no ASPP", "MAdds, OS 8, six scales x flip"),
    ("MobileNetV2, ASPP", "MAdds, OS 16"),
    ("MobileNetV2, ASPP", "MAdds, OS 8, six scales x flip"),
}


@pytest.mark.parametrize(
    "network, size, params, madds",
    [
        (classifier(), 224, 3_504_872, 300_774_272),  # table 4: 3.4 M, 300 M
        (classifier(width=1.4), 224, 6_108_776, 582_195_824),  # slim: 6.06 M without batch norm, 582 M
        (classifier(backbone=MobileNetV1), 224, 4_231_976, 568_740_352),  # table 4: 4.2 M, 575 M
        (detector(), 320, 4_337_013, 788_830_144),  # table 6: 4.3 M, 0.8 B
        (detector(backbone=MobileNetV1), 320, 5_100_661, 1_309_162_944),  # table 6: 5.1 M, 1.3 B
        (segmenter(output_stride=16), 513, 2_113_557, 2_740_709_056),  # table 7: 2.11 M, 2.75 B
        (segmenter(output_stride=16, atrous_rates=(6, 12, 18)), 513, 4_523_541, 5_363_508_928),  # 4.52 M, 5.8 B
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


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorecard")
    tool = Path(__file__).parents[1] / "tools" / "scorecard.py"
    subprocess.run([sys.executable, tool], cwd=folder, check=True, capture_output=True, timeout=120)
    return json.loads((folder / "runs" / "scorecard" / "scorecard.json").read_text())


def test_scorecard_file_holds_rows_with_the_documented_keys(card):
    assert len(card) == 86
    for row in card:
        assert list(row) == ["table", "row", "quantity", "paper", "ours", "agrees", "note"]
        assert isinstance(row["agrees"], bool)
        assert all(isinstance(row[key], int | float) for key in ("paper", "ours"))
        assert all(isinstance(row[key], str) for key in ("table", "row", "quantity", "note"))


def test_scorecard_agrees_everywhere_but_in_the_known_places(card):
    assert {(row["row"], row["quantity"]) for row in card if not row["agrees"]} == DIFFERENT


def test_scorecard_explains_every_difference(card):
    assert all(row["note"] for row in card if not row["agrees"])


def test_all_22_cells_of_tf_slims_table_agree(card):
    slim = [row for row in card if row["table"] == "TF slim"]
    assert len(slim) == 2 * 22
    assert all(row["agrees"] for row in slim)


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
    ],
)
def test_scorecard_shows_the_papers_figure_beside_ours(card, row, quantity, paper, ours):
    (found,) = [r for r in card if (r["row"], r["quantity"]) == (row, quantity)]
    assert (found["paper"], found["ours"]) == (paper, ours)
