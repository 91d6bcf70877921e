"""The tables of a model card."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mnv2_tasks.drawing.table import Table
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.metrics.bootstrap import Interval, draw_images, percentile_interval, resample
from mnv2_tasks.metrics.names import prefix_of
from mnv2_tasks.model_card.facts import RunFacts
from mnv2_tasks.model_card.places import without_places

CLASSES_SHOWN = 100  # of more, metrics.json has the scores


class Intervals(NamedTuple):
    """Of 95 %; nothing where it is not known what each image came to."""

    score: Interval | None
    of_classes: dict[str, Interval | None]


def intervals_of(facts: RunFacts, task: str) -> Intervals:
    outcomes = facts.outcomes.get(task)
    if outcomes is None or not len(outcomes.image_ids):
        return Intervals(None, {})
    drawn = resample(outcomes, draw_images(len(outcomes.image_ids)))
    of_classes = zip(facts.class_names(task), drawn.class_scores.T)
    return Intervals(percentile_interval(drawn.scores), {name: percentile_interval(one) for name, one in of_classes})


def data_table(facts: RunFacts) -> Table:
    table = Table("", ["task", "data", "training images", "validation images", "fingerprint"], text_columns=2)
    for task in facts.kinds:
        images, fingerprint = facts.images(task), facts.description["data_fingerprint"].get(task, "")
        table.rows.append([task, facts.data(task), images.get("train"), images.get("val"), fingerprint[:16]])
    return table


def score_table(facts: RunFacts, intervals: Mapping[str, Intervals]) -> Table:
    rows = [
        [task, KINDS[kind].SCORE_TITLE, _number(facts.score(task)), _words(intervals[task].score)]
        for task, kind in facts.kinds.items()
    ]
    return Table("", ["task", "metric", "score", "95 % interval"], rows, text_columns=2)


def class_table(facts: RunFacts, task: str, intervals: Intervals) -> Table:
    """Without rows where there are too many."""
    kind = KINDS[facts.kinds[task]]
    scores = facts.of_task(task, kind.CLASS_SCORES) or {}
    shown = scores if len(scores) <= CLASSES_SHOWN else {}
    rows = [[name, _number(score), _words(intervals.of_classes.get(name))] for name, score in shown.items()]
    return Table("", [f"{task}: class", kind.CLASS_SCORE_TITLE, "95 % interval"], rows)


def other_scores(facts: RunFacts) -> Table:
    """All else that metrics.json has of whole tasks."""
    shown = {prefix_of(task, facts.kinds) + KINDS[kind].SCORE for task, kind in facts.kinds.items()}
    rows = [[key, _number(of)] for key, of in facts.metrics.items() if isinstance(of, float) and key not in shown]
    return Table("", ["metric", "value"], rows)


def recipe_table(facts: RunFacts) -> Table:
    """The settings that matter, under the words of the command line."""
    config = facts.config
    optim, shape = config["optim"], config["schedule"]["shape"]
    teacher = (config.get("distillation") or {}).get("teacher")
    rows = {
        "epochs": config.get("epochs"),
        "batch": config.get("batch"),
        "imgsz": config["imgsz"],
        "train_imgsz": config.get("train_imgsz"),
        "width": config.get("width"),
        "output_stride": config["output_stride"],
        "optimizer": _part(optim["optimizer"]),
        "lr": config.get("lr"),
        "optim.weight_decay": optim.get("weight_decay"),
        "schedule": _part(shape),
        "schedule.warmup": config["schedule"].get("warmup"),
        "ema": config.get("ema"),
        "augmentation": ", ".join(dict.fromkeys(_augmentation(facts, task) for task in facts.kinds)),
        **{key: _said(config.get(key)) for key in ("mixing", "class_weights", "repeat_threshold")},
        "distillation.teacher": teacher and without_places(str(teacher), str(teacher)),
        "freeze": ", ".join(config.get("freeze") or ()),
        "qat": config.get("qat") or None,
        "seed": config.get("seed"),
        "initial weights": facts.started_from(),
    }
    shown = [[key, without_places(str(value))] for key, value in rows.items() if value not in (None, "")]
    return Table("", ["setting", "value"], shown, text_columns=2)


def _said(group: Mapping[str, Any] | None) -> str:
    """What of a group is not off."""
    return " ".join(f"{key}={value}" for key, value in (group or {}).items() if value)


def _part(settings: Mapping[str, Any]) -> str:
    """Such as "SGD momentum=0.9"; the rate and the number of epochs have rows of their own."""
    kept = [f"{key}={value}" for key, value in settings.items() if key not in ("_target_", "lr", "fused", "epochs")]
    return " ".join([str(settings["_target_"]).rpartition(".")[2], *kept])


def _augmentation(facts: RunFacts, task: str) -> str:
    data = facts.config["data"]
    return str(data.get(task, data)["augmentation"].get(facts.kinds[task], "none"))


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def _words(interval: Interval | None) -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""
