"""Figure 5: MobileNetV2's widths and sizes beside MobileNetV1, ShuffleNet and NasNet-A, by the scorecard's counts."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from mnv2_tasks.paper.figure import Claim, DrawnFigure
from mnv2_tasks.scorecard.figure_5 import PublishedScore, plot_figure_5, points_of
from mnv2_tasks.scorecard.table_4 import mobilenet_v1_readme, slim_readme, table_4
from mnv2_tasks.scorecard.tables_5_6 import mobilenet_v3_paper, table_6

OURS = "TF slim"


def draw_frontier() -> DrawnFigure:
    card = [*table_4(), *table_6(), *mobilenet_v3_paper(), *mobilenet_v1_readme(), *slim_readme()]
    points = points_of(card, "top-1")
    ours = [point for point in points if point.table == OURS]
    others = [point for point in points if point.table != OURS and not point.name.startswith("MobileNetV2")]
    leads = {point.name: _best_at(ours, point.madds) - point.score for point in others}
    rivals = [name for name in leads if not name[0].isdigit()]  # the rest are MobileNetV1's widths and sizes
    old = [lead for name, lead in leads.items() if name not in rivals]
    claims = [
        Claim(
            "MobileNetV2 is above MobileNetV1, ShuffleNet and NASNet at every cost (figure 5; scores in print, costs "
            "as we count them)",
            "points of top-1 that MobileNetV2 is ahead at equal multiply-adds, read between its own: "
            + ", ".join(f"{name} {leads[name]:+.1f}" for name in rivals)
            + f", MobileNetV1's {len(old)} widths and sizes {min(old):+.1f} to {max(old):+.1f}",
        )
    ]
    return DrawnFigure("Scores in print against multiply-adds", partial(plot_figure_5, card), claims)


def _best_at(points: Sequence[PublishedScore], madds: float) -> float:
    """The score of the best of these networks at a cost, between two of them by the logarithm of it."""
    frontier: list[PublishedScore] = []
    for point in sorted(points, key=lambda point: point.madds):
        if not frontier or point.score > frontier[-1].score:
            frontier.append(point)
    costs, scores = [np.log(point.madds) for point in frontier], [point.score for point in frontier]
    return float(np.interp(np.log(madds), costs, scores))
