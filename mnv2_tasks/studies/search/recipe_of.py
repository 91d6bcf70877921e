"""Overrides of a run as a recipe: a file of conf/recipe/, and what the command line says beside it."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.config.words import GROUPS, files_of, is_path
from mnv2_tasks.studies.study.run_state import HARMLESS

OF_THE_CALL = {*HARMLESS, "task", "data", "weights", "recipe", "seed", "logger"}  # said beside a recipe, never in it


class Recipe(NamedTuple):
    name: str  # of the file
    text: str
    beside: list[str]  # overrides that a run of it needs


def recipe_of(overrides: Sequence[str], config: DictConfig, ending: str, comments: Sequence[str]) -> Recipe:
    """
    Args:
        overrides: of tools/train.py; `task=` among them.
        config: composed of them.
        ending: of its name, behind <task>_<data>_.
        comments: lines that head it.
    """
    start = f"{config.choices.task}_{config.choices.data}"
    given = {override.partition("=")[0]: override.partition("=")[2] for override in overrides}
    beside, groups, content = [], {}, {}
    for key, word in given.items():
        if key in OF_THE_CALL or is_path(key) or key.startswith("~"):
            beside += [f"{key}={word}"] if key != "recipe" else []
        elif key in GROUPS:
            groups[key] = word
        else:
            *path, last = key.lstrip("+").split(".")
            place = content
            for part in path:
                place = place.setdefault(part, {})
            place[last] = _plain(OmegaConf.select(config, key.lstrip("+")))
    below = given.get("recipe", start)
    defaults = {"defaults": [below, "_self_"]} if below in files_of("recipe") else {}
    body = yaml.safe_dump({**defaults, **({"groups": groups} if groups else {}), **content}, sort_keys=False)
    name = re.sub(r"[^\w.-]", "_", f"{start}_{ending}")
    lines = ["# @package _global_", *(f"# {line}" for line in comments), "", body.rstrip(), ""]
    return Recipe(name, "\n".join(lines), [*beside, f"recipe={name}"])


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
