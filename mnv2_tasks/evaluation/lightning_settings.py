"""What Lightning says of the settings in `trainer`, as an error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from mnv2_tasks.errors import ConfigError


@contextmanager
def checked_by_lightning() -> Iterator[None]:
    """Within, a trainer or a Fabric is made of `trainer`'s settings.

    Raises:
        ConfigError: Lightning refuses them.
    """
    try:
        yield
    except ModuleNotFoundError as error:  # of a machine that is not served here
        raise ConfigError(f"trainer.accelerator: expected auto, cpu, gpu or mps ({error})") from error
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: Lightning refuses its settings ({error})") from error
