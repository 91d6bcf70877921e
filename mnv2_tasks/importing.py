"""A class or function that a configuration names by its path: ours, or the user's own."""

from pkgutil import resolve_name
from typing import Any

from mnv2_tasks.errors import ConfigError


def imported(path: str, key: str) -> Any:
    """What lies at `path`, such as own.heads.TwoLayerHead.

    Args:
        key: that has the path, for the message.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key}={path}: cannot be imported ({error}). Python must find its module: install it, or name the folder "
            f"that it lies in by the environment variable PYTHONPATH"
        ) from error
