"""Batch norms of a shared backbone, one set for each task.

Each task trains on images of its own, so its activations have their own mean and variance; norms that share running
statistics keep a mixture of them, which is that of no task. With a set for each, statistics, scale and shift are the
task's own and the convolutions alone are shared (Bilen and Vedaldi 2017, arXiv:1701.07275; Chang et al. 2019,
arXiv:1906.03950). The price: prediction needs a pass through the backbone for each task.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # of a batch norm


class ActiveTask:
    """Whose norms count in the next pass. All of a backbone's share one of these."""

    name: str | None = None


class TaskNorms(nn.ModuleDict):
    """{task: its batch norm}, at first copies of the shared one; in a state dict under `<where it stood>.<task>`."""

    def __init__(self, norm: nn.Module, tasks: Iterable[str], active: ActiveTask):
        super().__init__({task: deepcopy(norm) for task in tasks})
        self.active = active

    def forward(self, features: Tensor) -> Tensor:
        if self.active.name not in self:
            raise ValueError(f"task={self.active.name}: this backbone has batch norms for {', '.join(self)}")
        return self[self.active.name](features)


def give_each_task_norms(backbone: nn.Module, tasks: Iterable[str]) -> ActiveTask:
    """Put `TaskNorms` in the place of every batch norm; what is returned says which of them count."""
    tasks, active = list(tasks), ActiveTask()
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, TaskNorms(child, tasks, active))
    return active


def batch_norms(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def with_norms_for(tasks: Iterable[str], state: Mapping[str, Tensor], theirs: Iterable[str]) -> dict[str, Tensor]:
    """`state` of a network with shared norms, or with norms for the tasks `theirs`, as one with norms for `tasks`.

    A task that `state` has no norms for begins with the shared ones, else with those of the first of `theirs`.
    """
    theirs = list(theirs)
    places = {name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")}
    found = dict(state)
    for place in places:
        parent, _, task = place.rpartition(".")
        if not place.startswith("backbone.") or (task in theirs and task != theirs[0]):
            continue
        shared = parent if task in theirs else place
        for leaf in LEAVES:
            for new in tasks:
                if f"{place}.{leaf}" in state:
                    found.setdefault(f"{shared}.{new}.{leaf}", state[f"{place}.{leaf}"])
    return found
