"""The paper's numbers that need no data, ours beside them: sizes, multiply-adds, memory; scores in print are quoted."""

from mnv2_tasks.scorecard.paper_number import PaperNumber
from mnv2_tasks.scorecard.table_3 import table_3
from mnv2_tasks.scorecard.table_4 import figure_5, slim, table_4
from mnv2_tasks.scorecard.table_7 import table_7
from mnv2_tasks.scorecard.tables_5_6 import mobilenet_v3_paper, table_5, table_6


def rows() -> list[PaperNumber]:
    """Every comparison, in the order of the paper; about half a minute on one core."""
    parts = (table_3, table_4, figure_5, table_5, table_6, mobilenet_v3_paper, table_7, slim)
    return [row for part in parts for row in part()]
