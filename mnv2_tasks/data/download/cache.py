"""Where this project keeps what can be computed or downloaded again."""

import os
from pathlib import Path

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.whole_files import remove_parts


def cache_folder() -> Path:
    return Path(os.environ.get("MNV2_CACHE", Path.home() / ".cache" / "mnv2_tasks"))


def make_cache(folder: Path) -> None:
    """Make a folder in the cache, and clear it of what killed processes had begun.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be made ({error.strerror}); MNV2_CACHE=<folder> is another place"
        ) from None
