import pytest

from mnv2_tasks.paper.frontier import _best_at, draw_frontier
from mnv2_tasks.scorecard.figure_5 import PublishedScore, plot_figure_5
from mnv2_tasks.scorecard.paper_number import PaperNumber


def test_a_score_between_two_costs_is_read_from_the_best_networks():
    points = [PublishedScore("T", "", madds, score) for madds, score in [(100, 60), (400, 70), (200, 50)]]
    assert [_best_at(points, madds) for madds in (100, 200, 400)] == pytest.approx([60, 65, 70])


def test_widths_of_each_network_are_curves_of_their_own(tmp_path):
    card = [
        PaperNumber(table, f"{width}_{side}", quantity, printed, ours)
        for table in ("TF slim", "TF slim, V1")
        for width, madds in ((0.5, 1e8), (1.0, 3e8))
        for side in (128, 224)
        for quantity, printed, ours in (("MAdds", "100M", madds), ("top-1, %", "70.0", None))
    ]
    card += [PaperNumber("Table 6", "a detector", *row) for row in (("MAdds", "1B", 1e9), ("AP, test-dev, %", "22.1"))]
    plot_figure_5(card, tmp_path / "figure_5.png")
    assert (tmp_path / "figure_5.png").stat().st_size > 20_000


@pytest.mark.slow  # counts 50 networks
def test_mobilenet_v2_is_ahead_of_every_other_network_at_equal_cost(tmp_path):
    figure = draw_frontier()
    leads = figure.claims[0].ours.partition(": ")[2]
    assert leads.startswith("MobileNetV1 +4.3, ShuffleNet (1.5) +0.2, ShuffleNet (x2) +0.8, NasNet-A +0.9, ")
    assert leads.endswith("MobileNetV1's 16 widths and sizes +3.4 to +9.4")
