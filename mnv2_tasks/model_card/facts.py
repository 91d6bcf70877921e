"""What a model card is made of, as a run leaves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.metrics.names import prefix_of
from mnv2_tasks.metrics.outcomes import Outcomes
from mnv2_tasks.model_card.places import without_places
from mnv2_tasks.network.cost import Cost


@dataclass(frozen=True)
class RunFacts:
    config: Mapping[str, Any]  # of config.yaml, plain data
    description: Mapping[str, Any]  # of run.json
    metrics: Mapping[str, Any]  # of metrics.json
    outcomes: Mapping[str, Outcomes]  # of per_image.npz; a task that it lacks has no intervals
    kinds: Mapping[str, str]  # of each task
    cost: Cost  # of one image at imgsz

    @property
    def title(self) -> str:
        return f"{self.config['choices']['backbone']}: {', '.join(self.kinds)}"

    def class_names(self, task: str) -> list[str]:
        return list(self.description["class_names"][task])

    def data(self, task: str) -> str:
        """The name of its data set in conf/data."""
        choices = self.config["choices"]
        return (choices.get("datasets") or {}).get(task, choices["data"])

    def score(self, task: str) -> float | None:
        """Of its primary metric; None where it could not be told."""
        return self.of_task(task, KINDS[self.kinds[task]].SCORE)

    def of_task(self, task: str, key: str) -> Any:
        """What metrics.json has of a task."""
        return self.metrics.get(prefix_of(task, self.kinds) + key)

    def images(self, task: str) -> dict[str, int]:
        """{split: its images}; runs of before 0.2 kept no number of training images."""
        known = dict(self.description.get("data_sizes", {}).get(task, {}))
        return known | ({"val": len(self.outcomes[task].image_ids)} if task in self.outcomes else {})

    def started_from(self) -> str:
        """What the run said of its initial weights, but for their place."""
        said, end, _ = self.description.get("started_from", "").partition("than it could.")  # why: of this machine
        return without_places(said + end, str(self.config.get("weights", "")))
