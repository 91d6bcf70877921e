"""Parts of the user's own in the place of ours: `<part>._target_=<path>`."""

import inspect
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from mnv2_tasks.importing import imported


def leave_out_of_own(config: DictConfig, overrides: list[str]) -> None:
    """Take from `config` what conf/ says of a part for which the overrides name another class that does not take it.

    Raises:
        ConfigError: the class cannot be imported.
    """
    said = {override.key_or_group: override for override in OverridesParser.create().parse_overrides(overrides)}
    for key, override in said.items():
        place, _, last = key.rpartition(".")
        part = OmegaConf.select(config, place) if last == "_target_" and not override.is_delete() else None
        if part is None:
            continue
        own = imported(str(override.value()), key)
        with open_dict(config):
            for name in [str(name) for name in part]:
                if name != "_target_" and f"{place}.{name}" not in said and not _takes(own, name):
                    del part[name]


def _takes(part: Any, name: str) -> bool:
    from torch import nn  # which --help can do without

    if getattr(part, "__init__", None) is nn.Module.__init__:  # lets any argument in, and then refuses all
        return False
    parameters = inspect.signature(part).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
