"""All that a comparison found, before anything is written."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.studies.compare.groups import Group, differing_keys, flatten
from mnv2_tasks.studies.compare.subjects import Entry, Subject, class_differences


@dataclass
class OnePass:
    """A network of several tasks against those that do one of them each; all have been timed."""

    together: Group
    alone: list[Group]
    latency_ms: dict[str, float]  # p50 of one pass "together", and the sum of the others' p50s "alone"
    params: dict[str, int]  # likewise


def _first_and_sum(values: Sequence[Any]) -> dict[str, Any]:
    return {"together": values[0], "alone": sum(values[1:])}


@dataclass
class Comparison:
    title: str
    groups: list[Group]
    subjects: list[Subject]
    device: str
    exported: str | None  # format of the files that were timed
    excluded: dict[str, str]  # {run: why it has no score here}
    notes: list[str]

    @cached_property
    def differing(self) -> list[tuple[list[str], list[str]]]:
        """Configuration keys, and their value in each group."""
        return differing_keys([flatten(group.first.config) for group in self.groups])

    @cached_property
    def one_pass(self) -> list[OnePass]:
        """For each group of several tasks, each of which another does alone on the same backbone, if all were timed."""
        found = []
        for group in self.groups:
            groups = [group, *(self._alone(group, task) for task in group.first.tasks)]
            timed = [
                (one, one.network.latency.p50, one.network.cost.params)
                for one in groups
                if one and one.network and one.network.latency
            ]
            if len(timed) == len(groups) > 2:
                (_, *alone), latencies, params = zip(*timed)
                found.append(OnePass(group, alone, _first_and_sum(latencies), _first_and_sum(params)))
        return found

    def _alone(self, together: Group, task: str) -> Group | None:
        for group in self.groups:
            config = group.first.config
            if list(config.tasks) == [task] and config.backbone == together.first.config.backbone:
                return group
        return None

    def as_json(self) -> dict[str, Any]:
        """For programs: fractions, counts, bytes and milliseconds; what is not known is null."""
        return {
            "title": self.title,
            "device": self.device,
            "exported": self.exported,
            "excluded": self.excluded,
            "notes": self.notes,
            "subjects": [
                {
                    "heading": subject.heading,
                    "kind": subject.kind,
                    "metric": KINDS[subject.kind].SCORE,
                    "images": subject.num_images,
                    "entries": [_entry_json(subject, entry) for entry in subject.entries],
                }
                for subject in self.subjects
            ],
            "one_pass": [
                {
                    "together": one.together.label,
                    "alone": [group.label for group in one.alone],
                    "latency_ms": one.latency_ms,
                    "params": one.params,
                }
                for one in self.one_pass
            ],
            "configuration": [
                {"keys": keys, "values": {str(group.number): value for group, value in zip(self.groups, values)}}
                for keys, values in self.differing
            ],
        }


def _entry_json(subject: Subject, entry: Entry) -> dict[str, Any]:
    network, classes = entry.group.network, None
    if entry is not subject.reference:
        classes = {found.name: found.difference for found in class_differences(subject, entry)}
    return {
        "number": entry.group.number,
        "label": entry.group.label,
        "runs": [str(run.folder) for run in entry.group.runs],
        "task": entry.task,
        "seeds": entry.group.seeds,
        "seeds_missing": entry.group.missing,
        "scores": [one.score for one in entry.task_scores],
        "score": entry.score,
        "std": entry.std if len(entry.task_scores) > 1 else None,
        "interval": entry.interval,
        "difference": entry.difference,
        "difference_interval": entry.difference_interval,
        **(network.cost._asdict() if network else {}),
        "latency_ms": asdict(network.latency) if network and network.latency else None,
        "exported_latency_ms": asdict(network.exported_latency) if network and network.exported_latency else None,
        "class_differences": classes,
    }
