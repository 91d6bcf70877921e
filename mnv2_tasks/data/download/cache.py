"""Where this project keeps what can be computed or downloaded again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    return Path(os.environ.get("MNV2_CACHE", Path.home() / ".cache" / "mnv2_tasks"))
