"""What runs are compared in: a kind of task on one data set. SSD and SSDLite are two answers to one subject."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mnv2_tasks.errors import DataError
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.metrics.bootstrap import (
    Interval,
    Resampled,
    draw_images,
    mean_of,
    percentile_interval,
    resample,
    standard_deviation,
)
from mnv2_tasks.studies.compare.finished_run import FinishedRun, TaskScore
from mnv2_tasks.studies.compare.groups import Group
from mnv2_tasks.studies.compare.samples import SampleRow


@dataclass
class Entry:
    """A group's result in one subject."""

    group: Group
    task_scores: list[TaskScore]  # a run each
    score: float  # mean over the runs
    std: float  # standard deviation over the runs; NaN of one
    resampled: Resampled | None = None
    interval: Interval | None = None
    difference: float | None = None  # to the first entry
    difference_interval: Interval | None = None  # paired: both on the same resamples

    @property
    def task(self) -> str:
        return self.task_scores[0].task


@dataclass
class Subject:
    kind: str
    class_names: list[str]
    entries: list[Entry]
    num_images: int | None  # None: no run kept what each image came to
    sample_rows: list[SampleRow] | None = None  # None: its images cannot be read
    legend: list[tuple[str, str]] = field(default_factory=list)  # class, its colour as CSS has it

    @property
    def reference(self) -> Entry:
        """What the other entries are compared with."""
        return self.entries[0]

    @property
    def heading(self) -> str:
        choices = self.reference.group.first.config.choices
        data = (choices.get("datasets") or {}).get(self.reference.task, choices.data)
        images = f", {self.num_images:,} validation images" if self.num_images else ""
        return f"{self.kind.capitalize()} on {data}: {KINDS[self.kind].SCORE_TITLE}{images}"


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """Every run must share a subject with the others, directly or through a run of several tasks.

    Raises:
        DataError: runs of different tasks, or of different data.
    """
    connected, rest = runs[0].subjects, list(runs[1:])
    while joining := [run for run in rest if connected & run.subjects]:
        connected = connected.union(*(run.subjects for run in joining))
        rest = [run for run in rest if run not in joining]
    if not rest:
        return
    one, other = runs[0], rest[0]
    shared = [(a, b) for a in one.tasks.values() for b in other.tasks.values() if a.kind == b.kind]
    if shared:
        a, b = shared[0]
        raise DataError(
            f"{one.name} and {other.name} are of different data, although both do {a.kind}: "
            f"{one.config.choices.data} (fingerprint {a.fingerprint[:12]}) and {other.config.choices.data} "
            f"({b.fingerprint[:12]}). A score says nothing about one of other images; compare runs of one data set"
        )
    raise DataError(
        f"{one.name} and {other.name} are of different tasks: {', '.join(one.tasks)} and {', '.join(other.tasks)}. "
        f"Their scores measure different things; compare runs of one task"
    )


def build_subjects(groups: Sequence[Group]) -> list[Subject]:
    """In the order of the first runs that have them; the first group that has one is what the others are held against.

    Raises:
        DataError: runs were validated on different images.
    """
    keys = dict.fromkeys(s.subject for group in groups for run in group.runs for s in run.tasks.values())
    return [_subject(key, groups) for key in keys]


def _subject(key: tuple[str, str], groups: Sequence[Group]) -> Subject:
    entries = []
    for group in groups:
        scored = [one for run in group.runs if (one := _score_in(run, key))]
        if scored:
            scores = [one.score for one in scored]
            entries.append(Entry(group, scored, float(np.mean(scores)), standard_deviation(scores)))
    every = [one for entry in entries for one in entry.task_scores]
    first = every[0]
    for other in every:
        if other.class_names != first.class_names:
            raise DataError(f"{first.run} and {other.run} know different classes of the same data")
    image_ids = _common_images(every)
    subject = Subject(first.kind, first.class_names, entries, None if image_ids is None else len(image_ids))
    _resample(subject)
    return subject


def _score_in(run: FinishedRun, key: tuple[str, str]) -> TaskScore | None:
    own = [one for one in run.tasks.values() if one.subject == key]
    if len(own) > 1:
        tasks = ", ".join(one.task for one in own)
        raise DataError(f"{run.name}: has two tasks of one kind on one data set, {tasks}")
    return own[0] if own else None


def _common_images(scored: Sequence[TaskScore]) -> np.ndarray | None:
    """Ids of the images that all were validated on; None if none kept what its images came to."""
    known = [(one, one.outcomes.image_ids) for one in scored if one.outcomes is not None]
    for other, b in known:
        first, a = known[0]
        if not np.array_equal(a, b):
            raise DataError(
                f"{first.run} and {other.run} were validated on different images: {len(a)} and {len(b)}, "
                f"{len(np.intersect1d(a, b))} of them the same. Validate both alike: python tools/eval.py run=<run>"
            )
    return known[0][1] if known else None


def _resample(subject: Subject) -> None:
    """Fill in the intervals of the entries all of whose runs kept what each image came to."""
    if subject.num_images:
        draws = draw_images(subject.num_images)
        for entry in subject.entries:
            outcomes = [s.outcomes for s in entry.task_scores if s.outcomes is not None]
            if len(outcomes) == len(entry.task_scores):
                entry.resampled = mean_of([resample(of_run, draws) for of_run in outcomes])
                entry.interval = percentile_interval(entry.resampled.scores)
    first = subject.reference
    for entry in subject.entries[1:]:
        entry.difference = entry.score - first.score
        if entry.resampled and first.resampled:
            entry.difference_interval = percentile_interval(entry.resampled.scores - first.resampled.scores)


@dataclass(frozen=True)
class ClassDifference:
    name: str
    difference: float  # to the first entry
    interval: Interval | None


def class_differences(subject: Subject, entry: Entry) -> list[ClassDifference]:
    """Of the classes that both have a score for, the greatest win first."""
    mine, theirs = _class_scores(entry), _class_scores(subject.reference)
    resampled = None
    if entry.resampled and subject.reference.resampled:
        resampled = entry.resampled.class_scores - subject.reference.resampled.class_scores  # (S, K)
    found = [
        ClassDifference(
            name, mine[name] - theirs[name], None if resampled is None else percentile_interval(resampled[:, k])
        )
        for k, name in enumerate(subject.class_names)
        if name in mine and name in theirs
    ]
    return sorted(found, key=lambda c: -c.difference)


def _class_scores(entry: Entry) -> dict[str, float]:
    """Mean over the runs, of the classes that all of them have a score for."""
    scores = [one.class_scores for one in entry.task_scores]
    return {name: float(np.mean([s[name] for s in scores])) for name in scores[0] if all(name in s for s in scores)}
