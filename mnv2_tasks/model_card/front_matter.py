"""What Hugging Face's hub reads of a model card: https://huggingface.co/docs/hub/model-cards#model-card-metadata."""

import math
from typing import Any

import yaml

from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.model_card.facts import RunFacts

PIPELINES = {  # the hub's name of each kind of task; of others it has none
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
}
METRICS = {"classification": "accuracy", "detection": "map", "segmentation": "mean_iou"}  # its names of their scores
DATA_SETS = {"imagenet": "imagenet-1k", "coco": "coco", "voc": "pascal_voc"}  # and of public data


def front_matter(facts: RunFacts, license: str | None) -> str:
    """YAML, without the lines of dashes around it."""
    pipelines = [PIPELINES[kind] for kind in facts.kinds.values() if kind in PIPELINES]
    data = [DATA_SETS[name] for name in map(facts.data, facts.kinds) if name in DATA_SETS]
    content = {
        "library_name": "mnv2_tasks",
        "license": license,
        "pipeline_tag": next(iter(pipelines), None),  # the hub takes one
        "tags": _each(["mnv2_tasks", facts.config["choices"]["backbone"], *facts.kinds, *pipelines]),
        "datasets": _each(data),
        "metrics": _each([METRICS[kind] for kind in facts.kinds.values() if kind in METRICS]),
        "model-index": [{"name": facts.title, "results": results}] if (results := _results(facts)) else None,
    }
    given = {key: value for key, value in content.items() if value}
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=math.inf).strip()


def _results(facts: RunFacts) -> list[dict[str, Any]]:
    found = []
    for task, kind in facts.kinds.items():
        score, name = facts.score(task), facts.data(task)
        if isinstance(score, int | float):
            found.append(
                {
                    "task": {"type": PIPELINES.get(kind, kind), "name": task},
                    "dataset": {"type": DATA_SETS.get(name, name), "name": name, "split": "validation"},
                    "metrics": [{"type": METRICS.get(kind, kind), "name": KINDS[kind].SCORE_TITLE, "value": score}],
                }
            )
    return found


def _each(names: list[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(names))
