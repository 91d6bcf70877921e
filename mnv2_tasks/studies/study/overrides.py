"""The command line of a study: what is the study's own, and what is passed on to each of its runs."""

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from mnv2_tasks.config.compose import launch
from mnv2_tasks.studies.study.axes import AXES, OWN


def from_command_line(arguments: Sequence[str]) -> None:
    """Run the study that the arguments name; exits with 1 unless every run of it is done."""
    own, passed, narrowed = sort_arguments(arguments)

    def run(config: DictConfig) -> None:
        from mnv2_tasks.studies.study.study import run_study  # after the command line was found to be right

        if not run_study(config, passed, narrowed=narrowed):
            sys.exit(1)  # so that a script can rely on it

    launch("study", run, own)


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
