"""All that a comparison found, before anything is written."""

from dataclasses import dataclass, field
from typing import Any

from mnv2_tasks.studies.compare.groups import Group
from mnv2_tasks.studies.compare.measure import Built
from mnv2_tasks.studies.compare.run import PRIMARY
from mnv2_tasks.studies.compare.samples import Row
from mnv2_tasks.studies.compare.subjects import Entry, Subject, class_differences

METRICS = {"classification": "top-1", "detection": "AP@[.5:.95]", "segmentation": "mIoU"}
CLASS_METRICS = {"classification": "top-1", "detection": "AP", "segmentation": "IoU"}


@dataclass
class Pictures:
    rows: list[Row]
    legend: list[tuple[str, str]]  # class, its colour as CSS has it


@dataclass
class OnePass:
    """A network of several tasks against those that do one of them each."""

    together: int  # index of its group
    alone: list[int]  # indices of the groups
    together_ms: float  # p50 of one pass
    alone_ms: float  # sum of the p50s
    together_params: int
    alone_params: int


@dataclass
class Comparison:
    title: str
    groups: list[Group]
    built: list[Built | None]  # of each group
    subjects: list[Subject]
    pictures: list[Pictures | None]  # of each subject
    differing: list[tuple[list[str], list[str]]]  # configuration keys, and their value in each group
    one_pass: list[OnePass]
    device: str
    excluded: dict[str, str]  # {run: why it has no score here}
    notes: list[str] = field(default_factory=list)

    def number(self, entry: Entry) -> int:
        """By which plots and tables call an entry's group."""
        return 1 + next(i for i, group in enumerate(self.groups) if group is entry.group)

    def built_of(self, entry: Entry) -> Built | None:
        return self.built[self.number(entry) - 1]

    def heading(self, subject: Subject) -> str:
        config = subject.reference.group.first.config
        task = subject.reference.scored[0].task
        data = (config.choices.get("datasets") or {}).get(task, config.choices.data)
        images = f", {subject.num_images:,} validation images" if subject.num_images else ""
        return f"{subject.kind.capitalize()} on {data}: {METRICS[subject.kind]}{images}"


def one_passes(groups: list[Group], built: list[Built | None]) -> list[OnePass]:
    """For each group of several tasks, each of which another does alone on the same backbone, if all were timed."""
    found = []
    for i, group in enumerate(groups):
        if len(group.first.tasks) < 2:
            continue
        alone = [_alone(groups, group, task) for task in group.first.tasks]
        parts = [built[k] for k in alone if k is not None]
        if None in alone or built[i] is None or not all(p and p.latency for p in [*parts, built[i]]):
            continue
        found.append(
            OnePass(
                together=i,
                alone=[k for k in alone if k is not None],
                together_ms=built[i].latency.p50,
                alone_ms=sum(p.latency.p50 for p in parts),
                together_params=built[i].cost.params,
                alone_params=sum(p.cost.params for p in parts),
            )
        )
    return found


def _alone(groups: list[Group], together: Group, task: str) -> int | None:
    """Index of the first group that does this task only, on the same backbone."""
    for index, group in enumerate(groups):
        config = group.first.config
        if list(config.tasks) == [task] and config.backbone == together.first.config.backbone:
            return index
    return None


def as_json(comparison: Comparison) -> dict[str, Any]:
    """For programs: fractions, counts, bytes and milliseconds; what is not known is null."""
    return {
        "title": comparison.title,
        "device": comparison.device,
        "excluded": comparison.excluded,
        "notes": comparison.notes,
        "subjects": [_subject_json(comparison, subject) for subject in comparison.subjects],
        "one_pass": [
            {
                "together": comparison.groups[p.together].label,
                "alone": [comparison.groups[k].label for k in p.alone],
                "latency_ms": {"together": p.together_ms, "alone": p.alone_ms},
                "params": {"together": p.together_params, "alone": p.alone_params},
            }
            for p in comparison.one_pass
        ],
        "configuration": [
            {"keys": keys, "values": {str(i): value for i, value in enumerate(values, start=1)}}
            for keys, values in comparison.differing
        ],
    }


def _subject_json(comparison: Comparison, subject: Subject) -> dict[str, Any]:
    rows = []
    for entry in subject.entries:
        built = comparison.built_of(entry)
        rows.append(
            {
                "number": comparison.number(entry),
                "label": entry.group.label,
                "runs": [str(run.folder) for run in entry.group.runs],
                "task": entry.scored[0].task,
                "seeds": [run.seed for run in entry.group.runs],
                "seeds_missing": entry.group.missing,
                "scores": [s.score for s in entry.scored],
                "score": entry.score,
                "std": entry.spread if len(entry.scored) > 1 else None,
                "interval": entry.interval,
                "difference": entry.difference,
                "difference_interval": entry.difference_interval,
                **({} if built is None else built.cost._asdict()),
                "latency_ms": vars(built.latency) if built and built.latency else None,
                "class_differences": {c.name: c.difference for c in class_differences(subject, entry)}
                if entry is not subject.reference
                else None,
            }
        )
    return {
        "heading": comparison.heading(subject),
        "kind": subject.kind,
        "metric": PRIMARY[subject.kind],
        "images": subject.num_images,
        "entries": rows,
    }
