"""The verb `study`: a study of conf/study/, or with `search=` a search of hyper-parameters."""

import re
import sys
from collections.abc import Sequence
from contextlib import suppress

from omegaconf import DictConfig
from yaml import YAMLError

from mnv2_tasks.config.compose import launch
from mnv2_tasks.studies.study import overrides
from mnv2_tasks.studies.study.axes import OWN_OF_SEARCH


def from_command_line(arguments: Sequence[str]) -> None:
    """Run what the arguments name; exits with 1 where not all was done."""
    if not any(argument.startswith("search=") for argument in arguments):
        return overrides.from_command_line(arguments)
    own, passed = sort_for_search(arguments)

    def run(config: DictConfig) -> None:
        from mnv2_tasks.studies.search.search import run_search  # after the command line was found to be right
        from mnv2_tasks.studies.search.space import check_once

        overrides.check_once(own)
        for argument in own:
            if argument.startswith("search={"):
                with suppress(YAMLError):  # Hydra has read it, whose words in braces are YAML's but for rare ones
                    check_once(re.sub(r":(?=\S)", ": ", argument.removeprefix("search=")), "search")
        if not run_search(config, passed):
            sys.exit(1)

    launch("search", run, own)


def sort_for_search(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those for the search, and those for every trial."""
    own, passed = [], []
    for argument in arguments:
        first = re.split("[=.]", argument)[0]
        (own if first in OWN_OF_SEARCH or argument.startswith("-") else passed).append(argument)
    return own, passed
