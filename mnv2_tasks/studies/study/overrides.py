"""The command line of a study: what is the study's own, and what is passed on to each of its runs."""

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from mnv2_tasks.config.compose import launch
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.studies.study.axes import AXES, OWN


def from_command_line(arguments: Sequence[str]) -> None:
    """Run the study that the arguments name; exits with 1 unless every run of it is done."""
    own, passed, narrowed = sort_arguments(arguments)

    def run(config: DictConfig) -> None:
        from mnv2_tasks.studies.study.study import run_study  # after the command line was found to be right

        check_once(own)
        if not run_study(config, passed, narrowed=narrowed):
            sys.exit(1)  # so that a script can rely on it

    launch("study", run, own)


def check_once(own: Sequence[str]) -> None:
    """Raise ConfigError for a key of the tool that is given twice, of which Hydra takes the last."""
    keys = [argument.partition("=")[0] for argument in own]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ConfigError(f"{twice}=: is said {keys.count(twice)} times. Say it once")


def sort_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Those for the study, those for every run, and whether an axis but the seeds was given."""
    own, passed, narrowed = [], [], False
    for argument in arguments:
        key = argument.partition("=")[0]
        first = key.partition(".")[0]
        if key in AXES:
            own.append(f"study.{argument}")
            narrowed |= key != "seeds"
        else:
            (own if first in OWN or key.startswith("-") else passed).append(argument)
    return own, passed, narrowed
