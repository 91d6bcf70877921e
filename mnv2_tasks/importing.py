"""A class or function that a configuration names by its path: ours, or the user's own."""

from contextlib import suppress
from importlib import import_module
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
            f"{key}={path}: cannot be imported ({_reason(path, error)}). Python must find its module: install it, or "
            f"name the folder that it lies in by the environment variable PYTHONPATH"
        ) from error


def _reason(path: str, error: Exception) -> Exception:
    """That of the module itself: where it imports what is not there, `resolve_name` says that there is no such name."""
    with suppress(ValueError):
        try:
            import_module(path.rpartition(".")[0])
        except ImportError as inner:
            if not path.startswith(inner.name or ""):
                return inner
    return error
