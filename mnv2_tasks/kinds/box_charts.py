"""The charts of a detector's boxes."""

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.figure import Figure

from mnv2_tasks.drawing.charts import class_lines, paired_bars, reliability
from mnv2_tasks.drawing.confusion import plot_confusion
from mnv2_tasks.metrics.box_diagnosis import SCORES, BoxDiagnosis, mean_of_classes
from mnv2_tasks.metrics.outcomes import RECALLS

ERRORS = {  # TIDE's kinds
    "Cls": "right place, wrong class", "Loc": "right class, wrong place", "Both": "wrong class and place",
    "Dupe": "found once more", "Bkg": "nothing is there", "Miss": "not found",
    "FP": "all false alarms", "FN": "all objects not found",
}  # fmt: skip


def box_charts(found: BoxDiagnosis, class_names: Sequence[str], note: str) -> dict[str, Callable[[], Figure]]:
    """{name: draws it}

    Args:
        note: ends each title.
    """
    precision, f1, best = mean_of_classes(found.precision), mean_of_classes(found.f1), found.best_score
    ap50 = [f"{name} {score:.3f}" for name, score in zip(class_names, found.precision.mean(axis=0))]
    errors = {f"{words} ({kind})": (found.lost[kind], found.errors.get(kind)) for kind, words in ERRORS.items()}
    return {
        "confusion": partial(
            plot_confusion, found.confusion, [*class_names, "background"], "boxes",
            note=f"boxes that score {best:.2f} or more, at IoU 0.5{note}",
        ),
        "precision_recall": partial(
            class_lines, RECALLS, found.precision, precision, ap50,
            title=f"precision and recall at IoU 0.5; area below a line: AP50, the mean's {precision.mean():.3f}{note}",
            xlabel="recall (fraction of the objects that are found)",
            ylabel="precision (fraction of the boxes that are right)",
        ),
        "f1": partial(
            class_lines, SCORES, found.f1, f1, class_names,
            title=f"F1 of the boxes that score so much, at IoU 0.5; the mean is {f1.max():.3f} at {best:.2f}{note}",
            xlabel="least score of the boxes", ylabel="F1 (fraction)",
        ),
        "errors": partial(
            paired_bars, errors, left="AP50 that it costs (fraction)", right="how many, whatever their score",
            title=f"kinds of errors, by TIDE: what AP50 would gain without them{note}",
        ),
        "calibration": partial(
            reliability, found.calibration["bins"], found.calibration["ece"], what="boxes",
            score="score of a box", right="share of the boxes that are right at IoU 0.5",
        ),
    }  # fmt: skip
