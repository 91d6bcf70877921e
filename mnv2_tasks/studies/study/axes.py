"""What a study varies, and the keys that are its own."""

from typing import NamedTuple

# keys of the tool beside the axes; and its keys with search=
OWN = ("study", "runs", "ablations", "jobs", "dry", "retrain", "exported", "cluster", "debug")
OWN_OF_SEARCH = ("search", "trials", "prune", "runs", "jobs", "dry", "cluster", "debug")


class Axis(NamedTuple):
    key: str  # of tools/train.py
    in_name: str  # how a run's name shows a value


AXES = {
    "tasks": Axis("task", "{}"),
    "backbones": Axis("backbone", "{}"),
    "widths": Axis("width", "w{:g}"),
    "sizes": Axis("imgsz", "{}px"),
    "seeds": Axis("seed", "seed{}"),
}
