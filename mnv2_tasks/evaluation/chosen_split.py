"""`split=`: another split of the data than that which validates."""

import inspect

from omegaconf import DictConfig, open_dict

from mnv2_tasks.build import data_config, data_name, target_of
from mnv2_tasks.errors import ConfigError


def evaluate_on(config: DictConfig, split: str) -> None:
    """Let this split validate, in the data of every task.

    Raises:
        ConfigError: data have no other splits.
    """
    for task in config.tasks:
        data = data_config(config, task)
        if "val" not in inspect.signature(target_of(data.source)).parameters:
            raise ConfigError(f"split={split}: data={data_name(config, task)} has but one split to evaluate on")
        with open_dict(data):  # a run of before may have no such key
            data.val = data.source.val = split
