"""What runs are compared in: a kind of task on one data set. SSD and SSDLite are two answers to one subject."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnv2_tasks.errors import DataError
from mnv2_tasks.studies.compare.bootstrap import Interval, Resampled, draw_images, interval, mean_of, resample, spread
from mnv2_tasks.studies.compare.groups import Group
from mnv2_tasks.studies.compare.run import CLASSES, Run, Scored


@dataclass
class Entry:
    """A group's result in one subject."""

    group: Group
    scored: list[Scored]  # a run each
    score: float  # mean over the runs
    spread: float  # standard deviation over the runs; NaN of one
    resampled: Resampled | None = None
    interval: Interval | None = None
    difference: float | None = None  # to the first entry
    difference_interval: Interval | None = None  # paired: both on the same resamples


@dataclass
class Subject:
    kind: str
    class_names: list[str]
    entries: list[Entry]
    num_images: int | None  # None: no run kept what each image came to

    @property
    def reference(self) -> Entry:
        return self.entries[0]


def check_comparable(runs: Sequence[Run]) -> None:
    """Every run must share a subject with the others, directly or through a run of several tasks.

    Raises:
        DataError: runs of different tasks, or of different data.
    """
    connected, rest = {_key(s) for s in runs[0].tasks.values()}, list(runs[1:])
    while joining := [run for run in rest if connected & {_key(s) for s in run.tasks.values()}]:
        connected |= {_key(s) for run in joining for s in run.tasks.values()}
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
    keys = dict.fromkeys(_key(s) for group in groups for run in group.runs for s in run.tasks.values())
    return [_subject(key, groups) for key in keys]


def _key(scored: Scored) -> tuple[str, str]:
    return scored.kind, scored.fingerprint


def _subject(key: tuple[str, str], groups: Sequence[Group]) -> Subject:
    entries, names = [], {}
    for group in groups:
        scored = []
        for run in group.runs:
            own = [s for s in run.tasks.values() if _key(s) == key]
            if len(own) > 1:
                tasks = ", ".join(s.task for s in own)
                raise DataError(f"{run.name}: has two tasks of one kind on one data set, {tasks}")
            scored += own
            names |= {id(s): run.name for s in own}
        if scored:
            scores = [s.score for s in scored]
            entries.append(Entry(group, scored, float(np.mean(scores)), spread(scores)))
    every = [s for entry in entries for s in entry.scored]
    for s in every:
        if s.class_names != every[0].class_names:
            raise DataError(f"{names[id(every[0])]} and {names[id(s)]} know different classes of the same data")
    kept = [s for s in every if s.outcomes is not None]
    for s in kept:
        if not np.array_equal(s.outcomes.image_ids, kept[0].outcomes.image_ids):
            a, b = kept[0].outcomes.image_ids, s.outcomes.image_ids
            raise DataError(
                f"{names[id(kept[0])]} and {names[id(s)]} were validated on different images: {len(a)} and {len(b)}, "
                f"{len(np.intersect1d(a, b))} of them the same. Validate both alike: python tools/eval.py run=<run>"
            )
    subject = Subject(key[0], every[0].class_names, entries, len(kept[0].outcomes.image_ids) if kept else None)
    _resample(subject)
    return subject


def _resample(subject: Subject) -> None:
    """Fill in the intervals of the entries all of whose runs kept what each image came to."""
    if subject.num_images:
        draws = draw_images(subject.num_images)
        for entry in subject.entries:
            if all(s.outcomes is not None for s in entry.scored):
                entry.resampled = mean_of([resample(s.outcomes, draws) for s in entry.scored])
                entry.interval = interval(entry.resampled.scores)
    first = subject.reference
    for entry in subject.entries[1:]:
        entry.difference = entry.score - first.score
        if entry.resampled and first.resampled:
            entry.difference_interval = interval(entry.resampled.scores - first.resampled.scores)


@dataclass(frozen=True)
class ClassDifference:
    name: str
    difference: float  # to the first entry
    interval: Interval | None


def class_differences(subject: Subject, entry: Entry) -> list[ClassDifference]:
    """Of the classes that both have a score for, the greatest win first."""
    mine, theirs = _class_scores(entry), _class_scores(subject.reference)
    found = []
    for k, name in enumerate(subject.class_names):
        if name in mine and name in theirs:
            between = None
            if entry.resampled and subject.reference.resampled:
                between = interval(entry.resampled.class_scores[:, k] - subject.reference.resampled.class_scores[:, k])
            found.append(ClassDifference(name, mine[name] - theirs[name], between))
    return sorted(found, key=lambda c: -c.difference)


def _class_scores(entry: Entry) -> dict[str, float]:
    """Mean over the runs."""
    columns = [s.numbers[CLASSES[s.kind]] for s in entry.scored]
    return {name: float(np.mean([c[name] for c in columns])) for name in columns[0] if all(name in c for c in columns)}
